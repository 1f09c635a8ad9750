"""The paragraph of statistical methods that an author can paste, exact to the seed, and what it cites."""

from __future__ import annotations

import platform
from importlib.metadata import version

from mmcli import __version__
from mmcli.evaluation.reporting.says import KINDS, drawn
from mmcli.evaluation.reporting.shown import joined, records, values
from mmcli.evaluation.reporting.summary import Asked, Summary
from mmcli.evaluation.result import Result

LIBRARIES = ("numpy", "scipy", "pandas", "matplotlib")
CITED = {
    "imputations": "MI boot: Schomaker M, Heumann C. Stat Med 2018; 37: 2252-2266.",
    "tripod": "TRIPOD+AI: Collins GS et al. BMJ 2024; 385: e078378.",
    "bootstrap": "Bootstrap: Efron B, Tibshirani RJ. An Introduction to the Bootstrap. Chapman & Hall, 1993.",
    "bca": "BCa: Efron B. J Am Stat Assoc 1987; 82: 171-185.",
    "expanded": "Expanded levels: Hesterberg TC. Am Stat 2015; 69: 371-386.",
    "delong": "DeLong: DeLong ER, DeLong DM, Clarke-Pearson DL. Biometrics 1988; 44: 837-845.",
    "sun": "Fast DeLong: Sun X, Xu W. IEEE Signal Process Lett 2014; 21: 1389-1393.",
    "wilson": "Wilson: Wilson EB. J Am Stat Assoc 1927; 22: 209-212.",
    "mover": "MOVER: Newcombe RG. Stat Med 1998; 17: 873-890.",
    "mcnemar": "McNemar: McNemar Q. Psychometrika 1947; 12: 153-157.",
    "corrected_t": "Corrected t: Nadeau C, Bengio Y. Mach Learn 2003; 52: 239-281.",
    "wilcoxon": "Signed ranks: Wilcoxon F. Biometrics Bull 1945; 1: 80-83.",
    "holm": "Holm: Holm S. Scand J Stat 1979; 6: 65-70.",
    "bh": "Benjamini-Hochberg: Benjamini Y, Hochberg Y. J R Stat Soc B 1995; 57: 289-300.",
    "conformal": "Conformal sets: Vovk V, Gammerman A, Shafer G. Algorithmic Learning in a Random World. 2005.",
}


def versions() -> dict[str, str]:
    """Versions of the software that evaluated."""
    return {"mmcli": __version__, "Python": platform.python_version(), **{n: version(n) for n in LIBRARIES}}


def methods(result: Result, summary: Summary, asked: Asked) -> str:
    """The paragraph."""
    used = versions()
    libraries = joined([f"{name} {number}" for name, number in used.items() if name != "mmcli"])
    said = [
        f"Predictions were evaluated with mmcli {used['mmcli']} ({libraries}).",
        *[_patients(summary, task.name, asked) for task in summary.tasks],
        _pooling(summary, asked),
        _imputations(result, asked),
        _decision(asked),
        _intervals(result, asked),
        _comparisons(result, asked),
        _rest(result, asked),
    ]
    return " ".join(s for s in said if s)


def cited(result: Result, asked: Asked) -> list[str]:
    """References for what the paragraph names, and nothing else."""
    tests = set(values(result.comparisons, "test"))
    analytic = {a for frame in (result.metrics, result.classes) for a in values(frame, "analytic")}
    names = {
        "bootstrap": asked.bootstrap,
        "bca": asked.bootstrap and asked.drawn_kind in ("bca", "expanded"),
        "expanded": asked.bootstrap and asked.drawn_kind == "expanded",
        "imputations": asked.bootstrap and bool(drawn(result)),
        "delong": "delong" in tests | analytic,
        "sun": "delong" in tests | analytic,
        "wilson": "wilson" in analytic,
        "mover": "mover" in analytic,
        "mcnemar": bool(tests & {"mcnemar", "mcnemar_exact"}),
        "corrected_t": "corrected_t" in tests,
        "wilcoxon": "wilcoxon" in tests,
        "holm": bool(tests),
        "bh": bool(tests),
        "conformal": not result.conformal.empty,
        "tripod": True,
    }
    return [CITED[name] for name, there in names.items() if there]


def _patients(summary: Summary, name: str, asked: Asked) -> str:
    task = next(t for t in summary.tasks if t.name == name)
    classes = ", ".join(f"{c} {n}" for c, n in task.per_class.items())
    rows = "" if task.n == task.patients else f" with {task.n} rows"
    return f"For {name}, {task.patients} patients{rows} of the {asked.split} split were included ({classes})."


def _pooling(summary: Summary, asked: Asked) -> str:
    if not any(len(r.parts) > 1 for r in summary.runs):
        return ""
    one = "row" if any(t.n != t.patients for t in summary.tasks) else "patient"
    numbers = sorted({len(r.parts) for r in summary.runs if r.main})
    many = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return (
        f"Each model was trained {many} times (folds and seeds); each {one} counted once, with the mean of the "
        f"predicted probabilities of the parts in whose {asked.split} split it was."
    )


