"""One function of a method, computed for the parts of a stack at once: the same sums, and each part's own dice.

The function is mapped over the parts by torch.func.vmap, with each part's parameters in the place of the module's. A
random number that it asks for (dropout, torch.rand) is drawn outside, for each part from that part's own generator and
in the shape of that part's own batch, so that a part's stream is what it is alone. The operators of the first call, and
those of its gradients, are recorded, and played back from then on without vmap and autograd around them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mmcli.training.batch import Batch, TableRows
from mmcli.training.method import Method
from mmcli.training.recording import Recording, record
from mmcli.training.spec import TaskSpec
from mmcli.training.stacked_dice import Dice, Draw

Tensors = dict[str, Tensor]
Played = tuple[Tensor, list[Tensor], Tensors]
Inputs = dict[str, Any]  # of K parts: rows, values, observed, present, labels, weights; n rows each


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
        if f is functional.cross_entropy and len(args) > 1 and args[1].dtype == torch.int64 and args[1].dim() == 1:
            return _cross_entropy(*args, **(kwargs or {}))
        return f(*args, **(kwargs or {}))


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> tuple[Tensor, float]:
    return x, p if training else 0.0


def _cross_entropy(x: Tensor, y: Tensor, weight: Tensor | None = None, **how: Any) -> Tensor:
    """torch's for labels (n,), mapped over parts in fewer operators than torch takes, which also loads a library of
    algebra for it."""
    if how.get("reduction", "mean") != "mean" or how.get("label_smoothing"):
        loss: Tensor = functional.cross_entropy(x, y, weight, **how)
        return loss
    counted = y != how.get("ignore_index", -100)
    known = torch.where(counted, y, 0)
    of = counted.to(x.dtype) if weight is None else weight[known] * counted
    chosen = x.log_softmax(-1).gather(-1, known.unsqueeze(-1)).squeeze(-1)
    mean: Tensor = -(chosen * of).sum() / of.sum()
    return mean


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

    `names` and `pieces` (K, ...) are the parameters that learn, `buffers` (K, ...) what a step replaces besides; both
    hold other numbers at another call. The first call is recorded, the others play it back.
    """

    def __init__(
        self,
        method: Method,
        function: Callable[[Batch], Tensor],
        names: list[str],
        pieces: list[Tensor],
        buffers: Tensors,
        gradients: bool,
    ) -> None:
        self.call = _Call(method, function)
        self.names, self.pieces, self.buffers, self.gradients = names, pieces, buffers, gradients
        self._dice: Dice | None = None
        self._recording: Recording | None = None

    def __call__(
        self, rest: Tensors, inputs: Inputs, counts: Sequence[int], generators: list[torch.Generator]
    ) -> Played:
        """(K, ...) what the function says, the gradient (K, ...) of its sum for each parameter (or none), and what it
        leaves in the buffers.

        `rest` are the parameters that do not learn, the same at each call; `counts` (K) says how many rows of the
        inputs are a part's own: the others are filled up.
        """
        if self._dice is None:
            parts, width = inputs["rows"].shape
            self._dice = Dice(self._listen(rest, inputs), width, parts)
        drawn = self._dice(counts, generators)
        everything = inputs, drawn
        if self._recording is not None:
            played: Played = self._recording(everything)
            return played
        result: Played
        kept = [*self.pieces, *self.buffers.values()]
        result, self._recording = record(lambda given: self._compute(self.pieces, rest, *given), everything, kept)
        return result

    def _listen(self, rest: Tensors, inputs: Inputs) -> list[Draw]:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _Listen() as listener:
            self._one([piece[0] for piece in self.pieces], _first(rest), _first(self.buffers), _first(inputs), None)
            found: list[Draw] = listener.draws
        return found

    def _one(
        self, pieces: list[Tensor], rest: Tensors, buffers: Tensors, inputs: Inputs, drawn: list[Tensor] | None
    ) -> tuple[Tensor, Tensors]:
        """What the function says of one part, and its buffers afterwards."""
        if drawn is not None:
            with _Hand(drawn):
                return self._one(pieces, rest, buffers, inputs, None)
        tensors = dict(zip(self.names, pieces, strict=True)) | rest | buffers
        tensors = {f"method.{name}": tensor for name, tensor in tensors.items()}
        found: Tensor = functional_call(self.call, tensors, (inputs,))  # puts what is replaced into `tensors`
        return found, {name: tensors[f"method.{name}"] for name in buffers}

    def _compute(self, pieces: list[Tensor], rest: Tensors, inputs: Inputs, drawn: list[Tensor]) -> Played:
        one = vmap(self._one)
        if not self.gradients:
            with torch.no_grad():
                return one(pieces, rest, self.buffers, inputs, drawn)[0], [], {}
        with torch.enable_grad():
            pieces = [piece.detach().requires_grad_() for piece in pieces]
            losses, buffers = one(pieces, rest, self.buffers, inputs, drawn)
            gradients = torch.autograd.grad(losses.sum(), pieces, materialize_grads=True)
        return losses.detach(), list(gradients), {name: x.detach() for name, x in buffers.items()}


def _first(tree: Any) -> Any:
    return {n: _first(x) for n, x in tree.items()} if isinstance(tree, dict) else tree[0]
