"""A computation on tensors, recorded once and played back: the same operators on other numbers, without what Python,
autograd and vmap do around them. torch.fx records as much and more, and needs a second to be imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as trees
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCT = torch.ops.aten.bmm.default
ALIGNED = 16  # float32 numbers; a matrix product may round otherwise where a matrix starts elsewhere in a cache line


def aligned(n: int, least: int = ALIGNED) -> int:
    """n, or the next number that keeps what comes behind in place."""
    return -(-n // least) * least


class _Slot:
    """Where a tensor lies while a recording is played."""

    def __init__(self, index: int) -> None:
        self.index = index


class _Call:
    """An operator, its arguments with slots for tensors, the slots of its results."""

    def __init__(self, operator: Any, args: Any, kwargs: Any, results: list[int]) -> None:
        self.operator, self.args, self.kwargs, self.results = operator, list(args), kwargs, results
        self.idle = self.lists = False

    @property
    def takes(self) -> list[int]:
        """The slots of its arguments."""
        return [x.index for x in trees.tree_leaves((self.args, self.kwargs)) if isinstance(x, _Slot)]

    def player(self) -> Callable[[list[Any]], Any]:
        """What computes it from the tensors in their places; quick where the first arguments are all the tensors."""
        operator, args, kwargs = self.operator, self.args, self.kwargs
        first = [x.index for x in args if isinstance(x, _Slot)]
        rest = args[len(first) :]
        if not first or _has_slot((rest, kwargs)):
            return lambda held: operator(*_filled(args, held), **_filled(kwargs, held))
        if len(first) == 1:
            return lambda held, i=first[0]: operator(held[i], *rest, **kwargs)  # type: ignore[misc]
        return lambda held, take=itemgetter(*first): operator(*take(held), *rest, **kwargs)  # type: ignore[misc]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operator below autograd and vmap, and which tensors it takes and gives."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: list[Any] = list(inputs)  # what lay in each slot
        self.alive: list[Any] = list(inputs)  # so that no two tensors have the same id
        self.slots = {id(tensor): _Slot(i) for i, tensor in enumerate(inputs)}
        self.constants: set[int] = set()
        self.calls: list[_Call] = []
        self.pure = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch's compiler would be loaded to be told to stay away

    def slot(self, tensor: Tensor) -> _Slot:
        """Its place; a tensor that comes from nowhere is a constant."""
        if id(tensor) not in self.slots:
            self.constants.add(self._place(tensor))
        return self.slots[id(tensor)]

    def _place(self, tensor: Any) -> int:
        self.alive.append(tensor)
        self.slots[id(tensor)] = _Slot(len(self.made))
        self.made.append(tensor)
        return len(self.made) - 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        taken, named = trees.tree_map_only(Tensor, self.slot, (args, kwargs))
        operator = _in_place(*args) if func is PRODUCT else func
        result = operator(*args, **kwargs)
        writes = func._schema.is_mutable
        self.pure &= not writes
        if isinstance(result, Tensor) and not writes:
            given = [x for x in trees.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            if same := [x for x in given if _same(x, result)]:
                self.slots[id(result)] = self.slots[id(same[0])]
                self.alive.append(result)
                return result
        results = [result] if isinstance(result, Tensor) else list(result)
        call = _Call(operator, taken, named, [self._place(tensor) for tensor in results])
        call.lists = not isinstance(result, Tensor)
        call.idle = func is torch.ops.aten.mul.Scalar and args[1] == 1 and result.dtype == args[0].dtype
        self.calls.append(call)
        return result


class Recording:
    """What a function did, to be done again; `record` makes it. `held` are the constants in their places."""

    def __init__(
        self,
        held: list[Any],
        calls: list[_Call],
        inputs: int,
        outputs: list[int],
        shape: Any,
    ) -> None:
        self._held, self._inputs, self._outputs, self._shape = held, inputs, outputs, shape
        self._calls = []
        needed = set(outputs) | {i for i, x in enumerate(held) if i < inputs or x is not None}
        for call in reversed(calls):
            touched = {*call.takes, *call.results}
            drops = tuple(touched - needed)
            needed |= touched
            single = call.results[0] if len(call.results) == 1 and not call.lists else None
            self._calls.append((call.player(), single, call.results, drops))
        self._calls.reverse()

    @torch.no_grad()
    def __call__(self, inputs: Any) -> Any:
        """The function's result for other numbers."""
        held = self._held[:]
        held[: self._inputs] = _leaves(inputs)
        for play, single, results, drops in self._calls:
            if single is not None:
                held[single] = play(held)
            else:
                for index, tensor in zip(results, play(held), strict=True):
                    held[index] = tensor
            for index in drops:
                held[index] = None
        return trees.tree_unflatten([held[i] for i in self._outputs], self._shape)


