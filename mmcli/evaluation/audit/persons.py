"""One person behind two ids: the same features, the same table rows, the same files."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mmcli.evaluation.audit.report import FINDING, WARNING, Report, count, named
from mmcli.evaluation.audit.rowkeys import row_keys
from mmcli.evaluation.audit.subject import Bools, Subject
from mmcli.progress import track
from mmcli.store.join import JoinedBag
from mmcli.store.layouts import LAYOUTS
from mmcli.store.parts import UNUSED

Pairs = list[tuple[int, int]]
SHARED = 0.5  # of the smaller bag's instances: a few tiles of background are alike in many patients
FREQUENT = 10  # patients: an instance that more of them share says nothing of any two
NEAR, NEAR_DIM, NEAR_MOST = 0.02, 8, 20_000
SURE_BITS = 20.0
MANY = 3  # ids of one person; more equal rows are cells that somebody filled in
REMEDY = "find out whether they are one person; give one id, or one group to both and make the folds by it"


def check(subject: Subject) -> Report:
    """Two patients with the same evidence are a finding where a fold has them in two roles, and a warning elsewhere.

    Features: half of the smaller bag's instances are the other's too, byte for byte (instances of one number only, and
    those that more than ten patients share, do not count), or the whole bags are. Bags of which the means are fifty
    times nearer to each other than to anybody else's (at least 8 dimensions, at most 20 000 patients) are a warning.
    Rows: all cells of a table, or of all tables together, are equal, and are so rare that two patients anywhere in the
    table would agree by chance with a probability of at most 2^-20: the sum over the observed cells of -log2 of the
    share of patients with that value is at least 2 log2(n) + 20; more than three equal rows of a table are a warning,
    as that is what filled-in holes look like. Files: the same path, or size and fingerprint, except where the import's
    layout keeps many patients in one file.
    """
    report = Report()
    for name, bag in subject.stores.bags.items():
        if bag.dim:
            _features(report, subject, name, bag)
        _files(report, subject, name, bag)
    tables = subject.stores.tables
    found: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name, table in tables.items():
        for own in same_rows(table.values, table.observed, table.present):
            if len(own) > MANY:
                _filled_in(report, subject, name, own)
            else:
                for pair in itertools.pairwise(own):
                    found[pair].append(f"table {name}")
    if len(tables) > 1:
        whole = [np.hstack([getattr(t, part) for t in tables.values()]) for part in ("values", "observed")]
        for own in same_rows(whole[0], whole[1], np.ones(len(subject.ids), bool)):
            for pair in itertools.pairwise(own):
                if pair not in found:
                    found[pair].append("all tables together")
    by_tables: dict[str, Pairs] = defaultdict(list)
    for pair, names in found.items():
        by_tables[", ".join(names)].append(pair)
    for where, pairs in by_tables.items():
        _tell(report, subject, where, pairs, "have the same row, cell by cell")
    if tables:
        report.checked.append(f"persons: rows of {count(len(tables), 'table')}, {len(subject.ids)} patients")
    return report


def _tell(report: Report, subject: Subject, where: str, pairs: Pairs, what: str, near: bool = False) -> None:
    """One line for the pairs that some fold has in two roles, one for the others."""
    if not pairs:
        return
    crossing: dict[tuple[int, int], str] = {}
    for name in subject.fold_sets:
        roles = subject.stores.patients.folds[name]
        for i, j in pairs:
            apart = (roles[i] != roles[j]) & (roles[i] != UNUSED) & (roles[j] != UNUSED)
            if apart.any():
                crossing.setdefault((i, j), name)
    ids = subject.ids
    for some, severity in ((list(crossing), FINDING), ([p for p in pairs if p not in crossing], WARNING)):
        if some:
            examples = named([f"{ids[i]} and {ids[j]}" for i, j in some])
            sets = ", ".join(dict.fromkeys(crossing[p] for p in some if p in crossing))
            roles_text = f", in different roles of a fold of {sets}" if sets else ", never in two roles of a fold"
            report.add(
                WARNING if near else severity, "persons", where,
                f"{count(len(some), 'pair')} of patients {what}{roles_text}: {examples}", REMEDY,
            )  # fmt: skip


def _filled_in(report: Report, subject: Subject, table: str, own: list[int]) -> None:
    report.add(
        WARNING, "persons", f"table {table}",
        f"{len(own)} patients have the same row, cell by cell ({named([subject.ids[i] for i in own])}): hardly so many "
        "ids of one person, rather holes that were filled before",
        "leave holes empty in the cohort's table, so that they are known as holes",
    )  # fmt: skip


def _features(report: Report, subject: Subject, name: str, bag: JoinedBag) -> None:
    n = len(subject.ids)
    keys: list[NDArray[np.uint64]] = []
    means = np.full((n, bag.dim), np.nan)
    for i in track(range(n), n, f"features of {name}", subject.quiet):
        rows = bag.rows("features", i) if bag.offsets[i + 1] > bag.offsets[i] else np.empty((0, bag.dim), np.float32)
        keys.append(row_keys(rows))
        if len(rows):
            means[i] = rows.mean(0, dtype=np.float64)
    same = same_bags(keys)
    _tell(report, subject, f"modality {name}", same, "have the same features")
    there = np.isfinite(means).all(1)
    line = f"persons: features of {int(there.sum())} patients in {name}"
    if bag.dim >= NEAR_DIM and there.sum() <= NEAR_MOST:
        rows_of = np.flatnonzero(there)
        near = [(int(rows_of[i]), int(rows_of[j])) for i, j in near_pairs(means[there])]
        rest = [pair for pair in near if pair not in set(same)]
        _tell(report, subject, f"modality {name}", rest, "have nearly the same features", near=True)
    else:
        why = f"{bag.dim} dimensions" if bag.dim < NEAR_DIM else f"{int(there.sum())} patients"
        report.skipped.append(f"persons: nearly equal features in {name} ({why})")
    report.checked.append(line)


def same_bags(keys: list[NDArray[np.uint64]]) -> Pairs:
    """Pairs of patients with the same instances, given each patient's keys: the whole bag in any order, or SHARED of
    the smaller one. Of several with one whole bag, each and the next one."""
    whole: dict[bytes, list[int]] = defaultdict(list)
    for i, own in enumerate(keys):
        if len(own):
            whole[np.sort(own).tobytes()].append(i)
    pairs = dict.fromkeys(p for owners in whole.values() for p in itertools.pairwise(owners))
    owner = np.repeat(np.arange(len(keys)), [len(own) for own in keys])
    together = np.concatenate([*keys, np.empty(0, np.uint64)])
    order = np.argsort(together, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(together[order]) != 0])) if len(order) else np.empty(0, int)
    lengths = np.diff(np.concatenate([starts, [len(order)]]))
    shared: dict[tuple[int, int], int] = defaultdict(int)
    rare = np.zeros(len(keys), np.int64)  # each patient's distinct instances without the frequent ones
    np.add.at(rare, owner[order[starts[lengths == 1]]], 1)
    for start, length in zip(starts[lengths > 1], lengths[lengths > 1], strict=True):
        owners = np.unique(owner[order[start : start + length]]).tolist()
        if len(owners) <= FREQUENT:
            rare[owners] += 1
            for pair in itertools.combinations(owners, 2):
                shared[pair] += 1
    for (i, j), number in shared.items():
        if number >= SHARED * min(rare[i], rare[j]):
            pairs[i, j] = None
    return list(pairs)


def near_pairs(means: NDArray[np.float64]) -> Pairs:
    """Pairs of rows (n, dim) that are each other's nearest, NEAR times nearer than anybody else is to either."""
    n = len(means)
    if n < 4:
        return []
    sd = means.std(0)
    z = (means - means.mean(0)) / np.where(sd > 0, sd, 1)
    squares = (z**2).sum(1)
    nearest, first, second = np.empty(n, int), np.empty(n), np.empty(n)
    for start in range(0, n, 1024):
        block = slice(start, min(start + 1024, n))
        distance = squares[block, None] + squares[None] - 2 * z[block] @ z.T
        distance[np.arange(block.stop - start), np.arange(start, block.stop)] = np.inf
        two = np.argpartition(distance, 1, axis=1)[:, :2]
        values = np.take_along_axis(distance, two, 1)
        inner = values.argsort(1)
        nearest[block] = np.take_along_axis(two, inner, 1)[:, 0]
        first[block], second[block] = np.sort(values, 1).T
    far = np.sqrt(np.maximum(second, 0))
    found = []
    for i in np.flatnonzero(np.sqrt(np.maximum(first, 0)) <= NEAR * far):
        j = int(nearest[i])
        exact = float(np.sqrt(((z[i] - z[j]) ** 2).sum()))  # without the cancellation of the product
        if nearest[j] == i and i < j and exact <= NEAR * min(far[i], far[j]):
            found.append((int(i), j))
    return found


