"""What a check says: findings, and on what it rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

FINDING, WARNING = "finding", "warning"
COLUMNS = ["severity", "check", "where", "what", "remedy"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong ("finding"), or that may be ("warning"), where, and what to do about it."""

    severity: str
    check: str
    where: str
    what: str
    remedy: str

    def row(self) -> dict[str, str]:
        """As a row of the table."""
        return asdict(self)


@dataclass
class Report:
    """A check's findings, one line on what was looked at, and what could not be checked and why."""

    findings: list[Finding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, severity: str, check: str, where: str, what: str, remedy: str) -> None:
        """One more finding."""
        self.findings.append(Finding(severity, check, where, what, remedy))


def named(names: Sequence[str], most: int = 3) -> str:
    """The first few of a list."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 patient`, `3 patients`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