def record(function: Callable[[Any], Any], inputs: Any, kept: Sequence[Tensor] = ()) -> tuple[Any, Recording]:
    """The result of `function(inputs)`, tensors in dicts, lists and tuples, and its recording.

    A recording holds for inputs of the same shapes and types, and for a function whose course depends on no tensor's
    value and that draws no random numbers. What else the function uses are constants, except for `kept`, which may hold
    other numbers at another time. What rests on constants alone is computed once.
    """
    tensors = _leaves(inputs)
    with _Recorder(tensors) as recorder:
        moving = {recorder.slot(tensor).index for tensor in kept}
        result = function(inputs)
    leaves, shape = trees.tree_flatten(result)
    slots = [recorder.slot(tensor) for tensor in leaves]
    calls = _shortened(recorder) if recorder.pure else recorder.calls
    held = [x if i in recorder.constants else None for i, x in enumerate(recorder.made)]
    outputs = [slot.index for slot in slots]
    if recorder.pure:
        needed, wanted = set(outputs), []
        for call in reversed(_unsettled(calls, held, moving)):
            if needed & set(call.results):
                needed |= set(call.takes)
                wanted.append(call)
        calls = wanted[::-1]
    return result, Recording(held, calls, len(tensors), outputs, shape)


def _in_place(a: Tensor, b: Tensor) -> Any:
    """What multiplies matrices laid out as those of a (K, p, k) and b (K, k, q) so that the bits of a product do not
    depend on its number among the K: each matrix, the products too, begins where a cache line does. Matrices of other
    sizes are filled up with zeros, as few as do."""
    (_, p, k), q = a.shape, b.shape[2]
    stays_a, stays_b = (x.stride(0) % ALIGNED == 0 for x in (a, b))
    least = None
    for rows, inner, columns in product(*([aligned(n, step) for step in (1, 2, 4, 8, 16)] for n in (p, k, q))):
        copied = [
            0 if (rows, inner) == (p, k) and stays_a else rows * inner,
            0 if (inner, columns) == (k, q) and stays_b else inner * columns,
            rows * columns,
        ]
        if not any(numbers % ALIGNED for numbers in copied) and (least is None or sum(copied) < least[0]):
            least = sum(copied), [bool(copied[0]), bool(copied[1])], (rows, inner, columns)
    assert least is not None  # multiples of 16 always do
    _, copies, (rows, inner, columns) = least
    if not any(copies):
        return PRODUCT
    room = (0, inner - k, 0, rows - p) if copies[0] else None, (0, columns - q, 0, inner - k) if copies[1] else None
    return partial(_product, *room)


def _product(room_a: tuple[int, ...] | None, room_b: tuple[int, ...] | None, a: Tensor, b: Tensor) -> Tensor:
    """a (K, p, k) times b (K, k, q), where one or both are first filled up."""
    wide_a = a if room_a is None else torch.constant_pad_nd(a, room_a)
    wide_b = b if room_b is None else torch.constant_pad_nd(b, room_b)
    return torch.bmm(wide_a, wide_b)[:, : a.shape[1], : b.shape[2]].contiguous()


@torch.no_grad()
def _unsettled(calls: list[_Call], held: list[Any], moving: set[int]) -> list[_Call]:
    """The calls whose results change. Those of the others, and views of what is `moving`, are put into `held`."""
    left = []
    for call in calls:
        takes = call.takes
        moves = moving.intersection(takes)
        if any(held[i] is None for i in takes) or (moves and call.lists):
            left.append(call)
            continue
        result = call.player()(held)
        if moves and not any(_shares(result, held[i]) for i in moves):
            left.append(call)
            continue
        moving.update(call.results if moves else [])
        for i, tensor in zip(call.results, result if call.lists else [result], strict=True):
            held[i] = tensor
    return left


def _shortened(recorder: _Recorder) -> list[_Call]:
    """Without the products with 1 that vmap makes of a bias: their results are their arguments."""
    calls = [call for call in recorder.calls if not call.idle]
    other = {call.results[0]: call.args[0] for call in recorder.calls if call.idle}
    for slot in recorder.slots.values():
        while slot.index in other:
            slot.index = other[slot.index].index
    return calls


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether b is another name for a."""
    return (
        a.data_ptr() == b.data_ptr()
        and _shares(a, b)
        and (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
    )


def _shares(a: Tensor, b: Tensor) -> bool:
    """Whether one is a view of the other's numbers."""
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _leaves(tree: Any) -> list[Tensor]:
    """The tensors of dicts, lists and tuples, in a third of the time that torch's function takes."""
    if isinstance(tree, Tensor):
        return [tree]
    return [x for branch in (tree.values() if isinstance(tree, dict) else tree) for x in _leaves(branch)]


def _has_slot(tree: Any) -> bool:
    return any(isinstance(x, _Slot) for x in trees.tree_leaves(tree))


def _filled(tree: Any, held: list[Any]) -> Any:
    if isinstance(tree, (list, tuple)):
        return [_filled(x, held) for x in tree]
    if isinstance(tree, dict):
        return {name: _filled(x, held) for name, x in tree.items()}
    return held[tree.index] if isinstance(tree, _Slot) else tree
