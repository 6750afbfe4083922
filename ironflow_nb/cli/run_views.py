"""Commands that show and steer runs: ``list``, ``inspect``, ``cancel``, ``answer`` and their like."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from ironflow_nb.cli.journal_option import existing_journal, journal_option
from ironflow_nb.cli.output import print_frame, print_json
from ironflow_nb.core.status import ENDED, RunStatus
from ironflow_nb.core.wait_rules import read_payload
from ironflow_nb.diagnosis.doctor import doctor
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.graphs.catalog import nodes
from ironflow_nb.handles.open_questions import answer_typed, waiting
from ironflow_nb.handles.portable_runs import export, import_
from ironflow_nb.handles.run import Run, get_run
from ironflow_nb.handles.snapshot import Snapshot
from ironflow_nb.history.breakers_frame import breakers
from ironflow_nb.history.frames import runs
from ironflow_nb.history.lanes_frame import lanes
from ironflow_nb.history.sql_query import sql
from ironflow_nb.history.work_frame import work
from ironflow_nb.retention.prune import prune
from ironflow_nb.retention.usage import usage
from ironflow_nb.triggers.emission import emit
from ironflow_nb.triggers.schedule import schedules

_POLL_S: Final = 0.5
_FRAME_S: Final = 0.25
_CLEAR: Final = "\x1b[H\x1b[2J"


def _known_runs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the newest runs whose ids begin so, for the completion of the shell."""
    with existing_journal(context.params.get("journal")):
        rows = runs(limit=100)
    shown = zip(rows["run_id"], rows["name"], rows["status"], strict=True)
    return [CompletionItem(run, help=f"{name}, {status}") for run, name, status in shown if run.startswith(incomplete)]


_json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_run_argument: Final = click.argument("run", shell_complete=_known_runs)


@click.command("list")
@click.option("--flow", help="Only runs of this flow, graph or decider.")
@click.option("--status", "statuses", multiple=True, help="Only runs with this status; may be given several times.")
@click.option("--since", help="Only runs since an ISO time, or a duration before now: 7d.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many are listed, the newest."
)
@_json_option
@journal_option
def list_command(
    *, flow: str | None, statuses: tuple[str, ...], since: str | None, limit: int, as_json: bool, journal: Path | None
) -> None:
    """List runs, the newest first."""
    with existing_journal(journal):
        print_frame(runs(flow=flow, status=statuses or None, since=since, limit=limit), as_json=as_json)


@click.command("inspect")
@_run_argument
@click.option("--events", "shown", flag_value="events", help="Its events instead of its steps.")
@click.option("--attempts", "shown", flag_value="attempts", help="Every attempt of its steps.")
@click.option("--log", "shown", flag_value="log", help="What it has written to stdout, stderr and logging.")
@click.option("--at", metavar="MOMENT", help="As it was then: a version, 10:42, an ISO time; -3 is three events back.")
@click.option("--replay", is_flag=True, help="Show it event by event, a few a second.")
@click.option("--follow", is_flag=True, help="Show it until it has ended.")
@_json_option
@journal_option
def inspect_command(
    *, run: str, shown: str | None, at: str | None, replay: bool, follow: bool, as_json: bool, journal: Path | None
) -> None:
    """Show a run: its picture as text, and its steps.

    RUN is an id, or the beginning of one. With --follow the picture is shown anew at each change until the run has
    ended; the exit code is then 0 if it completed, and else 1.
    """
    with existing_journal(journal) as engine:
        found = get_run(run)
        if at is not None:
            _print_snapshot(found.at(_moment(at)), as_json=as_json)
            return
        if replay:
            _replay(engine, found)
            return
        if follow:
            _follow(engine, found)
        frame = found.log() if shown == "log" else getattr(found, shown or "steps")()
        if as_json:
            print_json({"run_id": found.id, "status": found.status.value, shown or "steps": frame})
            return
        if not follow:
            click.echo(f"{found.diagram().text}\n")
        if shown == "log":
            click.echo(str(frame))
        else:
            print_frame(frame, as_json=False)
    if follow:
        sys.exit(0 if found.status is RunStatus.COMPLETED else 1)


