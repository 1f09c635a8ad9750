"""What every command takes, and what several share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from mmcli.fields import INPUT, MACHINE, OUTPUT, option, required


class Settings(BaseModel):
    """What every command takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    command: ClassVar[str]
    example: ClassVar[str]
    # Options that every command takes, so that one settings file serves all, but that mean nothing to this one.
    no_effect: ClassVar[frozenset[str]] = frozenset()

    seed: int = option(0, "Seed of everything drawn at random.", OUTPUT, least=0, most=2**63 - 1)
    device: Literal["auto", "cpu", "cuda"] = option("auto", "Where tensors live.", MACHINE, request=False)
    workers: int = option(
        0, "Processes or threads; 0 = the cores that the job was given.", MACHINE, request=False, least=0, most=4096
    )
    memory: str = option(
        "",
        "Memory that cached latents may take, e.g. 8G; default half of what is free.",
        MACHINE,
        request=False,
        metavar="SIZE",
    )
    force: bool = option(False, "Replace the output when it holds another request.", OUTPUT, request=False)
    dry_run: bool = option(False, "Check everything, say what would be done, write nothing.", OUTPUT, request=False)
    quiet: bool = option(False, "No progress on stderr.", OUTPUT, request=False)
    json_: bool = option(False, "The result as JSON on stdout, for programs.", OUTPUT, request=False)

    @field_validator("memory")
    @classmethod
    def _size(cls, value: str) -> str:
        if value and not re.fullmatch(r"\d+(\.\d+)?\s*[KMGT]?(I?B)?", value.strip().upper()):
            raise ValueError("no size; write for example 8G or 500M")
        return value

    def request(self) -> dict[str, Any]:
        """What was asked, as canonical JSON values: without the options that only say how to compute it."""
        fields = type(self).model_fields
        names = {n for n, f in fields.items() if (f.json_schema_extra or {}).get("request", True)}  # type: ignore[union-attr]
        names -= self.no_effect
        return {k: v for k, v in self.model_dump(mode="json").items() if k in names}


class AllowFailures(Settings):
    """Commands that may end with exit code 0 although some patients failed."""

    allow_failures: str = option(
        "", "End with exit code 0 although some patients failed: 'any', or at most this number of patients.",
        OUTPUT, request=False, metavar="N|any",
    )  # fmt: skip


class Failures(AllowFailures):
    """Commands that read patients one by one."""

    retry_failed: bool = option(False, "Try the patients again that failed in an earlier run.", OUTPUT, request=False)
    shard: str = option(
        "",
        "Do the i-th of n parts of the patients (0-based), or 'slurm': the array's own numbers.",
        MACHINE,
        metavar="I/N|slurm",
    )
    compression: Literal["none", "gzip", "lzf"] = option("none", "Compression of the store's large arrays.", OUTPUT)


class StoresSettings(Settings):
    """Commands that read feature stores."""

    stores: list[Path] = required(
        "Feature stores, joined by patient id; the first one fixes the patients.",
        INPUT,
        request=False,
        argument=True,
        metavar="STORE...",
    )
    cohort: Path | None = option(
        None, "A cohort whose labels, group and folds replace the stores' own.", INPUT, request=False
    )
    root: Path | None = option(None, "Folder that the cohort's paths are relative to.", INPUT, request=False)
