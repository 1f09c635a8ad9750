"""What is compared: for each cohort its tables of rows, and each row as a call of `mmcli train-teacher`."""

from __future__ import annotations

from dataclasses import dataclass, field

OWN = ("pathological", "blood", "icd", "cell_density")
WITH, WITHOUT = ("clinical", *OWN), ("clinical_less", *OWN)
OMICS = ("mrna", "methylation", "mirna")
ASSAYS = ("RNASeq2GeneNorm", "gistict", "RPPAArray", "Mutations", "miRNASeqGene")


@dataclass(frozen=True)
class Row:
    """A method with its options; `only` names a part of the table's modalities (default all of them), `seeds` are
    others than the table's."""

    label: str
    method: str
    options: dict[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    @property
    def seedless(self) -> bool:
        """Whether it is fitted to convergence, so that another seed is the same model but for its inner folds."""
        return self.method in ("late", "logistic", "boosting")


@dataclass(frozen=True)
class Table:
    """Rows on the same patients, modalities, folds and seeds; of all seeds' parts the mean prediction counts."""

    name: str
    title: str
    task: str
    folds: str
    modalities: tuple[str, ...]
    rows: tuple[Row, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    bags: bool = False


GENTLE = {"rounds": "100", "rate": "0.05", "leaves": "7", "features": "0.3", "l2": "2"}
LATE, FOREST = Row("late", "late"), Row("forest", "forest", {"trees": "300"})
ATTENTION = Row("attention", "attention")
SKLEARN = (LATE, Row("logistic", "logistic"), FOREST, Row("boosting", "boosting", GENTLE))
NETWORKS = (
    ATTENTION, Row("early", "early"), Row("gated", "gated"), Row("low-rank-tensor", "low-rank-tensor"),
    Row("cross-attention", "cross-attention"),
)  # fmt: skip
MDFN = (Row("mdfn", "mdfn"), Row("mdfn, tensor_fusion=false", "mdfn", {"tensor_fusion": "false"}))
MDFN_PARTS = (
    *MDFN,
    Row("mdfn, channel_attention=false", "mdfn", {"channel_attention": "false"}),
    Row("mdfn, auxiliary_heads=false", "mdfn", {"auxiliary_heads": "false"}),
)


EQUAL = {"weights": "equal"}
SUPER_LEARNERS = (
    Row("super-learner, late + forest", "super-learner", {"learners": "late,forest"} | EQUAL),
    Row("super-learner, with networks", "super-learner", {"learners": "late,forest,gated,additive"} | EQUAL),
)


def alone(names: tuple[str, ...]) -> tuple[Row, ...]:
    """A logistic regression on each modality by itself."""
    return tuple(Row(f"{name} alone", "late", {}, (name,)) for name in names)


def hancock() -> list[Table]:
    """Tables alone, on the published splits and by cross-validation, with and without one column; then with tissue."""
    additive = Row("additive", "additive")
    few = (LATE, FOREST, *SUPER_LEARNERS, ATTENTION, Row("gated", "gated"), additive, MDFN[0])
    tasks, splits = ("recurrence", "survival"), ("in", "out", "oropharynx")
    found = [
        Table(f"{split}-{task}-{name}", f"{task}, {split}", task, split, modalities, few, (0,))
        for name, modalities in (("with", WITH), ("without", WITHOUT))
        for split in splits
        for task in tasks
    ]
    column = "primarily_metastasis"
    rest = (Row("early", "early"), *NETWORKS[3:], MDFN[1], Row("logistic", "logistic"), SKLEARN[3])
    for task in tasks:
        rows = (*few, *rest, *alone(WITHOUT))
        found.append(Table(f"cv-{task}-without", f"{task}, without {column}", task, f"cv_{task}", WITHOUT, rows))
    for task in tasks:
        rows = (*few, MDFN[1], *alone(WITH[:2]))
        found.append(Table(f"cv-{task}-with", f"{task}, with {column}, one seed", task, f"cv_{task}", WITH, rows, (0,)))
    fewer = (LATE, SUPER_LEARNERS[1], ATTENTION, MDFN[0])
    most = (*few[:-1], *alone(("tissue",)), *MDFN_PARTS)
    for name, own, rows in (("without", WITHOUT, most), ("with", WITH, fewer)):
        for task in tasks:
            found.append(Table(f"tissue-{task}-{name}", f"{task}, {name} {column}, with tissue bags, one seed", task,
                               f"cv_{task}", (*own, "tissue"), rows, (0,), True))  # fmt: skip
    return found


def rosmap() -> list[Table]:
    """The published split, five seeds, five draws of who validates."""
    options = {"joint": "false", "modality_dropout": "0.5", "own_loss": "8", "weight_decay": "3"}
    five = Row("additive, 5 members", "additive", options | {"members": "5"})
    low_rank = Row("mdfn, low_rank=true", "mdfn", {"low_rank": "true"})
    additive = (Row("additive", "additive", options), five)
    rows = (*SKLEARN, *additive, *NETWORKS, *MDFN, low_rank, *alone(OMICS))
    return [Table("published", "rosmap", "ad", "published", OMICS, rows, (0, 1, 2, 3, 4))]


def miniacc() -> list[Table]:
    """5-fold x 5: five assays, and with age, sex and stage."""
    additive = Row("additive", "additive", {"joint": "false"})
    most = (LATE, FOREST, ATTENTION, additive, *MDFN, SUPER_LEARNERS[1], Row("logistic", "logistic"))
    rest = (*alone(("clinical",)), *NETWORKS[1:], SKLEARN[3])
    return [
        Table("cv-clinical", "five assays + age, sex, stage", "died", "cv", (*ASSAYS, "clinical"),
              (*most, *rest)),
        Table("cv", "five assays", "died", "cv", ASSAYS, most[:6]),
    ]  # fmt: skip


def musk() -> list[Table]:
    """10-fold x 5: the bag networks (tuned on other folds of musk1), and forest and regression on the bags' mean,
    largest and smallest values."""
    pooled = {"pool": "mean-max-min"}
    steps = {"batch": "8", "patience": "0"}  # small steps, all epochs: few bags, and fewer that validate
    attention = Row("attention", "attention", steps | {"epochs": "60", "width": "128", "dropout": "0.5"})
    together = Row("attention, three seeds", "attention", attention.options, seeds=(0, 1, 2))
    own = steps | {"epochs": "40", "width": "64", "dropout": "0.3"}
    mdfn = tuple(Row(row.label, row.method, row.options | own) for row in MDFN_PARTS)
    rows = (Row("late", "late", pooled), Row("forest", "forest", pooled | {"trees": "300"}), attention, together, *mdfn)
    return [Table("cv", "bags of 166 features", "musk", "cv", ("conformations",), rows, (0,), True)]