def same_rows(values: NDArray[np.float64], observed: Bools, present: Bools) -> list[list[int]]:
    """Groups of rows that are equal in every cell, observed or not, and too rare for chance (see `check`)."""
    rows = np.flatnonzero(present)
    if len(rows) < 2:
        return []
    groups: dict[bytes, list[int]] = defaultdict(list)
    clean = np.where(observed, values + 0.0, np.nan)  # -0.0 is 0.0
    for i in rows.tolist():
        groups[clean[i].tobytes()].append(i)
    needed = 2 * np.log2(len(rows)) + SURE_BITS
    return [own for own in groups.values() if len(own) > 1 and _bits(clean[rows], clean[own[0]]) >= needed]


def _bits(values: NDArray[np.float64], row: NDArray[np.float64]) -> float:
    """How rare the observed cells of a row are, in bits, were the columns independent."""
    seen = ~np.isnan(row)
    share = (values[:, seen] == row[seen]).mean(0)
    return float(-np.log2(share).sum())


def _files(report: Report, subject: Subject, name: str, bag: JoinedBag) -> None:
    layout = bag.meta.settings.get("layout", "")
    if layout in LAYOUTS and not LAYOUTS.get(layout).one_a_file:
        report.skipped.append(f"persons: files of {name}: its layout {layout!r} keeps many patients in one file")
        return
    paths: dict[str, set[int]] = defaultdict(set)
    contents: dict[str, set[int]] = defaultdict(set)
    files = 0
    for i in range(len(subject.ids)):
        for source in bag.sources(i):
            files += 1
            paths[source.path].add(i)
            if source.fingerprint:
                contents[f"{source.size} {source.fingerprint}"].add(i)
    same_content = _all_pairs(contents.values())
    same_path = [pair for pair in _all_pairs(paths.values()) if pair not in set(same_content)]
    _tell(report, subject, f"modality {name}", same_content, "have files of the same content")
    _tell(report, subject, f"modality {name}", same_path, "have a file of the same path")
    if files:
        report.checked.append(f"persons: {count(files, 'file')} of {name}")


def _all_pairs(owners: Iterable[set[int]]) -> Pairs:
    return list(dict.fromkeys(pair for own in owners if len(own) > 1 for pair in itertools.pairwise(sorted(own))))
