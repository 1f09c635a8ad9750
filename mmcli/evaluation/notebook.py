"""The same evaluation for people who live in notebooks: DataFrames in, DataFrames out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mmcli.errors import RequestError
from mmcli.evaluation.analysis import Question, analyse
from mmcli.evaluation.attributes import Attributes, of_frame, subgroups
from mmcli.evaluation.estimates import Bootstrap
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.result import Result
from mmcli.evaluation.sources import as_table


def evaluate(
    tables: Mapping[str, pd.DataFrame],
    *,
    reference: str | None = None,
    bootstrap: Bootstrap | None = None,
    threshold: str = "argmax",
    coverage: float = 0.9,
    by: Sequence[str] | str = (),
    cut: Mapping[str, str | Sequence[float]] | None = None,
    patients: pd.DataFrame | None = None,
    split: str = "test",
    task: str = "label",
    ordinal: bool = False,
) -> Result:
    """Evaluate predictions as `mmcli evaluate` does.

    Each of `tables` has the columns patient_id, label, one p_<class> a class (the last of two is the positive one), and
    where they apply split, variant, fold, seed, draw (imputation), row (where a patient has several) and columns that
    `by` and `bootstrap.cluster` name; those may stand in `patients` (with patient_id) as well. All other arguments are
    the command's options. `Result` holds one long DataFrame each of metrics, comparisons, subgroups and so on.

        from mmcli.evaluation import Bootstrap, evaluate
        result = evaluate({"ours": ours, "theirs": theirs}, bootstrap=Bootstrap(), by=["sex"], patients=patients)
        result.metrics

    RequestError says in one line what is wrong with a table or an argument.
    """
    if not isinstance(tables, Mapping):
        raise RequestError("tables: give each table a name, as in {'ours': ours, 'theirs': theirs}")
    if not tables:
        raise RequestError("no table of predictions is given")
    for name, given in tables.items():
        if not isinstance(given, pd.DataFrame):
            raise RequestError(f"{name}: a DataFrame of predictions is needed, not a {type(given).__name__}")
        if not given.columns.is_unique:
            twice = given.columns[given.columns.duplicated()][0]
            raise RequestError(f"{name}: two columns are named {twice!r}; drop one")
    if bootstrap is not None and not isinstance(bootstrap, Bootstrap):
        raise RequestError(f"bootstrap: give Bootstrap(), or None for no intervals (given: {bootstrap!r})")
    columns = [by] if isinstance(by, str) else [*by]
    cuts = {c: v if isinstance(v, str) else ",".join(map(str, v)) for c, v in (cut or {}).items()}
    if reference is not None and reference not in tables:
        raise RequestError(f"reference: there is no table {reference!r} (there are: {', '.join(tables)})")
    attributes = Attributes() if patients is None else of_frame(patients, "patients")
    predictions: list[Predictions] = []
    for name, frame in tables.items():
        table = as_table(frame, Path(str(name)), str(name))
        classes = predictions[0].classes if predictions else None
        predictions += [replace(p, ordinal=ordinal) for p in table.predictions(task, split, classes)]
        for column, values in table.attributes().columns.items():
            attributes.add(column, values)
    clusters = attributes.column(bootstrap.cluster, "cluster") if bootstrap and bootstrap.cluster else None
    question = Question(
        bootstrap, reference, threshold, coverage, subgroups(attributes, columns, cuts), clusters,
        bootstrap.confidence if bootstrap else 0.95,
    )  # fmt: skip
    return analyse(predictions, question)
