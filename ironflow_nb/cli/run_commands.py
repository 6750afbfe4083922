"""Commands that execute and check definitions: ``run`` and ``validate``."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, Final

import click

from ironflow_nb.cli.definition_loader import load_definitions
from ironflow_nb.cli.journal_option import absolute_place, journal_option
from ironflow_nb.cli.output import print_json
from ironflow_nb.core.status import RunKind, RunStatus
from ironflow_nb.errors import DefinitionError, IronflowError, ResultTimeout, RunCancelled, RunFinished, RunInterrupted
from ironflow_nb.execution import REGISTRY, api, logger
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.run_progress import progress_of
from ironflow_nb.handles.runnable import Runnable
from ironflow_nb.handles.typed_arguments import typed_arguments
from ironflow_nb.history.recorded_values import clip

_GRAPHS: Final = frozenset({".yaml", ".yml", ".lua"})
_LOOK_S: Final = 1.0
_PACKAGE: Final = f"{Path(__file__).parent.parent}{os.sep}"
_INTERRUPTED: Final = 130
"""The exit code of a shell for SIGINT."""


@click.command("run")
@click.argument("target")
@click.option("--input", "given", metavar="JSON|@FILE", help="The arguments by name, as a JSON object; - reads stdin.")
@click.option("--key", help="One key is one run, for ever: the same command again continues it or returns its result.")
@click.option("--detach", is_flag=True, help="Hand the run over to workers, and end at once.")
@click.option("--json", "as_json", is_flag=True, help="Print {run_id, status, result} or {run_id, status, error}.")
@journal_option
def run_command(
    *, target: str, given: str | None, key: str | None, detach: bool, as_json: bool, journal: Path | str | None
) -> None:
    """Run the flow or graph of TARGET: FILE.py, .ipynb, .yaml, .lua or package.module, with :NAME if it has several.

    Of a file only definitions are executed. The same command again continues a run that was stopped or killed. What the
    flow prints goes to stdout, with --json to stderr. Ctrl-C pauses the run before its next step; twice, it ends at
    once. The exit code is 0 if the run completed, 1 if it failed, 2 for a wrong use, 130 if it was stopped.
    """
    path = absolute_place(journal)  # a notebook is loaded in its own folder
    arguments = _arguments(given)
    with _told_errors(), _flow_output(as_json):
        definition = _definition(target)
        arguments = _typed(definition, arguments)
        engine = REGISTRY.engine() if path is None else api.use(path)
        definition = definition if key is None else definition.options(key=key)
        run = _started(definition, arguments, detach=detach)
        logger().info("run %s of %s %s, journal %s", run.id, definition.kind, definition.name, engine.journal.location)
        code = 0 if detach else _followed(run)
    _print_outcome(run, as_json=as_json, is_detached=detach)
    engine.close()
    sys.exit(code)


@click.command("validate")
@click.argument("target")
@click.option("--json", "as_json", is_flag=True, help="Print {valid, definitions} or {valid, error}.")
def validate_command(*, target: str, as_json: bool) -> None:
    """Check the graphs and definitions of TARGET, as for run; nothing runs. The exit code is 1 if something is wrong.

    A graph is compiled, a script, notebook or module is loaded.
    """
    try:
        with redirect_stdout(sys.stderr):
            found = _definitions(target)
            for each in found:
                if isinstance(each, Graph):
                    each.validate()
    except (IronflowError, FileNotFoundError) as error:
        if not as_json:
            raise click.ClickException(str(error)) from error
        print_json({"valid": False, "error": str(error)})
        sys.exit(1)
    listed = [{"kind": each.kind, "name": each.name} for each in found]
    if as_json:
        print_json({"valid": True, "definitions": listed})
    else:
        click.echo("\n".join(f"{each['kind']} {each['name']}" for each in listed))


def _arguments(given: str | None) -> Mapping[str, Any]:
    """Return the arguments by name.

    Raises:
        UsageError: they are no JSON object, or the file can't be read.
    """
    if given is None:
        return {}
    try:
        text = sys.stdin.read() if given == "-" else Path(given[1:]).read_text("utf-8") if given[:1] == "@" else given
        found = json.loads(text)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--input is a JSON object, @FILE with one, or - for stdin: {error}") from error
    if not isinstance(found, dict):
        raise click.UsageError(f'--input is a JSON object of arguments by name, {{"n": 3}}, not {clip(repr(found))}')
    return found


def _typed(definition: Runnable, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as the types that the flow declares, as a server does.

    Raises:
        UsageError: one does not fit.
    """
    try:
        return typed_arguments(getattr(definition, "fn", None), arguments)
    except ValueError as error:
        raise click.UsageError(f"{definition.kind} {definition.name}: {error}") from error


