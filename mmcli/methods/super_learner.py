"""The super learner: regressions a modality, a forest, boosting and fusion networks, alike or weighted by how well they
predict patients whom they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from mmcli.errors import RequestError
from mmcli.methods.additive import Additive
from mmcli.methods.attention import Attention
from mmcli.methods.baselines import Boosting, Forest, Logistic
from mmcli.methods.gated import Gated
from mmcli.methods.late import Late
from mmcli.methods.network import NetworkMethod
from mmcli.methods.pooled import pool_bag
from mmcli.store.batch import PackedBag
from mmcli.training.batch import Batch
from mmcli.training.method import Fitted, MethodSettings, Phase, probabilities
from mmcli.training.spec import DataSpec

Floats = NDArray[np.float64]
NETWORKS: dict[str, type[NetworkMethod]] = {"attention": Attention, "gated": Gated, "additive": Additive}
LIBRARY = ("votes", "late", "logistic", "forest", "boosting", *NETWORKS)
SMALLEST = 1e-4  # of a probability, so that a tree's 0 does not outvote everybody


class SuperLearnerSettings(MethodSettings):
    """Options of `super-learner`."""

    learners: str = Field(
        "late,forest,boosting",
        pattern=rf"^({'|'.join(LIBRARY)})(,({'|'.join(LIBRARY)}))*$",
        description="The library: votes (a regression a modality, each a learner of its own), late (their mean), "
        "logistic, forest, boosting (on the joint columns), and with equal weights the networks "
        f"{', '.join(NETWORKS)} (on all modalities).",
    )
    joint: Literal["tables", "all"] = Field(
        "tables", description="What forest, boosting and logistic see; without a table all."
    )
    weights: Literal["learned", "equal"] = Field("learned", description="The combination; equal learns nothing.")
    penalty: float = Field(1.0, ge=0, description="Squared penalty on the logarithms of the weights' ratios.")
    folds: int = Field(5, ge=2, description="Folds, inside training, whose held-out predictions the weights fit (V).")
    trees: int = Field(300, ge=1, description="Trees of the forest.")
    rounds: int = Field(100, ge=1, description="Trees of the boosting.")


class SuperLearner(Fitted):
    """Super learner: a library of models and the weights with which they predict held-out training patients best.

    Van der Laan, Polley & Hubbard 2007: each learner is fitted V times without one of V folds of the training patients,
    predicts that fold, and the combination is fitted to these predictions; then each is fitted to all. Of learner j
    with weight w_j >= 0, sum 1, the logits are

        l_k = log pi_k + s sum_j w_j log(p_jk / pi_k) / sum_j w_j      over the learners that a patient has

    with the training prior pi and one s > 0 for all. w and s have the least log loss of the held-out predictions plus
    `penalty` / n times the squared distances of log w and log s from where each learner's evidence is first made to fit
    the labels alone, and all then count alike: with a large penalty that is what remains. Each task has its own. The
    paper leaves the family of combinations open; on the log-odds a convex one is the logarithmic opinion pool that
    `late` is with equal weights. A network among the learners (with equal weights alone) has the defaults of its method
    and stops by the validation patients.

    At inference it takes any subset: a modality's regression answers where the modality is there, the joint models
    where one of theirs is (a hole and an absent modality as in `logistic`, `forest`, `boosting`); the weights of those
    that answer are scaled to sum 1. A patient with none gets the training prior.
    """

    name: ClassVar[str] = "super-learner"
    source: ClassVar[str] = "van der Laan, Polley & Hubbard 2007, doi:10.2202/1544-6115.1309"
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = SuperLearnerSettings

    weight: Tensor
    scale: Tensor

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        s = settings
        self.asked = learners(s)
        tables = [t.name for t in spec.tables]
        joint = spec.only(tables) if s.joint == "tables" and tables else spec
        options = {
            "late": {"votes": "kind"},
            "logistic": {},
            "forest": {"trees": s.trees},
            "boosting": {"rounds": s.rounds, "rate": 0.05, "leaves": 7, "features": 0.3, "l2": 2.0},
        }
        fitted: dict[str, type[Fitted]] = {"late": Late, "logistic": Logistic, "forest": Forest, "boosting": Boosting}
        wanted = list(dict.fromkeys("late" if name == "votes" else name for name in self.asked))
        self.models = nn.ModuleDict()
        for name in wanted:
            if name in NETWORKS:
                self.models[name] = NETWORKS[name](spec, NETWORKS[name].Settings())
                continue
            own = fitted[name].Settings.model_validate(options[name])
            self.models[name] = fitted[name](spec if name == "late" else joint, own)
        count = sum(len(self._late().groups) if name == "votes" else 1 for name in self.asked)
        self.register_buffer("weight", torch.full((len(spec.tasks), count), 1 / count, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(len(spec.tasks), dtype=torch.float64))

    @classmethod
    def check(cls, bags: list[str], tables: list[str], settings: Any) -> None:
        """RequestError where weights are to be learned for a network, which no held-out patients are predicted by."""
        for name in NETWORKS.keys() & set(learners(settings)) if settings.weights == "learned" else ():
            raise RequestError(
                f"--set learners={settings.learners}: weights are learned from V fits of each learner, and the network "
                f"{name!r} is trained once; add --set weights=equal, or leave it out"
            )

    def phases(self) -> list[Phase]:
        """One fit of all but the networks, then each network's own training, with its own early stopping. The history
        has no AUC of each epoch: all learners would have to answer."""
        phases = super().phases() if self.models.keys() - NETWORKS.keys() else []
        for name in [name for name in self.models if name in NETWORKS]:
            model: Any = self.models[name]
            for phase in model.phases():
                turns = [replace(t, trains=[f"models.{name}.{module}" for module in t.trains]) for t in phase.turns]
                phases.append(replace(phase, name=name, turns=turns, watch=False))
        return phases

    def fit(self, train: Iterable[Batch], validation: Iterable[Batch]) -> None:
        """Held-out predictions, the weights that fit them, then the library on everybody."""
        pieces = [summarised(batch) for batch in train]
        if self.settings.weights == "learned":
            for t, task in enumerate(self.spec.tasks):
                y = torch.cat([b.labels[task.name] for b in pieces]).numpy()
                fewest = int(np.bincount(y[y >= 0])[np.unique(y[y >= 0])].min(initial=len(y)))
                if fewest > 1 and len(np.unique(y[y >= 0])) > 1:
                    there, votes = self._held_out(pieces, task.name, y, min(self.settings.folds, fewest))
                    w, s = combine(there[y >= 0], votes[y >= 0], y[y >= 0], np.array(task.prior), self.settings.penalty)
                    self.weight[t], self.scale[t] = torch.from_numpy(w), s
        self._fit(pieces)

    def _fit(self, pieces: list[Batch]) -> None:
        for name, model in self.models.items():
            if name not in NETWORKS:
                model.fit(iter(pieces), iter([]))  # type: ignore[operator]

    def _held_out(
        self, pieces: list[Batch], task: str, y: NDArray[np.int64], folds: int
    ) -> tuple[NDArray[np.bool_], Floats]:
        """Who has which learner's answer (n, J), and log p of each (n, J, K) by models that have not seen the patient.
        To hold out a patient is to hide the label: no fit looks at patients without one."""
        there, votes = np.zeros((len(y), self.weight.shape[1]), bool), np.zeros(0)
        rows, labels = np.flatnonzero(y >= 0), torch.from_numpy(y)
        ends = np.cumsum([len(b) for b in pieces])[:-1].tolist()
        split = StratifiedKFold(folds, shuffle=True, random_state=int(torch.randint(2**31 - 1, ())))
        for _, held in split.split(rows, y[rows]):
            out = torch.zeros(len(y), dtype=torch.bool)
            out[rows[held]] = True
            hidden = torch.tensor_split(labels.masked_fill(out, -1), ends)
            self._fit([replace(b, labels=b.labels | {task: h}) for b, h in zip(pieces, hidden, strict=True)])
            have, answers = zip(*(self._answers(b, task) for b in pieces), strict=True)
            found = torch.cat(answers).numpy()
            votes = votes if votes.ndim == 3 else np.zeros_like(found)
            votes[rows[held]] = found[rows[held]]
            there[rows[held]] = torch.cat(have).numpy()[rows[held]]
        return there, votes

    def _answers(self, batch: Batch, task: str) -> tuple[Tensor, Tensor]:
        """Who has which learner's answer (n, J), and log p of each (n, J, K)."""
        there, votes = [], []
        for name in self.asked:
            model: Any = self.models["late" if name == "votes" else name]
            if name == "votes":
                have, log_p = model.votes(batch)
                there.append(have)
                votes.append(log_p[task])
                continue
            have = model.votes(batch)[0].any(-1) if name == "late" else self._any(batch, model.spec.modalities)
            there.append(have.unsqueeze(-1))
            log_p = model.predict(batch)[""][task].clamp(min=SMALLEST).log()
            if name in NETWORKS:  # its classes were weighted alike: the training prior is not in its answer yet
                log_p = log_p + self._log_prior(task).to(log_p.device)
            votes.append(log_p.unsqueeze(1))
        return torch.cat(there, 1), torch.cat(votes, 1)

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """softmax of the prior's logarithm and the weighted mean of the present learners' evidence."""
        logits = {}
        for t, task in enumerate(self.spec.tasks):
            there, votes = self._answers(batch, task.name)
            prior = self._log_prior(task.name).to(votes.device)
            logits[task.name] = prior + self.scale[t] * pooled_votes(there, votes - prior, self.weight[t])
        return {"": probabilities(logits)}

    def _log_prior(self, task: str) -> Tensor:
        return log_prior(np.array(next(t.prior for t in self.spec.tasks if t.name == task)))

    def _late(self) -> Late:
        model: Any = self.models["late"]
        return model  # type: ignore[no-any-return]

    def _any(self, batch: Batch, names: list[str]) -> Tensor:
        return torch.stack([batch.present[m] for m in names]).any(0)


