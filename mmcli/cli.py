"""The command line: parses, calls one stage, prints. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from mmcli import __version__
from mmcli.errors import FAULT, WRONG_REQUEST, MmcliError, UnwritableError
from mmcli.options import command
from mmcli.settings import SETTINGS, Settings

# Typer carries its own copy of click from some version on: its exceptions are reached through what it exports.
ClickException: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train medical classifiers on patients who have some of their modalities and not others.",
)
cohort_app = typer.Typer(no_args_is_help=True, help="Write and check the file that says who the patients are.")
store_app = typer.Typer(no_args_is_help=True, help="Look into, check, pack and exchange feature stores.")

STAGES = {
    "preprocess": ("preprocess", "Stages"),
    "extract-features": ("extract", "Stages"),
    "impute": ("impute", "Stages"),
    "train-teacher": ("teacher", "Stages"),
    "distill": ("distill", "Stages"),
    "train-guide": ("guide", "Stages"),
    "evaluate": ("evaluate", "Stages"),
    "predict": ("predict", "Stages"),
    "audit": ("audit", "Stages"),
    "demo": ("demo", "Start here"),
}


def _run_stage(module: str, settings: Settings) -> None:
    _finish(import_module(f"mmcli.stages.{module}").run(settings), settings.json_)


def _finish(outcome: Any, as_json: bool) -> None:
    """Print a stage's outcome on stdout and end with its exit code."""
    from mmcli.printing import print_json, print_outcome

    if as_json:
        print_json(outcome)
    else:
        print_outcome(outcome)
    raise typer.Exit(outcome.exit_code)


def _add_stage(name: str, module: str, panel: str) -> None:
    function = command(SETTINGS[name], lambda settings: _run_stage(module, settings))
    app.command(name, rich_help_panel=panel)(function)


