"""Metrics, one file a figure (and its averages): functions of labels, probabilities and resampling weights.

Every metric answers for many bootstrap resamples in one call, because a resample is nothing but a row of counts: how
often each patient was drawn. `values_of` answers for many metrics and computes once what they share. A new metric is
one file with a `Metric` in it and one line here; a package of somebody else's adds one by an entry point of the group
`mmcli.metrics`.
"""

from mmcli.metrics.by_class import per_class
from mmcli.metrics.metric import Metric, values_of
from mmcli.registry import Registry

METRICS = Registry(
    "metric",
    "mmcli.metrics",
    "mmcli.metrics.metric:Metric",
    {
        "auc": "mmcli.metrics.auc:AUC",
        "auc_ovo": "mmcli.metrics.auc:AUC_OVO",
        "auc_weighted": "mmcli.metrics.auc:AUC_WEIGHTED",
        "auc_micro": "mmcli.metrics.auc:AUC_MICRO",
        "average_precision": "mmcli.metrics.average_precision:AVERAGE_PRECISION",
        "average_precision_weighted": "mmcli.metrics.average_precision:AVERAGE_PRECISION_WEIGHTED",
        "average_precision_micro": "mmcli.metrics.average_precision:AVERAGE_PRECISION_MICRO",
        "accuracy": "mmcli.metrics.accuracy:ACCURACY",
        "accuracy_ovr": "mmcli.metrics.accuracy:ACCURACY_OVR",
        "balanced_accuracy": "mmcli.metrics.balanced_accuracy:BALANCED_ACCURACY",
        "sensitivity": "mmcli.metrics.sensitivity:SENSITIVITY",
        "specificity": "mmcli.metrics.specificity:SPECIFICITY",
        "precision": "mmcli.metrics.precision:PRECISION",
        "npv": "mmcli.metrics.precision:NPV",
        "f1": "mmcli.metrics.f1:F1",
        "sensitivity_macro": "mmcli.metrics.sensitivity:SENSITIVITY_MACRO",
        "specificity_macro": "mmcli.metrics.specificity:SPECIFICITY_MACRO",
        "precision_macro": "mmcli.metrics.precision:PRECISION_MACRO",
        "f1_macro": "mmcli.metrics.f1:F1_MACRO",
        "f1_micro": "mmcli.metrics.f1:F1_MICRO",
        "f1_weighted": "mmcli.metrics.f1:F1_WEIGHTED",
        "f1_of_macro": "mmcli.metrics.f1:F1_OF_MACRO",
        "mcc": "mmcli.metrics.mcc:MCC",
        "kappa": "mmcli.metrics.kappa:KAPPA",
        "kappa_quadratic": "mmcli.metrics.kappa:KAPPA_QUADRATIC",
        "ordinal_mae": "mmcli.metrics.ordinal_mae:ORDINAL_MAE",
        "brier": "mmcli.metrics.brier:BRIER",
        "log_loss": "mmcli.metrics.log_loss:LOG_LOSS",
        "ece": "mmcli.metrics.ece:ECE",
        "calibration_slope": "mmcli.metrics.calibration:CALIBRATION_SLOPE",
        "calibration_intercept": "mmcli.metrics.calibration:CALIBRATION_INTERCEPT",
        "sensitivity_at_90_specificity": "mmcli.metrics.sensitivity_at_specificity:SENSITIVITY_AT_90_SPECIFICITY",
        "sensitivity_at_95_specificity": "mmcli.metrics.sensitivity_at_specificity:SENSITIVITY_AT_95_SPECIFICITY",
        "aurc": "mmcli.metrics.aurc:AURC",
    },
)


def load_metrics(n_classes: int, ordinal: bool = False) -> dict[str, Metric]:
    """All registered metrics that apply to `n_classes` classes, ordered or not, in the registry's order."""
    metrics: dict[str, Metric] = {name: METRICS.get(name) for name in METRICS.names()}
    return {name: metric for name, metric in metrics.items() if metric.applies(n_classes, ordinal)}


__all__ = ["METRICS", "Metric", "load_metrics", "per_class", "values_of"]
