"""A turn's means: what learns in it, its optimiser, its learning rate, whom it draws."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmcli.training.method import Method, Optimiser, Turn


def modules(method: Method, turn: Turn) -> list[nn.Module]:
    """The submodules that learn in a turn."""
    return [method.get_submodule(name) for name in turn.trains]


def parameters_of(method: Method, turn: Turn) -> list[nn.Parameter]:
    """Their parameters, each once."""
    return list(dict.fromkeys(p for module in modules(method, turn) for p in module.parameters()))


def freeze_all_but(method: Method, turn: Turn, learning: list[nn.Parameter]) -> None:
    """Only the turn's modules learn and are in training mode; dropout and batch statistics of the others rest."""
    method.eval()
    method.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_(True)
    for module in modules(method, turn):
        module.train()


def make_optimiser(wanted: Optimiser, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """torch's optimiser of a turn."""
    if wanted.name == "sgd":
        return torch.optim.SGD(
            parameters, wanted.lr, momentum=wanted.momentum, weight_decay=wanted.weight_decay, nesterov=wanted.nesterov
        )
    kind = torch.optim.AdamW if wanted.name == "adamw" else torch.optim.Adam
    fused = all(p.is_floating_point() for p in parameters)
    return kind(parameters, wanted.lr, betas=wanted.betas, weight_decay=wanted.weight_decay, fused=fused)


def rate(wanted: Optimiser, epoch: int, epochs: int, losses: list[float]) -> float:
    """The learning rate of an epoch: a function of the epoch and the validation losses so far, so that a resumed
    schedule needs no state."""
    if epoch < wanted.warmup:
        return wanted.lr * (epoch + 1) / (wanted.warmup + 1)
    if wanted.schedule == "cosine":
        since, length = epoch - wanted.warmup, wanted.restart or max(epochs - wanted.warmup, 1)
        share = since % length / length
        return wanted.least_lr + (wanted.lr - wanted.least_lr) * (1 + math.cos(math.pi * share)) / 2
    if wanted.schedule == "plateau":
        drops, best, bad = 0, math.inf, 0
        for loss in losses:
            best, bad = (loss, 0) if loss < best else (best, bad + 1)
            if bad >= wanted.plateau:
                drops, bad = drops + 1, 0
        return max(wanted.lr / 10.0**drops, wanted.least_lr)
    return wanted.lr


def balanced(labels: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Chances (n,), summing to 1, by which every class of a task comes equally often: a patient's is the mean over the
    tasks of n / (K n_c); where it has no label of a task, that task says 1."""
    total = np.zeros(len(labels[0]))
    for y in labels:
        counts = np.bincount(y[y >= 0])
        classes = max(int((counts > 0).sum()), 1)
        weight = counts.sum() / (classes * np.maximum(counts, 1))
        total += np.where(y >= 0, weight[np.maximum(y, 0)] if len(weight) else 1.0, 1.0)
    chances: NDArray[np.float64] = total / total.sum()
    return chances