def learners(settings: SuperLearnerSettings) -> list[str]:
    """The names of the library's learners, each once."""
    return list(dict.fromkeys(settings.learners.split(",")))


def log_prior(shares: Floats) -> Tensor:
    """(K,) logarithms of the classes' shares."""
    return torch.from_numpy(np.log(np.maximum(shares, 1e-12)))


def pooled_votes(there: Tensor, votes: Tensor, weight: Tensor) -> Tensor:
    """sum_j w_j v_jk / sum_j w_j over the learners that are there, 0 without one.

    (n, J) bool, (n, J, K) and (J,) to (n, K).
    """
    shares = there.double() * weight
    shares = shares / shares.sum(-1, keepdim=True).clamp(min=1e-300)
    return torch.einsum("nj,njk->nk", shares, votes)


def combine(
    there: NDArray[np.bool_], votes: Floats, y: NDArray[np.int64], shares: Floats, penalty: float
) -> tuple[Floats, float]:
    """Weights (J,) and scale of the least penalised log loss of the held-out `votes` (n, J, K), log p, for the classes
    `y` (n,) of prior `shares` (K,)."""
    mask, target, prior = torch.from_numpy(there), torch.from_numpy(y), log_prior(shares)
    evidence = torch.from_numpy(votes) - prior
    slopes = [slope(evidence[mask[:, j], j], target[mask[:, j]], prior, penalty) for j in range(evidence.shape[1])]
    start = np.array([*np.log(slopes), np.log(np.mean(slopes))])

    def loss(x: Tensor) -> Tensor:
        pooled = pooled_votes(mask, evidence, x[:-1].softmax(0)) * x[-1].exp()
        own = nn.functional.cross_entropy(prior + pooled, target)
        return own + penalty * (x - torch.from_numpy(start)).square().sum() / len(target)

    found = least(loss, start)
    w = np.exp(found[:-1] - found[:-1].max())
    return w / w.sum(), float(np.exp(found[-1]))