JSON = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout, for programs.")]
NAME = Annotated[str | None, typer.Argument(show_default=False, help="Only this one, with its options.")]
STORES = Annotated[list[Path], typer.Argument(show_default=False, metavar="STORE...", help="Feature stores.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mmcli {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


_add_stage("demo", *STAGES["demo"])
app.add_typer(cohort_app, name="cohort", rich_help_panel="Start here")
for _name, (_module, _panel) in STAGES.items():
    if _name != "demo":
        _add_stage(_name, _module, _panel)
app.add_typer(store_app, name="store", rich_help_panel="Look up")


@app.command("methods", rich_help_panel="Look up")
def methods(name: NAME = None, json_: JSON = False) -> None:
    """List the methods, or one method's options with default, meaning and the paper's equation.

    Example: mmcli methods attention
    """
    _finish(import_module("mmcli.stages.catalogue").methods(name), json_)


@app.command("imputers", rich_help_panel="Look up")
def imputers(name: NAME = None, json_: JSON = False) -> None:
    """List the imputers, or one imputer's options.

    Example: mmcli imputers blend
    """
    _finish(import_module("mmcli.stages.catalogue").imputers(name), json_)


@app.command("encoders", rich_help_panel="Look up")
def encoders(name: NAME = None, json_: JSON = False) -> None:
    """List the encoders with dimension, input size, licence note and where their weights are looked for.

    Example: mmcli encoders efficientnet-lite0
    """
    _finish(import_module("mmcli.stages.catalogue").encoders(name), json_)


@cohort_app.command("init")
def cohort_init(
    table: Annotated[
        Path, typer.Argument(show_default=False, metavar="PATIENTS.csv", help="The table with a row a patient.")
    ],
    out: Annotated[
        Path | None, typer.Option(show_default=False, help="The YAML to write; default cohort.yaml beside the table.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    json_: JSON = False,
) -> None:
    """Write a cohort's YAML from what a table holds, with a comment on each guess.

    Example: mmcli cohort init patients.csv
    """
    _finish(import_module("mmcli.stages.cohort").init(table, out, force), json_)


@cohort_app.command("check")
def cohort_check(
    cohort: Annotated[Path, typer.Argument(show_default=False, metavar="COHORT", help="The cohort's YAML file.")],
    root: Annotated[
        Path | None, typer.Option(show_default=False, help="Folder that its paths are relative to.")
    ] = None,
    json_: JSON = False,
) -> None:
    """Report everything that is wrong with a cohort at once; exit code 5 when something is.

    Example: mmcli cohort check cohort.yaml
    """
    _finish(import_module("mmcli.stages.cohort").check(cohort, root), json_)


def _add_store_stage(name: str, module: str) -> None:
    store_app.command(name)(command(SETTINGS[f"store {name}"], lambda settings: _run_stage(module, settings)))


@store_app.command("info")
def store_info(stores: STORES, json_: JSON = False) -> None:
    """Say what stores hold: patients, labels, fold sets, modalities, tables.

    Example: mmcli store info features.h5
    """
    _finish(import_module("mmcli.stages.store").info(stores), json_)


@store_app.command("verify")
def store_verify(stores: STORES, json_: JSON = False) -> None:
    """Read every byte again and compare it with the store's own checksums; exit code 4 on damage.

    Example: mmcli store verify features.h5
    """
    _finish(import_module("mmcli.stages.store").verify(stores), json_)


@store_app.command("pack")
def store_pack(
    stores: STORES,
    out: Annotated[Path, typer.Option(show_default=False, metavar="FILE.h5", help="The feature store to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    json_: JSON = False,
) -> None:
    """Make one store of several, or of all shards of one.

    Example: mmcli store pack features.shard-*.h5 --out features.h5
    """
    _finish(import_module("mmcli.stages.store").pack(stores, out, force), json_)


for _name, _module in (("import", "imports"), ("export", "exports")):
    _add_store_stage(_name, _module)


class _Stopped(BaseException):
    """Ctrl-C, or SIGTERM as Slurm sends it before a job's end: unwinds the stack, so that files are closed."""


def _stop(number: int, _frame: Any) -> NoReturn:
    raise _Stopped(number)


def main() -> None:
    """The console script: runs the app, turns every known error into one line and its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    sys.exit(_guarded(sys.argv[1:], _leave))


def _leave(code: int) -> int:
    """End now, and let nobody tidy up: HDF5 crashes at exit over a file that it could not write."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _guarded(arguments: list[str], leave: Callable[[int], int] = int) -> int:
    try:
        result = app(arguments, standalone_mode=False, prog_name="mmcli")
        return int(result or 0)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        return 128 + signal.SIGINT
    except _Stopped as stopped:
        number = int(stopped.args[0])
        what = "interrupted" if number == signal.SIGINT else "terminated"
        return _say(f"{what}; the same command goes on where it was", 128 + number)
    except ClickException as error:
        return _say(_click_line(error), WRONG_REQUEST)
    except UnwritableError as error:
        return leave(_say(str(error), error.exit_code))
    except MmcliError as error:
        return _say(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" ({error.filename})" if error.filename else ""
            return _say(
                f"the disk is full{where}: make room, then the same command goes on where it was", WRONG_REQUEST
            )
        if error.errno in _USERS and error.filename:
            return _say(f"{error.filename}: {error.strerror}; correct the path or its rights", WRONG_REQUEST)
        return _fault()
    except Exception:
        return _fault()


_USERS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG,
          errno.EIO, errno.ESTALE, errno.ELOOP, errno.EMFILE)  # fmt: skip


def _fault() -> int:
    traceback.print_exc()
    return _say("this is a fault of mmcli, not of your request: please report it with the lines above", FAULT)


def _say(line: str, code: int) -> int:
    print(f"mmcli: {line}", file=sys.stderr)
    return code


def _click_line(error: Any) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see `{context.command_path} --help`)" if context else ""
    return (" ".join(error.format_message().split()) or "a command is missing") + hint


if __name__ == "__main__":
    main()
