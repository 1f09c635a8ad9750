"""Guess a cohort's YAML from a patients' table, for a person to correct."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mmcli.cohort.columns import is_missing, type_columns
from mmcli.cohort.folds import group_codes
from mmcli.errors import RequestError
from mmcli.frames import read_frame

_ID = re.compile(r"(^|[_ .-])(id|identifier|patient|subject|case|pid|mrn|barcode|record)([_ .-]|$)|id$", re.IGNORECASE)
_LABEL = re.compile(
    r"(^|[_ .-])(label|outcome|target|class|category|diagnosis|recurrence|relapse|progression|survival|vital|death|died"
    r"|dead|event|response|responder|remission|malignan\w*|cancer|tumou?r|stage|subtype|biopsy|y)([_ .-]|$)"
    r"|^(status|type)$",
    re.IGNORECASE,
)
_TIME = re.compile(r"(^|[_ .-])(days?|months?|years?|time|date|age|number|score)([_ .-]|$)", re.IGNORECASE)
_GROUP = re.compile(r"(^|[_ .-])(site|centre|center|hospital|institution|clinic|scanner)([_ .-]|$)", re.IGNORECASE)
_ORGAN = re.compile(r"tumou?r|tissue|primary|anatom|lesion|metasta", re.IGNORECASE)
_SPLIT = re.compile(r"^(split|fold|set|partition|part)$", re.IGNORECASE)
_DATE = re.compile(r"(^|[_ .-])date([_ .-]|$)", re.IGNORECASE)
_MASK = re.compile(r"[_ .-]?(mask|segmentation|seg|annotation)([_ .-](path|file))?$", re.IGNORECASE)
_MPP = re.compile(r"(^|[_ .-])mpp([_ .-]|$)|^(um|µm)_per_(px|pixel)$", re.IGNORECASE)
_PATH = re.compile(r"[_ .-]*(path|paths|file|files|filename|folder|dir)$", re.IGNORECASE)
_SLIDE = (".svs", ".ndpi", ".mrxs", ".scn", ".tif", ".tiff", ".bif", ".vms", ".svslide")
_VOLUME = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
_IMAGE = (".png", ".jpg", ".jpeg", ".bmp")
_PLAIN = re.compile(r"[\w.+(/][\w.+()/%µ<> -]*")
_DATES = "a date; for years until another one name it under columns: and say dates: {{{name}: {{until: COLUMN}}}}"
_AGE = re.compile(r"(^|[_ .-])age([_ .-]|$)", re.IGNORECASE)
OLDEST = 120
MIN_FOLDS = 2
DEFAULT_FOLDS = 5


@dataclass
class Guess:
    """What the table seems to be; `left_out` says of every column that is not used why."""

    id: str
    group: str | None = None
    labels: dict[str, list[str]] = field(default_factory=dict)
    unlabelled: dict[str, list[str]] = field(default_factory=dict)
    folds: int = 0
    stratify: str | None = None
    split: str | None = None
    bags: dict[str, dict[str, str]] = field(default_factory=dict)
    clinical: list[str] = field(default_factory=list)
    ages: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def guess(table: Path) -> Guess:
    """Guess from names and cells; RequestError when no column can be the id."""
    frame = read_frame(table)
    if not len(frame):
        raise RequestError(f"{table}: no row under the header; a cohort needs at least one patient")
    columns = {str(name): frame[name].str.strip().to_numpy(dtype=object) for name in frame.columns}
    found = Guess(_id(table, columns))
    left = [name for name in columns if name != found.id]
    left = _bags(table, columns, left, found)
    for name in list(left):
        texts = {text for text in columns[name] if not is_missing(text)}
        if _SPLIT.search(name) and texts and {t.lower() for t in texts} <= {"train", "validation", "test"}:
            found.split = found.split or name
            left.remove(name)
        elif found.group is None and _GROUP.search(name) and not _ORGAN.search(name) and 1 < len(texts) < len(frame):
            found.group = name
            left.remove(name)
    _labels(columns, left, found)
    _clinical(frame, str(table), left, found)
    _folds(columns, found)
    return found


def _id(table: Path, columns: dict[str, np.ndarray]) -> str:
    unique = [name for name, cells in columns.items() if len(set(cells)) == len(cells) and "" not in set(cells)]
    named = [name for name in unique if _ID.search(name)]
    first = next(iter(columns))
    # A number that happens to differ for everybody (a laboratory value) is no id unless it stands first.
    text = [name for name in unique if name == first or not any("." in cell for cell in columns[name])]
    if not (named or text):
        raise RequestError(f"{table}: no column has a different text in every row, so none can be the id; add one")
    return (named or text)[0]


def _kind(cells: np.ndarray, folder: Path) -> str | None:
    texts = [part.strip() for cell in cells if not is_missing(cell) for part in cell.split(";") if part.strip()]
    if not texts:
        return None
    for kind, endings in (("volume", _VOLUME), ("slide", _SLIDE), ("image", _IMAGE)):
        if sum(text.lower().endswith(endings) for text in texts) > len(texts) / 2:
            return kind
    folders = [text for text in texts[:20] if ("/" in text or "\\" in text) and (folder / text).is_dir()]
    return "volume" if folders and len(folders) == len(texts[:20]) else None


def _bags(table: Path, columns: dict[str, np.ndarray], left: list[str], found: Guess) -> list[str]:
    kinds = {name: _kind(columns[name], table.parent) for name in left}
    paths = {name: kind for name, kind in kinds.items() if kind is not None}
    masks = [name for name in paths if _MASK.search(name)]
    used: set[str] = set()
    for name, kind in paths.items():
        if name in masks:
            continue
        stem = _PATH.sub("", name) or kind
        key = re.sub(r"[^A-Za-z0-9_.+-]+", "_", stem).strip("_.+-") or kind
        key = key if key not in found.bags else f"{key}_{len(found.bags) + 1}"
        entry = {"kind": kind, "path": name}
        mine = [m for m in masks if m not in used and _MASK.sub("", m).lower() in (stem.lower(), name.lower())]
        if mine and kind != "slide" and _paired(columns[name], columns[mine[0]]):
            entry["mask"] = mine[0]
        mpps = [m for m in left if m not in used and _MPP.search(m) and kind != "volume" and _positive(columns[m])]
        own = [m for m in mpps if stem.lower() in m.lower()] or mpps[:1]
        if own:
            entry["mpp"] = own[0]
        used |= {column for part, column in entry.items() if part != "kind"}
        found.bags[key] = entry
    for name in masks:
        if name not in used:
            found.left_out[name] = "a mask without a volume or image of that name"
    return [name for name in left if name not in used and name not in masks]


def _paired(paths: np.ndarray, masks: np.ndarray) -> bool:
    return all(is_missing(m) or m.count(";") == p.count(";") for p, m in zip(paths, masks, strict=True))


def _positive(cells: np.ndarray) -> bool:
    numbers = pd.to_numeric(pd.Series([c for c in cells if not is_missing(c)]), errors="coerce")
    return bool(len(numbers)) and bool((numbers > 0).all())


def _labels(columns: dict[str, np.ndarray], left: list[str], found: Guess) -> None:
    for name in list(left):
        texts = sorted({text for text in columns[name] if not is_missing(text)})
        named = _LABEL.search(name) and not _TIME.search(name) and not re.search(r"[/,=@\\]|^[.]", name)
        if named and 2 <= len(texts) <= 6:
            found.labels[name] = texts
            found.unlabelled[name] = sorted({t for t in columns[name] if t and is_missing(t)})
            left.remove(name)


def _clinical(frame: pd.DataFrame, file: str, left: list[str], found: Guess) -> None:
    typed = type_columns(frame[left], file, np.asarray(frame.index, dtype=np.int64), {}, {})
    for j, name in enumerate(left):
        seen = typed.values[typed.observed[:, j], j]
        wrong = [line for line in typed.problems if f"column {name}: " in line]
        if wrong:
            dates = "holds dates" in wrong[0]
            found.left_out[name] = _DATES.format(name=name) if dates else wrong[0].split(f"column {name}: ")[1]
        elif _DATE.search(name):
            found.left_out[name] = _DATES.format(name=name)
        elif len(set(seen.tolist())) < 2:
            found.left_out[name] = "the same in every row" if len(seen) else "no cell is observed"
        elif len(seen) == len(frame) == len(set(seen.tolist())) and _ID.search(name):
            found.left_out[name] = "looks like a second id"
        else:
            found.clinical.append(name)
            if _AGE.search(name) and typed.kinds[j] == "numeric" and seen.min() >= 0 and seen.max() <= OLDEST:
                found.ages.append(name)


def _folds(columns: dict[str, np.ndarray], found: Guess) -> None:
    """As many folds as the smallest class and the groups allow, 5 at most; 0 where two cannot be made."""
    if not found.labels:
        return
    name, classes = next(iter(found.labels.items()))
    smallest = min(int((columns[name] == c).sum()) for c in classes)
    if smallest >= MIN_FOLDS:
        found.stratify = name
    n = min(DEFAULT_FOLDS, smallest if found.stratify else DEFAULT_FOLDS, len(columns[name]) // 2)
    if found.group is not None:
        groups = len(set(group_codes([str(g) for g in columns[found.group]]).tolist()))
        if groups < MIN_FOLDS + 1:
            found.left_out[found.group] = f"{groups} groups are too few to keep apart"
            found.group = None
        else:
            n = min(n, groups)
    found.folds = n if n >= MIN_FOLDS else 0


def render(found: Guess, patients: str) -> str:
    """The YAML, with a comment on each guess."""
    lines = [
        "# Guessed by `mmcli cohort init`: correct what is wrong, then run `mmcli cohort check` on this file.",
        f"patients: {_text(patients)}  # paths in it are relative to this file, or to --root",
        f"id: {_text(found.id)}  # a different text in every row",
    ]
    if found.group is not None:
        lines.append(f"group: {_text(found.group)}  # by its name: never split over folds")
    if found.labels:
        lines += ["labels:  # by their names; classes in order, the first is the reference"]
        for name, classes in found.labels.items():
            shown = f"[{', '.join(map(_text, classes))}]"
            if found.unlabelled[name]:
                shown = f"{{classes: {shown}, unlabelled: [{', '.join(map(_text, ['', *found.unlabelled[name]]))}]}}"
            lines.append(f"  {_text(name)}: {shown}")
    else:
        lines.append("# labels: no column looks like one; e.g.  relapse: [no, yes]")
    if found.folds or (found.split is not None):
        lines.append("folds:")
    if found.folds:
        stratify = f", stratify: {_text(found.stratify)}" if found.stratify else ""
        fewer = "  # not 5: a class or the groups are too few" if found.folds < DEFAULT_FOLDS else ""
        lines.append(f"  cv: {{n: {found.folds}, repeats: 1{stratify}, validation: 0.2, seed: 0}}{fewer}")
    if found.split is not None:
        lines.append(f"  given: {{column: {_text(found.split)}}}  # it holds train, validation, test")
    if not (found.bags or found.clinical):
        lines.append("# modalities: nothing found; name tables, slides, volumes or images")
        return "\n".join([*lines, *_left_out(found)]) + "\n"
    lines.append("modalities:")
    for key, entry in found.bags.items():
        values = ", ".join(f"{k}: {_text(v)}" for k, v in entry.items())
        lines.append(f"  {key}: {{{values}}}  # by the endings of its files")
    if found.clinical:
        key = "clinical" if "clinical" not in found.bags else "clinical_table"
        lines += [
            f"  {key}:  # all that is left; take out what is known only after the outcome",
            "    kind: table",
            "    columns:",
            *(f"      - {_text(name)}" for name in found.clinical),
        ]
        if found.ages:
            limits = ", ".join(f"{_text(name)}: [0, {OLDEST}]" for name in found.ages)
            lines.append(f"    limits: {{{limits}}}  # by its name; a number outside is a problem, or outside: missing")
    return "\n".join([*lines, *_left_out(found)]) + "\n"


def _left_out(found: Guess) -> list[str]:
    if not found.left_out:
        return []
    return ["# Left out:", *(f"#   {' '.join(name.split())}: {why}" for name, why in found.left_out.items())]


def _text(text: str) -> str:
    """A YAML scalar that reads as this text, bare where that is safe, also within [] and {}."""
    bare = _PLAIN.fullmatch(text) and not text.endswith(" ") and " #" not in text
    if bare:
        return text
    # Control characters as \U: YAML has no surrogate pairs, which JSON's escapes would be.
    return '"' + "".join(_escape(character) for character in text) + '"'


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def relative(table: Path, folder: Path) -> str:
    """The table as the YAML in `folder` names it: relative when it lies in or under that folder, else absolute."""
    table, folder = Path(os.path.abspath(table)), Path(os.path.abspath(folder))  # noqa: PTH100  (links stay links)
    return str(table.relative_to(folder)) if table.is_relative_to(folder) else str(table)


__all__ = ["Guess", "guess", "relative", "render"]