def slope(evidence: Tensor, y: Tensor, prior: Tensor, penalty: float) -> float:
    """What one learner's evidence (n, K) is multiplied by to fit the classes best; near 1 where little is known."""

    def loss(x: Tensor) -> Tensor:
        own = nn.functional.cross_entropy(prior + x.exp() * evidence, y)
        return own + penalty * x.square().sum() / len(y)

    return float(np.exp(least(loss, np.zeros(1))[0])) if len(y) else 1.0


def least(loss: Callable[[Tensor], Tensor], start: Floats) -> Floats:
    """Where a smooth function of few numbers is least."""

    def value(x: Floats) -> tuple[float, Floats]:
        with torch.enable_grad():
            leaf = torch.from_numpy(x).requires_grad_()
            found = loss(leaf)
            (slopes,) = torch.autograd.grad(found, leaf)
        return float(found.detach()), slopes.numpy().astype(float)

    found: Floats = minimize(value, start, jac=True, method="L-BFGS-B").x
    return found


def summarised(batch: Batch) -> Batch:
    """The same patients on the processor, each bag its mean alone, which is all that the library looks at."""
    bags = {}
    for name, bag in batch.bags.items():
        there = bag.present
        offsets = torch.cat([there.new_zeros(1, dtype=torch.int64), there.long().cumsum(0)])
        bags[name] = PackedBag(pool_bag(bag, "mean")[there], offsets, there)
    return replace(batch, bags=bags).to(torch.device("cpu"))
