"""The errors that a user sees: one line each, with the exit code of the process that ends with it."""

from __future__ import annotations

DONE = 0
FAULT = 1
WRONG_REQUEST = 2
SOME_FAILED = 3
DAMAGED = 4
FINDINGS = 5


class MmcliError(Exception):
    """Base of all errors whose message is written for the user; ends the command with `exit_code`."""

    exit_code = FAULT


class RequestError(MmcliError):
    """The request was wrong: the message names the file, row, column or option, and how to mend it."""

    exit_code = WRONG_REQUEST


class UnwritableError(RequestError):
    """An output cannot be written: a full disk, a limit, a missing right."""


class DamagedError(MmcliError):
    """A file of ours is damaged: truncated, of a foreign schema, or with bytes that differ from their checksum."""

    exit_code = DAMAGED


class UnreadableError(MmcliError):
    """A patient's source file cannot be read; the message is the reason. Stages catch it, list the patient
    in failures.csv and go on: it never ends a run."""

    exit_code = SOME_FAILED