def _imputations(result: Result, asked: Asked) -> str:
    if not (said := drawn(result)):
        return ""
    covers = ", of which each bootstrap resample saw one, drawn at random (MI boot, pooled)" if asked.bootstrap else ""
    return f"{said} Figures are means over the imputations{covers}."


def _decision(asked: Asked) -> str:
    if asked.threshold == "argmax":
        return "Patients were assigned to the class with the highest predicted probability."
    try:
        return f"The positive class was assigned from a predicted probability of {float(asked.threshold):g} on."
    except ValueError:
        rule = {
            "youden": "the threshold with the highest Youden index",
            "f1": "the threshold with the highest F1 score",
        }.get(asked.threshold, f"the threshold for {asked.threshold.replace('=', ' of at least ')}")
        return (
            f"Binary decisions were made at {rule}, found in each part on its validation patients alone; with several "
            "parts, at the mean of the thresholds of the patient's parts."
        )


def _intervals(result: Result, asked: Asked) -> str:
    said = []
    if asked.bootstrap:
        kind = {
            "percentile": "percentile",
            "basic": "basic",
            "bca": "bias-corrected and accelerated (BCa)",
            "expanded": "expanded bias-corrected and accelerated",
        }[asked.drawn_kind]
        units = f"whole {asked.unit}" if asked.cluster else "patients"
        within = " within each class" if asked.stratify else ""
        said.append(
            f"{asked.level} confidence intervals are {kind} intervals of {asked.resamples} bootstrap resamples of "
            f"{units}{within}, drawn with replacement (seed {asked.seed}); all models and metrics shared the resamples."
        )
        kinds = {k for f in (result.metrics, result.classes, result.subgroups) for k in values(f, "interval")}
        if other := kinds - asked.expected:
            names = joined([KINDS.get(k, k) for k in sorted(other)])
            said.append(f"Where {KINDS[asked.drawn_kind]} intervals were undefined, {names} intervals are given.")
    analytic = set(values(result.metrics, "analytic"))
    if asked.bootstrap and asked.formula_first:
        said.append(
            "Intervals of proportions are Wilson's, those of balanced accuracy Wilson's of each class, combined "
            "(MOVER)."
        )
        analytic -= {"wilson", "mover"}
    formulas = []
    if "delong" in analytic:
        formulas.append("of the AUC by DeLong's method")
    if "wilson" in analytic:
        formulas.append("of proportions by Wilson's method")
    if "mover" in analytic:
        formulas.append("of balanced accuracy by Wilson's limits of each class, combined (MOVER)")
    if formulas:
        also = "Intervals by formula are also given:" if asked.bootstrap else f"{asked.level} confidence intervals are"
        said.append(f"{also} {joined(formulas)}.")
    return " ".join(said)


def _comparisons(result: Result, asked: Asked) -> str:
    tests = values(result.comparisons, "test")
    if not tests:
        return ""
    words = {
        "bootstrap": "two-sided bootstrap p values, dual to the intervals of the paired differences",
        "delong": "DeLong's test of paired AUCs",
        "mcnemar_exact": "McNemar's exact test",
        "mcnemar": "McNemar's test with continuity correction",
        "corrected_t": "a t test over the folds with the variance correction of Nadeau and Bengio",
        "wilcoxon": "Wilcoxon's signed-rank test over the folds",
    }
    which = f"with {asked.reference}" if asked.reference else "with one another, in every pair"
    how = joined([w for t, w in words.items() if t in tests])
    return (
        f"Models were compared {which}, on the patients that both have, by {how}. "
        "P values are reported as they are, and adjusted by the methods of Holm (family-wise error rate) and of "
        "Benjamini and Hochberg (false discovery rate) over the family of all pairs and tasks, for each metric and "
        "test apart; different metrics of the same pair are not adjusted for one another."
    )


def _rest(result: Result, asked: Asked) -> str:
    said = []
    if not result.conformal.empty:
        levels = sorted({r["level"] for r in records(result.conformal)})
        said.append(
            f"Split-conformal prediction sets for a coverage of {joined([f'{100 * v:.4g} %' for v in levels])} were "
            "calibrated on the validation patients, who had also served for early stopping."
        )
    columns = [c for c in values(result.subgroups, "by") if c != "modalities"]
    if columns:
        said.append(f"Subgroups of {joined(columns)} were described with intervals and not tested.")
    if not result.withheld.empty:
        names = joined(values(result.withheld, "modality"))
        how = f"depending on {asked.withhold_by}" if asked.withhold_by else "completely at random"
        seeds = int(result.withheld["seeds"].max())
        said.append(
            f"Robustness was examined by hiding {names} from fixed shares of the patients, chosen {how} ({seeds} "
            f"seed{'' if seeds == 1 else 's'}; the same patients for all models), and predicting again."
        )
    if "calibration_slope" in values(result.metrics, "metric"):
        said.append(
            "The calibration slope is that of a logistic regression of the outcome on the predicted log odds; the "
            "calibration intercept is calibration in the large, with the slope fixed at 1."
        )
    return " ".join(said)
