"""Metrics, one file each: functions of labels, probabilities and resampling weights.

Every metric answers for many bootstrap resamples in one call, because a resample is nothing but a row of counts: how
often each patient was drawn. A new metric is one file with a `Metric` in it and one line here; a package of somebody
else's adds one by an entry point of the group `mmcli.metrics`.
"""

from mmcli.metrics.metric import Metric
from mmcli.registry import Registry

METRICS = Registry(
    "metric",
    "mmcli.metrics",
    "mmcli.metrics.metric:Metric",
    {
        "auc": "mmcli.metrics.auc:AUC",
        "accuracy": "mmcli.metrics.accuracy:ACCURACY",
        "balanced_accuracy": "mmcli.metrics.balanced_accuracy:BALANCED_ACCURACY",
        "sensitivity": "mmcli.metrics.sensitivity:SENSITIVITY",
        "specificity": "mmcli.metrics.specificity:SPECIFICITY",
        "sensitivity_macro": "mmcli.metrics.sensitivity:SENSITIVITY_MACRO",
        "specificity_macro": "mmcli.metrics.specificity:SPECIFICITY_MACRO",
        "f1_macro": "mmcli.metrics.f1:F1_MACRO",
        "f1_micro": "mmcli.metrics.f1:F1_MICRO",
        "brier": "mmcli.metrics.brier:BRIER",
        "log_loss": "mmcli.metrics.log_loss:LOG_LOSS",
        "ece": "mmcli.metrics.ece:ECE",
    },
)


def load_metrics(n_classes: int) -> dict[str, Metric]:
    """All registered metrics that are defined for `n_classes` classes, in the registry's order."""
    metrics: dict[str, Metric] = {name: METRICS.get(name) for name in METRICS.names()}
    return {name: metric for name, metric in metrics.items() if metric.applies(n_classes)}


__all__ = ["METRICS", "Metric", "load_metrics"]
