"""mmcli: medical classifiers for patients who have some of their modalities and not others."""

__version__ = "0.1.0"
