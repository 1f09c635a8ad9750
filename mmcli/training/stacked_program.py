"""One function of a method, computed for the parts of a stack at once: the same sums, and each part's own dice.

The function is mapped over the parts by torch.func.vmap, with each part's parameters in the place of the module's. A
random number that it asks for (dropout, torch.rand) is drawn outside, for each part from that part's own generator and
in the shape of that part's own batch, so that a part's stream is what it is alone. Where a loss is computed often, its
operations and those of its gradients are recorded once and played back, without vmap and autograd around them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mmcli.training.batch import Batch, TableRows
from mmcli.training.method import Method
from mmcli.training.spec import TaskSpec
from mmcli.training.stacked_optimiser import unpack

Tensors = dict[str, Tensor]
Inputs = dict[str, Any]  # of K parts: rows, values, observed, present, labels, weights; n rows each
Draw = tuple[float | None, tuple[int, ...]]  # the chance that dropout keeps a number (None: uniform), and the shape


class _Listen(TorchFunctionMode):
    """Notes which random numbers a function asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[Draw] = []

    def __torch_function__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if f is functional.dropout:
            x, p = _dropout(*args, **kwargs)
            if p:
                self.draws.append((1 - p, tuple(x.shape)))
        elif f is torch.rand:
            self.draws.append((None, torch.Size(args[0] if isinstance(args[0], Sequence) else args)))
        return f(*args, **kwargs)


class _Hand(TorchFunctionMode):
    """Hands a function the random numbers that were drawn for it."""

    def __init__(self, drawn: list[Tensor]) -> None:
        super().__init__()
        self.drawn = iter(drawn)

    def __torch_function__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if f is functional.dropout:
            x, p = _dropout(*args, **(kwargs or {}))
            return x * next(self.drawn) if p else x
        if f is torch.rand:
            return next(self.drawn)
        return f(*args, **(kwargs or {}))


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> tuple[Tensor, float]:
    return x, p if training else 0.0


class _Call(nn.Module):
    """A method's function as a module's call, so that its parameters can be replaced."""

    def __init__(self, method: Method, function: Callable[[Batch], Tensor]) -> None:
        super().__init__()
        self.method = method
        self.function = function

    def forward(self, inputs: Inputs) -> Tensor:
        """The function of a batch made from the inputs of one part."""
        tables = {
            n: TableRows(inputs["values"][n], inputs["observed"][n], inputs["present"][n]) for n in inputs["values"]
        }
        with _class_weights(self.method, inputs["weights"]):
            return self.function(Batch(inputs["rows"], {}, tables, inputs["labels"]))


@contextmanager
def _class_weights(method: Method, weights: Tensors) -> Iterator[None]:
    """Class weights belong to a fold: while a part is computed, the method's spec says that part's."""
    kept = method.spec
    tasks = [TaskSpec.model_construct(**(dict(t) | {"weights": weights[t.name]})) for t in kept.tasks]
    method.spec = kept.model_copy(update={"tasks": tasks})
    try:
        yield
    finally:
        method.spec = kept


class Program:
    """`function` of a batch for K parts: a loss with its gradients, or (`gradients=False`) whatever it says.

    `record`: play back a recording, which costs as much as some dozens of calls and may differ in the last bit.
    `names` and `shapes` are those of the learning parameters, whose numbers are the rows of one tensor (K, P).
    """

    def __init__(
        self,
        method: Method,
        function: Callable[[Batch], Tensor],
        names: list[str],
        shapes: list[torch.Size],
        gradients: bool,
        record: bool = False,
    ) -> None:
        self.call = _Call(method, function)
        self.names, self.shapes, self.gradients, self.record = names, shapes, gradients, record
        self._draws: list[Draw] | None = None
        self._recorded: Any = None

    def __call__(
        self, flat: Tensor, rest: Tensors, inputs: Inputs, counts: Sequence[int], generators: list[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """(K, ...) what the function says, and the gradients (K, P) of its sum (none: empty).

        `rest` are the parameters and buffers that do not learn; `counts` (K) says how many rows of the inputs are a
        part's own: the others are filled up.
        """
        if self._draws is None:
            self._draws = self._listen(flat, rest, inputs)
        drawn = [_draw(draw, inputs["rows"].shape[1], counts, generators) for draw in self._draws]
        arguments = flat.detach(), rest, inputs, drawn
        if self._recorded is None and self.record:
            self._recorded = make_fx(lambda *all_of_them: self._compute(*all_of_them))(*arguments)
        if self._recorded is None:
            return self._compute(*arguments)
        with torch.no_grad():
            result: tuple[Tensor, Tensor] = self._recorded(*arguments)
        return result

    def _listen(self, flat: Tensor, rest: Tensors, inputs: Inputs) -> list[Draw]:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _Listen() as listener:
            self._one(flat[0], _first(rest), _first(inputs), None)
            found: list[Draw] = listener.draws
        return found

    def _one(self, flat: Tensor, rest: Tensors, inputs: Inputs, drawn: list[Tensor] | None) -> Tensor:
        pieces = zip(self.names, unpack(flat, self.shapes), strict=True)
        parameters = {f"method.{name}": piece for name, piece in pieces}
        parameters |= {f"method.{name}": tensor for name, tensor in rest.items()}
        if drawn is None:
            found: Tensor = functional_call(self.call, parameters, (inputs,))
            return found
        with _Hand(drawn):
            return self._one(flat, rest, inputs, None)

    def _compute(self, flat: Tensor, rest: Tensors, inputs: Inputs, drawn: list[Tensor]) -> tuple[Tensor, Tensor]:
        if not self.gradients:
            with torch.no_grad():
                return vmap(self._one)(flat, rest, inputs, drawn), flat.new_empty(0)
        with torch.enable_grad():
            flat = flat.detach().requires_grad_()
            losses: Tensor = vmap(self._one)(flat, rest, inputs, drawn)
            (gradients,) = torch.autograd.grad(losses.sum(), flat)
        return losses.detach(), gradients


def _first(tree: Any) -> Any:
    return {n: _first(x) for n, x in tree.items()} if isinstance(tree, dict) else tree[0]


def _draw(draw: Draw, width: int, counts: Sequence[int], generators: list[torch.Generator]) -> Tensor:
    """(K, ...) each part's numbers, from its generator as it would draw them alone; a shape whose first size is the
    stack's number of rows has for each part its own number of them."""
    chance, shape = draw
    drawn = torch.zeros(len(counts), *shape)
    for part, count, generator in zip(drawn, counts, generators, strict=True):
        own = part[:count] if shape and shape[0] == width else part
        if not count:
            continue
        if chance is None:
            own.uniform_(generator=generator)
        else:
            own.bernoulli_(chance, generator=generator)
    return drawn if chance is None else drawn.div_(chance)
