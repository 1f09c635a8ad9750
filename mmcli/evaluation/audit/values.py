"""Single values that nearly decide a label for the patients who have them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

from mmcli.evaluation.audit.report import WARNING, Report, count
from mmcli.evaluation.audit.subject import Bools, Subject
from mmcli.evaluation.multiplicity import holm
from mmcli.store import Label, Table

CARRIERS = 10
SHARE, MORE = 0.85, 0.35
LEVEL = 0.01
FEW = 10  # distinct numbers: a column with more is a scale, on which only the ends can be codes (0, -1, 999)


@dataclass(frozen=True)
class _Value:
    """A value of a column (or its absence): who has it, among whom."""

    where: str
    text: str
    carriers: Bools
    among: Bools


def check(subject: Subject) -> Report:
    """Every value that at least ten labelled patients share, an unobserved cell and an absent modality included; of a
    numeric column with more than ten distinct numbers the smallest and the largest. A warning where at least 85 % of
    its carriers have one class, 35 points more than the others, and Fisher's exact test says so at .01 after Holm over
    all values and classes of the label."""
    report = Report()
    for task, label in subject.labels().items():
        tried = [(value, *numbers) for value in _values(subject, label) for numbers in _counts(value, label)]
        adjusted = holm(np.array([p for *_, p in tried]))
        said: dict[str, list[str]] = defaultdict(list)
        for (value, k, carriers, hits, base, _), p in zip(tried, adjusted, strict=True):
            if hits / carriers >= SHARE and hits / carriers - base >= MORE and p < LEVEL:
                said[value.where].append(
                    f"{hits} of the {carriers} patients {value.text} are {label.classes[k]!r} of {task} "
                    f"({hits / carriers:.0%}; {base:.0%} of the others)"
                )
        for where, texts in said.items():
            report.add(
                WARNING, "values", where, "; ".join(texts),
                "find out whether it is known before the label; give every figure with and without it",
            )  # fmt: skip
        tests = count(len(tried), "pair")
        report.checked.append(f"values: {tests} of a value and a class of {task}")
    return report


def _counts(value: _Value, label: Label) -> Iterator[tuple[int, int, int, float, float]]:
    """(class, carriers, those of the class, share of the class among the others, Fisher's one-sided p) for each class,
    over the labelled patients; nothing where there are too few with or without the value."""
    known = value.among & (label.values >= 0)
    have, rest = label.values[known & value.carriers], label.values[known & ~value.carriers]
    if len(have) < CARRIERS or len(rest) < CARRIERS:
        return
    for k in range(len(label.classes)):
        hits, others = int((have == k).sum()), int((rest == k).sum())
        p = float(hypergeom.sf(hits - 1, len(have) + len(rest), hits + others, len(have)))
        yield k, len(have), hits, others / len(rest), p


def _values(subject: Subject, label: Label) -> Iterator[_Value]:
    everyone = np.ones(len(subject.ids), bool)
    known = label.values >= 0
    for name, present in subject.has().items():
        yield _Value(f"modality {name}", "who lack it", ~present, everyone)
    for name, table in subject.stores.tables.items():
        together: dict[bytes, list[int]] = defaultdict(list)  # columns that are missing together are one value
        for j in range(len(table.columns)):
            together[np.packbits(table.present & ~table.observed[:, j]).tobytes()].append(j)
            column = f"table {name}, column {table.columns[j]}"
            observed = table.observed[:, j]
            numbers, counts = np.unique(table.values[observed & known, j], return_counts=True)
            frequent = numbers[counts >= CARRIERS]
            if table.kinds[j] == "numeric" and len(numbers) > FEW:
                frequent = np.intersect1d(frequent, numbers[[0, -1]])
            for number in frequent:
                text = f"with {_text(table, table.columns[j], number)}"
                yield _Value(column, text, observed & (table.values[:, j] == number), observed)
        for columns in together.values():
            more = f" (and {len(columns) - 1} more that are missing together)" if len(columns) > 1 else ""
            holes = table.present & ~table.observed[:, columns[0]]
            where = f"table {name}, column {table.columns[columns[0]]}{more}"
            yield _Value(where, "without a value", holes, table.present)


def _text(table: Table, column: str, value: float) -> str:
    categories = table.categories.get(column)
    return repr(categories[int(value)]) if categories is not None else f"the value {value:g}"
