"""Small methods of another package that ask the contract for what the papers need: the teacher itself, maps, noise."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmcli.errors import RequestError
from mmcli.training.batch import Batch, Roster
from mmcli.training.method import Method, MethodSettings, Optimiser, Phase, Turn, probabilities, weighted_cross_entropy

SGD = Optimiser("sgd", 1e-2, momentum=0.3)
SEEN: list[tuple[str, Batch]] = []  # what the tests look at


class Settings(MethodSettings):
    """Options."""

    epochs: int = 3


class Taught(Method):
    """Two branches in turn, and a memory of the teacher's latents by class that the teacher's answer reads."""

    name: ClassVar[str] = "taught"
    stages: ClassVar[frozenset[str]] = frozenset({"distill"})
    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})
    Settings: ClassVar[type[MethodSettings]] = Settings

    def __init__(self, spec: Any, settings: Any, teacher: Any) -> None:
        super().__init__(spec, settings)
        self.teacher = teacher
        widths = {"taught": 8, "mapped": 2}
        width = widths.get(teacher.name) or len(teacher.spec.modalities) * (teacher.settings.width + 1)
        classes = len(spec.tasks[0].classes)
        self.own = nn.Sequential(nn.Linear(len(spec.tables[0].columns), 8), nn.Dropout(0.2), nn.ReLU())
        self.head, self.align = nn.Linear(8 + width, classes), nn.Linear(8, width)
        self.register_buffer("memory", torch.zeros(classes, width))

    @classmethod
    def check_teacher(cls, teacher: Method, settings: Any) -> None:
        """It wants latents."""
        if type(teacher).latents is Method.latents:
            raise RequestError(f"--teacher: the method {teacher.name!r} has no latents to learn from")

    def z(self, batch: Batch) -> Tensor:
        """(n, 8)."""
        return self.own(batch.tables["t"].values)

    def latent(self, batch: Batch) -> Tensor:
        """The teacher's (n, width)."""
        return self.teacher.latents(batch.teacher)["joint"]

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        """The memory is read by the teacher's answer to what the batch shows of its modalities."""
        typing = self.teacher.predict(batch.teacher)[""]["y"].float()
        return {"y": self.head(torch.cat([self.z(batch), typing @ self.memory], -1))}

    def loss_own(self, batch: Batch) -> Tensor:
        """Labels, and the teacher's latent."""
        SEEN.append(("train" if torch.is_grad_enabled() else "validation", batch))
        far = (self.align(self.z(batch)) - self.latent(batch).detach()).square().mean()
        return weighted_cross_entropy(self.spec, self.logits(batch), batch) + far

    def loss_teacher(self, batch: Batch) -> Tensor:
        """The teacher comes towards the student."""
        return (self.latent(batch) - self.align(self.z(batch)).detach()).square().mean()

    def who(self, roster: Roster) -> Tensor:
        """Whoever shows the teacher a slide."""
        seen = roster.labelled & roster.present["t"]
        return seen & roster.teacher.present["slide"] if "slide" in roster.teacher.present else seen

    def phases(self) -> list[Phase]:
        """Both in turn, the teacher's heads frozen."""
        moves = {"taught": "teacher.own", "mapped": "teacher.head"}.get(self.teacher.name, "teacher.network.branches")
        turns = [Turn(["own", "head", "align"], self.loss_own, SGD), Turn([moves], self.loss_teacher, SGD)]
        return [Phase("both", turns, self.settings.epochs, 0, 16, who=self.who)]

    @torch.no_grad()
    def after_step(self, phase: Phase, batch: Batch) -> None:
        """An EMA a class."""
        z = self.latent(batch)
        for k in range(len(self.memory)):
            if (mine := batch.labels["y"] == k).any():
                self.memory[k].lerp_(z[mine].mean(0), 0.1)

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Softmax."""
        SEEN.append(("inference", batch))
        return {"": probabilities(self.logits(batch))}

    def latents(self, batch: Batch) -> dict[str, Tensor]:
        """Its own."""
        return {"joint": self.z(batch)}


class Mapped(Method):
    """A linear layer on the mean map of a patient's instances, and on nothing else."""

    name: ClassVar[str] = "mapped"
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = Settings

    def __init__(self, spec: Any, settings: Any) -> None:
        super().__init__(spec, settings)
        numbers = [int(torch.tensor(shape).prod()) for bag in spec.bags for shape in bag.maps.values()]
        self.head = nn.Linear(sum(numbers), len(spec.tasks[0].classes))

    @classmethod
    def maps(cls, bags: list[str], settings: Any) -> dict[str, list[str]]:
        """Two stages of each."""
        return {name: ["layer1", "layer2"] for name in bags}

    def loss(self, batch: Batch) -> Tensor:
        """Cross entropy."""
        SEEN.append(("train", batch))
        return weighted_cross_entropy(self.spec, self.logits(batch), batch)

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        """(n, K)."""
        means = []
        for bag in batch.bags.values():
            for maps in bag.maps.values():
                assert len(maps) == len(bag.features)
                total = torch.zeros(len(batch), *maps.shape[1:]).index_add_(0, bag.owner, maps)
                means.append((total / bag.offsets.diff().clamp(min=1).view(-1, 1, 1, 1, 1)).flatten(1))
        return {"y": self.head(torch.cat(means, -1))}

    def phases(self) -> list[Phase]:
        """One."""
        return [Phase("train", [Turn([""], self.loss, SGD)], self.settings.epochs, 0, 16)]

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Softmax."""
        return {"": probabilities(self.logits(batch))}

    def latents(self, batch: Batch) -> dict[str, Tensor]:
        """Its logits."""
        return {"joint": self.logits(batch)["y"]}


class Sampler(Method):
    """A linear layer on the table, and 20 draws of its logits."""

    name: ClassVar[str] = "sampler"
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = Settings

    def __init__(self, spec: Any, settings: Any) -> None:
        super().__init__(spec, settings)
        self.head = nn.Linear(len(spec.tables[0].columns), len(spec.tasks[0].classes))

    def loss(self, batch: Batch) -> Tensor:
        """Cross entropy of noisy logits."""
        logits = self.head(batch.tables["t"].values)
        return weighted_cross_entropy(self.spec, {"y": logits + batch.noise("y", logits.shape[1])}, batch)

    def phases(self) -> list[Phase]:
        """One."""
        return [Phase("train", [Turn([""], self.loss, SGD)], self.settings.epochs, 0, 16)]

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Softmax of (draws, n, K)."""
        noise = batch.noise("y", 20, len(self.spec.tasks[0].classes)).transpose(0, 1)
        return {"": probabilities({"y": self.head(batch.tables["t"].values) + noise})}