def _definition(target: str) -> Runnable:
    """Return the flow or graph of ``FILE``, or of ``FILE:NAME``.

    Raises:
        DefinitionError: it has none, none of that name, or several without a name.
    """
    path, _, name = target.rpartition(":")
    if not path or Path(target).exists():
        path, name = target, ""
    found = _definitions(path)
    fitting = [each for each in found if not name or each.name == name or each.name.endswith(f".{name}")]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(each.name for each in found) or "no flow and no graph"
    if name and not fitting:
        raise DefinitionError(f"{path} has no flow or graph {name!r}; it has {names}")
    raise DefinitionError(f"{path} has {names}" + (f"; choose one: {path}:{found[0].name}" if found else ""))


def _definitions(target: str) -> list[Runnable]:
    """Load the target and return its flows and graphs."""
    if Path(target).suffix in _GRAPHS:
        return [Graph.from_file(target)]
    load_definitions(target)
    found = [each for kind in (RunKind.FLOW, RunKind.GRAPH) for each in REGISTRY.definitions(kind)]
    return [each for each in found if isinstance(each, Runnable)]


def _started(definition: Runnable, arguments: Mapping[str, Any], *, detach: bool) -> Run[Any]:
    """Begin, continue or find the run.

    Raises:
        UsageError: the arguments do not fit.
    """
    try:
        definition.request(*definition.call_by_name(arguments))
    except TypeError as error:
        raise click.UsageError(f"{definition.kind} {definition.name}: {error}") from error
    return definition.start_call(*definition.call_by_name(arguments), detach=detach)


def _followed(run: Run[Any]) -> int:
    """Wait for the end of the run, and return the exit code; the first interrupt pauses it."""
    try:
        _wait(run)
    except KeyboardInterrupt:
        with suppress(RunFinished):  # it has just ended
            run.pause()
            logger().warning("run %s is paused before its next step; Ctrl-C once more ends it at once", run.id)
        run.wait()
    status = run.status
    if status in {RunStatus.PAUSED, RunStatus.INTERRUPTED}:
        logger().warning("run %s is %s; the same command continues it", run.id, status)
        return _INTERRUPTED
    return 0 if status is RunStatus.COMPLETED else 1


def _wait(run: Run[Any]) -> None:
    """Wait until the run has ended, and say what it asks."""
    told: set[str] = set()
    while True:
        try:
            run.wait(timeout_s=_LOOK_S)
        except ResultTimeout:
            for asked in progress_of(REGISTRY.engine(), run.id).questions:
                question = asked[1]
                if question.expression not in told:
                    told.add(question.expression)
                    logger().info("it asks %s: answer with  ironflow-nb answer %s VALUE", question.question, run.id)
            continue
        return


def _print_outcome(run: Run[Any], *, as_json: bool, is_detached: bool) -> None:
    outcome: dict[str, Any] = {"run_id": run.id, "status": run.status.value}
    if is_detached:
        print_json(outcome) if as_json else click.echo(run.id)
        return
    try:
        outcome["result"] = run.result()
    except (RunInterrupted, RunCancelled) as error:
        outcome["error"] = str(error)
    except Exception as error:  # noqa: BLE001 -- the failure of the flow, of any class
        outcome["error"] = f"{type(error).__name__}: {error}"
        click.echo(_traceback_text(error), err=True)
    if as_json:
        print_json(outcome)
    elif outcome.get("result") is not None:
        click.echo(str(outcome["result"]))


def _traceback_text(error: Exception) -> str:
    """Return the traceback without the frames of this package."""
    found: traceback.TracebackException | None = traceback.TracebackException.from_exception(error)
    whole = found
    while found is not None:
        found.stack[:] = [frame for frame in found.stack if not frame.filename.startswith(_PACKAGE)]
        found = found.__cause__ or found.__context__
    return "".join(whole.format()) if whole is not None else ""


@contextmanager
def _told_errors() -> Iterator[None]:
    try:
        yield
    except (IronflowError, FileNotFoundError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _flow_output(as_json: bool) -> Iterator[None]:  # noqa: FBT001 -- one flag
    """Leave stdout to the JSON: what flows print goes to stderr."""
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield
