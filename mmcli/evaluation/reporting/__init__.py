"""What an evaluation found, for people and programs: the HTML report, LaTeX, JSON and CSV files, the terminal.

Everything is made from a `Result` alone, so that the page, the files and the terminal cannot disagree.
"""

from mmcli.evaluation.reporting.files import as_json, from_json, write_report
from mmcli.evaluation.reporting.html import Picture
from mmcli.evaluation.reporting.provenance import gather, missingness
from mmcli.evaluation.reporting.text import lines, rows, tables

__all__ = ["Picture", "as_json", "from_json", "gather", "lines", "missingness", "rows", "tables", "write_report"]
