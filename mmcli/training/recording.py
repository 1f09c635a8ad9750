"""A computation on tensors, recorded once and played back: the same operators on other numbers, without what Python,
autograd and vmap do around them. torch.fx records as much and more, and needs a second to be imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as trees
from torch.utils._python_dispatch import TorchDispatchMode


class _Slot:
    """Where a tensor lies while a recording is played."""

    def __init__(self, index: int) -> None:
        self.index = index


class _Call:
    """An operator, its arguments with slots for tensors, the slots of its results, those that nobody needs after it."""

    def __init__(self, operator: Any, args: Any, kwargs: Any, results: list[int]) -> None:
        self.operator, self.args, self.kwargs, self.results = operator, list(args), kwargs, results
        self.drops: list[int] = []
        self.takes: set[int] = set()
        self.idle = False

    def link(self) -> None:
        """Find the slots, whose indices are final now."""
        self.takes = {x.index for x in trees.tree_leaves((self.args, self.kwargs)) if isinstance(x, _Slot)}
        self._plain = [(i, x.index) for i, x in enumerate(self.args) if isinstance(x, _Slot)]
        self._nested = [i for i, x in enumerate(self.args) if isinstance(x, (list, tuple)) and _has_slot(x)]
        self._named = _has_slot(self.kwargs)

    def play(self, held: list[Any]) -> None:
        """Take the arguments from the slots, put the results into theirs."""
        args, kwargs = self.args[:], self.kwargs
        for i, index in self._plain:
            args[i] = held[index]
        for i in self._nested:
            args[i] = _filled(args[i], held)
        if self._named:
            kwargs = _filled(kwargs, held)
        result = self.operator(*args, **kwargs)
        if isinstance(result, Tensor):
            held[self.results[0]] = result
        else:
            for index, tensor in zip(self.results, result, strict=True):
                held[index] = tensor
        for index in self.drops:
            held[index] = None


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operator below autograd and vmap, and which tensors it takes and gives."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: list[Any] = list(inputs)  # so that no two tensors have the same id
        self.slots = {id(tensor): _Slot(i) for i, tensor in enumerate(inputs)}
        self.held: list[Tensor | None] = [None] * len(inputs)
        self.calls: list[_Call] = []
        self.pure = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch's compiler would be loaded to be told to stay away

    def slot(self, tensor: Tensor) -> _Slot:
        """Its place; a tensor that comes from nowhere is a constant."""
        if id(tensor) not in self.slots:
            self._place(tensor, tensor)
        return self.slots[id(tensor)]

    def _place(self, tensor: Any, held: Tensor | None) -> int:
        self.alive.append(tensor)
        self.slots[id(tensor)] = _Slot(len(self.held))
        self.held.append(held)
        return len(self.held) - 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        taken, named = trees.tree_map_only(Tensor, self.slot, (args, kwargs))
        result = func(*args, **kwargs)
        writes = func._schema.is_mutable
        self.pure &= not writes
        if isinstance(result, Tensor) and not writes:
            given = [x for x in trees.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            if same := [x for x in given if _same(x, result)]:
                self.slots[id(result)] = self.slots[id(same[0])]
                self.alive.append(result)
                return result
        results = [result] if isinstance(result, Tensor) else list(result)
        call = _Call(func, taken, named, [self._place(tensor, None) for tensor in results])
        call.idle = func is torch.ops.aten.mul.Scalar and args[1] == 1 and result.dtype == args[0].dtype
        self.calls.append(call)
        return result


class Recording:
    """What a function did, to be done again; `record` makes it."""

    def __init__(self, held: list[Any], calls: list[_Call], inputs: int, outputs: list[int], shape: Any) -> None:
        self._held, self._calls, self._inputs, self._outputs, self._shape = held, calls, inputs, outputs, shape
        needed = set(outputs) | {i for i, x in enumerate(held) if i < inputs or x is not None}
        for call in reversed(calls):
            touched = call.takes | set(call.results)
            call.drops = list(touched - needed)
            needed |= touched

    @torch.no_grad()
    def __call__(self, inputs: Any) -> Any:
        """The function's result for other numbers."""
        held = self._held[:]
        held[: self._inputs] = trees.tree_leaves(inputs)
        for call in self._calls:
            call.play(held)
        return trees.tree_unflatten([held[i] for i in self._outputs], self._shape)


def record(function: Callable[[Any], Any], inputs: Any) -> tuple[Any, Recording]:
    """The result of `function(inputs)`, tensors in dicts, lists and tuples, and its recording.

    A recording holds for inputs of the same shapes and types, and for a function whose course depends on no tensor's
    value and that draws no random numbers.
    """
    tensors = trees.tree_leaves(inputs)
    with _Recorder(tensors) as recorder:
        result = function(inputs)
    leaves, shape = trees.tree_flatten(result)
    slots = [recorder.slot(tensor) for tensor in leaves]
    calls = _shortened(recorder) if recorder.pure else recorder.calls
    outputs = [slot.index for slot in slots]
    for call in calls:
        call.link()
    if recorder.pure:
        needed, kept = set(outputs), []
        for call in reversed(calls):
            if needed & set(call.results):
                needed |= call.takes
                kept.append(call)
        calls = kept[::-1]
    return result, Recording(recorder.held, calls, len(tensors), outputs, shape)


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
        and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
        and (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
    )


def _has_slot(tree: Any) -> bool:
    return any(isinstance(x, _Slot) for x in trees.tree_leaves(tree))


def _filled(tree: Any, held: list[Any]) -> Any:
    if isinstance(tree, (list, tuple)):
        return [_filled(x, held) for x in tree]
    if isinstance(tree, dict):
        return {name: _filled(x, held) for name, x in tree.items()}
    return held[tree.index] if isinstance(tree, _Slot) else tree