def _moment(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdecimal() else text


def _print_snapshot(snapshot: Snapshot, *, as_json: bool) -> None:
    if as_json:
        about = {"run_id": snapshot.run_id, "version": snapshot.version, "at": snapshot.at, "status": snapshot.status}
        print_json({**about, "steps": snapshot.steps()})
        return
    click.echo(f"version {snapshot.version}, {snapshot.at:%Y-%m-%d %H:%M:%S}Z\n{snapshot.diagram().text}\n")
    print_frame(snapshot.steps(), as_json=False)


def _replay(engine: Engine, run: Run[Any]) -> None:
    """Show the run after each of its events; a terminal shows four a second."""
    wakeup, last = engine.threads.wakeup(), run.at(-1).version
    for version in range(1, last + 1):
        snapshot = run.at(version)
        _show_frame(f"version {version} of {last}, {snapshot.at:%H:%M:%S}Z\n{snapshot.diagram().text}\n")
        engine.clock.wait(wakeup, _FRAME_S if sys.stdout.isatty() else 0.0)


def _show_frame(text: str) -> None:
    click.echo(f"{_CLEAR if sys.stdout.isatty() else ''}{text}")


def _follow(engine: Engine, run: Run[Any]) -> None:
    before, wakeup = "", engine.threads.wakeup()
    while True:
        status, text = run.status, run.diagram().text  # in this order: the last picture is that of the end
        if text != before:
            _show_frame(f"{text}\n")
            before = text
        if status in ENDED:
            return
        engine.clock.wait(wakeup, _POLL_S)


def _print_run(run: Run[Any], *, as_json: bool) -> None:
    outcome = {"run_id": run.id, "status": run.status.value}
    if as_json:
        print_json(outcome)
    else:
        click.echo(" ".join(outcome.values()))


def _steered(name: str, act: Callable[[Run[Any]], object], words: str) -> click.Command:
    """Return a command that does that to a run."""

    @_run_argument
    @_json_option
    @journal_option
    def steer(*, run: str, as_json: bool, journal: Path | None) -> None:
        with existing_journal(journal, read_only=False):
            found = get_run(run)
            act(found)
            _print_run(found, as_json=as_json)

    return click.command(name, help=words)(steer)


cancel_command = _steered("cancel", Run.cancel, "Cancel a run before its next step; running steps end and are kept.")
pause_command = _steered("pause", Run.pause, "Stop a run before its next step; it can be continued.")
detach_command = _steered("detach", Run.detach, "Hand a run over to workers.")


@click.command("signal")
@_run_argument
@click.argument("name")
@click.argument("payload", required=False)
@click.option("--id", "signal_id", help="The same id is one signal, however often it is sent.")
@journal_option
def signal_command(*, run: str, name: str, payload: str | None, signal_id: str | None, journal: Path | None) -> None:
    """Send a signal to a run; PAYLOAD is JSON, or else a text."""
    with existing_journal(journal, read_only=False):
        get_run(run).signal(name, None if payload is None else read_payload(payload), id=signal_id)


@click.command("answer")
@_run_argument
@click.argument("value")
@click.option("--step", help="Which question, iron.ask[1], if the run asks several.")
@journal_option
def answer_command(*, run: str, value: str, step: str | None, journal: Path | None) -> None:
    """Answer a question of a run: yes, no, a number, a date, a choice, a text or JSON."""
    with existing_journal(journal, read_only=False):
        answer_typed(REGISTRY.engine(), get_run(run).id, value, step)


@click.command("emit")
@click.argument("event")
@click.argument("data", required=False)
@click.option("--key", help="The same key is one event.")
@_json_option
@journal_option
def emit_command(*, event: str, data: str | None, key: str | None, as_json: bool, journal: Path | None) -> None:
    """Record an event, which starts the flows that wait for it in workers and kernels; DATA is JSON, or else a text."""
    with existing_journal(journal, read_only=False):
        event_id = emit(event, None if data is None else read_payload(data), key=key)
        print_json({"event_id": event_id}) if as_json else click.echo(event_id)


def _listing(name: str, frame: Callable[[], Any], words: str) -> click.Command:
    """Return a command that prints a frame of the journal."""

    @_json_option
    @journal_option
    def show(*, as_json: bool, journal: Path | None) -> None:
        with existing_journal(journal):
            print_frame(frame(), as_json=as_json)

    return click.command(name, help=words)(show)


waiting_command = _listing("waiting", waiting, "List the open questions of all runs.")
schedules_command = _listing("schedules", schedules, "List the schedules.")
lanes_command = _listing("lanes", lanes, "List the lanes, and what is in them.")
breakers_command = _listing("breakers", breakers, "List the circuit breakers.")
queue_command = _listing("queue", work, "List the queue of due work: waits, timers, effects, starts.")


usage_command = _listing("usage", usage, "List how much space flows and their steps use, the largest first.")


@click.command("prune")
@click.option("--flow", help="Only runs of this flow or graph.")
@click.option("--older-than", help="Only runs that ended before: an ISO time, or a duration before now: 30d.")
@click.option("--keep", type=click.IntRange(min=1), help="How many of the newest runs of each flow stay.")
@click.option("--status", "statuses", multiple=True, help="By default completed, failed and cancelled.")
@click.option("--yes", is_flag=True, help="Delete them for ever; without it they are only listed.")
@_json_option
@journal_option
def prune_command(
    *, flow: str | None, older_than: str | None, keep: int | None, statuses: tuple[str, ...], yes: bool, as_json: bool,
    journal: Path | None,
) -> None:  # fmt: skip
    """List the runs that nothing needs any more; with --yes delete them."""
    with existing_journal(journal, read_only=not yes):
        found = prune(flow, older_than=older_than, keep=keep, status=statuses or None, dry_run=not yes)
        print_frame(found, as_json=as_json)


@click.command("export")
@_run_argument
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@journal_option
def export_command(*, run: str, path: Path, journal: Path | None) -> None:
    """Write a run into one file, which goes on where it is imported."""
    with existing_journal(journal):
        click.echo(export(run, path))


@click.command("import")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@_json_option
@journal_option
def import_command(*, path: Path, as_json: bool, journal: Path | None) -> None:
    """Add an exported run to the journal; what somebody else wrote is shown, and does nothing before it is trusted."""
    with existing_journal(journal, read_only=False, may_be_new=True):
        _print_run(import_(path), as_json=as_json)


@click.command("sql")
@click.argument("query")
@_json_option
@journal_option
def sql_command(*, query: str, as_json: bool, journal: Path | None) -> None:
    """Print what a query in SQLite's SQL selects of the views run_history, step_history, event_history, and others."""
    with existing_journal(journal):
        print_frame(sql(query), as_json=as_json)


@click.command("nodes")
@_json_option
def nodes_command(*, as_json: bool) -> None:
    """List the kinds of nodes that graphs can have."""
    frame = nodes()
    print_frame(frame if as_json else frame[["kind", "description", "source"]], as_json=as_json)


@click.command("verify")
@click.argument("seal", required=False)
@_json_option
@journal_option
def verify_command(*, seal: str | None, as_json: bool, journal: Path | None) -> None:
    """Check that the journal is whole and as it was sealed, and seal what is new; the exit code is 1 if it is not.

    SEAL is that of an earlier verification, which must still be there.
    """
    from ironflow_nb.retention.verification import verify

    with existing_journal(journal, read_only=False):
        found = verify(seal)
        if not as_json:
            click.echo(found.headline)
        print_frame(found, as_json=as_json)
    sys.exit(0 if found.ok else 1)


@click.command("doctor")
@_json_option
@journal_option
def doctor_command(*, as_json: bool, journal: Path | None) -> None:
    """Check the journal and its environment; the exit code is 1 if there is a problem."""
    with existing_journal(journal):
        report = doctor()
        print_frame(report, as_json=as_json)
    sys.exit(1 if "problem" in set(report["state"]) else 0)
