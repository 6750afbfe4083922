"""``%ironflow``: what people type about runs, and its completion. Every verb has a twin in Python."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NoReturn

from IPython.core.completer import CompletionContext, SimpleMatcherResult
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from ironflow_nb.core.wait_rules import read_payload
from ironflow_nb.diagnosis.doctor import doctor
from ironflow_nb.durable_cells.cell import KIND
from ironflow_nb.durable_cells.listing import cells
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import REGISTRY, frontend
from ironflow_nb.execution import api as engine_api
from ironflow_nb.handles.open_questions import answer_typed, waiting
from ironflow_nb.handles.questions import YES_OR_NO
from ironflow_nb.handles.run import Run, get_run
from ironflow_nb.handles.runnable import Runnable
from ironflow_nb.handles.trust import trust
from ironflow_nb.history import frames
from ironflow_nb.history.sql_query import sql
from ironflow_nb.journal.ports import Select
from ironflow_nb.notebook.matcher import Matcher, matches
from ironflow_nb.notebook.whole_notebook import whole_notebook
from ironflow_nb.triggers.emission import emit
from ironflow_nb.triggers.schedule import Schedule, schedules, schedules_of_name


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the kernel."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` with the message and the usage."""
        raise UsageError(f"%{self.prog}: {message}; {self.format_usage().strip()}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Raise `UsageError` with the usage."""
        raise UsageError(message or self.format_usage().strip())

    def print_help(self, file: object = None) -> None:
        """Print nothing: `exit` says how the verb is used."""


_NEWEST: Final = 10
_LOOKED_AT: Final = 100
"""How many of the newest runs are looked at for one that is no cell: it is meant where no id is given."""
_NESTING: Final = ("nest_asyncio2", "nest_asyncio")
"""Libraries that let a running event loop run again inside of itself; Jupyter installs one of them."""


@magics_class
class IronflowMagics(Magics):
    """The magics of the extension."""

    @line_magic
    def ironflow(self, line: str) -> Any:
        """Look at runs and continue them.

        %ironflow                                     the newest runs and the verbs
        %ironflow runs [FLOW] [--status STATUS] [--since 7d] [--limit N]   runs as a DataFrame     iron.runs()
        %ironflow show [RUN]                          a run with its picture                       iron.get_run(RUN)
        %ironflow steps [RUN] [--status STATUS]       its steps as a DataFrame                     run.steps()
        %ironflow events [RUN]                        its events as a DataFrame                    run.events()
        %ironflow waiting                             the open questions of all runs               iron.waiting()
        %ironflow answer RUN VALUE [--step STEP]      answer one: yes, 3, a text, JSON, a variable run.answer(VALUE)
        %ironflow signal RUN NAME [PAYLOAD] [--id ID]   send a signal, with JSON or a text         run.signal(NAME)
        %ironflow resume [RUN]                        continue it in the background                iron.resume(RUN)
        %ironflow cancel [RUN]                        stop it for good                             run.cancel()
        %ironflow pause [RUN]                         stop it until it is resumed                  run.pause()
        %ironflow fork [RUN] [POSITION]               a new run that goes on from a moment of it   run.fork(POSITION)
        %ironflow attach [RUN]                        follow it in the output of this cell         run
        %ironflow diagram [RUN | FLOW]                the picture of a run, or of a flow           run.diagram()
        %ironflow debug [RUN] [STEP]                  a step again, ready in the next cell         run.debug(STEP)
        %ironflow schedules [NAME] [--pause | --resume | --remove]   schedules as a DataFrame      iron.schedules()
        %ironflow emit EVENT [DATA] [--key KEY]       an event, which starts flows                 iron.emit(EVENT)
        %ironflow sql QUERY                           a query over the tables of the journal       iron.sql(QUERY)
        %ironflow cells                               the durable cells of this notebook           iron.cells()
        %ironflow cells on | off                      every cell is durable, or only %%step cells  IRONFLOW_CELLS=1
        %ironflow cells restore [NAME ...]            restore what is fresh of this notebook, or what variables need
        %ironflow cells again                         execute the next cell, whatever is recorded
        %ironflow doctor                              check the journal and its environment     iron.doctor()
        %ironflow live on | off                       cards with controls in the next cells, or not IRONFLOW_STATIC=1
        %ironflow nest on                             allow asyncio.run(flow()) in cells, until the kernel ends
        %ironflow trust [PATH]                        accept what another user wrote               iron.trust(PATH)
        %ironflow use PATH [--durability process]     make another journal the default one         iron.use(PATH)

        RUN is an id, the beginning of one, or a variable that holds a run; without it, it is the newest run. DATA is
        JSON in single quotes, or a variable.
        """
        try:
            words = ["sql", line.split(None, 1)[1]] if line.startswith("sql ") else shlex.split(line)
        except ValueError as error:
            raise UsageError(f"%ironflow: {error}") from None
        if not words:
            return _overview()
        verb, *arguments = words
        if verb not in VERBS:
            near = get_close_matches(verb, VERBS, n=1)
            hint = f"did you mean %ironflow {near[0]}?" if near else f"there are: {', '.join(VERBS)}"
            raise UsageError(f"%ironflow knows no {verb!r}; {hint}")
        try:
            return VERBS[verb](self, arguments)
        except IronflowError as error:
            raise UsageError(f"%ironflow {verb}: {error}") from error

    def find_run(self, text: str | None) -> Run[Any]:
        """Return the run of an id, a prefix or a variable; for None the newest one."""
        found = None if text is None or self.shell is None else self.shell.user_ns.get(text)
        if isinstance(found, Run):
            return found
        if text is not None:
            return get_run(text)
        engine = REGISTRY.engine()
        with engine.reading() as reader:
            newest = reader.runs(Select(limit=_LOOKED_AT))
        newest = [row for row in newest if row.kind != KIND] or newest
        if not newest:
            raise UsageError(f"%ironflow: there are no runs in {engine.journal.location}")
        return Run(engine, newest[0].run_id)

    def read_data(self, text: str | None) -> Any:
        """Return the value of a variable, or of a JSON text; None for None."""
        if text is None:
            return None
        if self.shell is not None and text in self.shell.user_ns:
            return self.shell.user_ns[text]
        try:
            return json.loads(text)
        except ValueError:
            raise UsageError(
                f"%ironflow: {text!r} is no variable and no JSON; put JSON in single quotes: '{{\"id\": 7}}'"
            ) from None


def _overview() -> Any:
    """Print where the journal is and which verbs there are; return the newest runs."""
    engine = REGISTRY.engine()
    newest = frames.runs(limit=_NEWEST)
    going = ", ".join(f"{n} {status}" for status, n in newest["status"].value_counts().items())
    print(f"{engine.journal.location}: {f'the newest runs ({going})' if going else 'no runs'}")
    print(f"%ironflow {' | '.join(VERBS)}; %ironflow? tells more")
    return None if newest.empty else newest


def _runs(_magics: IronflowMagics, words: list[str]) -> Any:
    parser = Parser("ironflow runs")
    parser.add_argument("flow", nargs="?")
    parser.add_argument("--status")
    parser.add_argument("--since")
    parser.add_argument("--limit", type=int)
    given = parser.parse_args(words)
    try:
        return frames.runs(given.flow, status=given.status, since=given.since, limit=given.limit)
    except ValueError as error:
        raise UsageError(f"%ironflow runs: {error}") from None


def _show(magics: IronflowMagics, words: list[str]) -> Any:
    return _parse_run(magics, "show", words)


def _steps(magics: IronflowMagics, words: list[str]) -> Any:
    parser = _run_parser("steps")
    parser.add_argument("--status")
    given = parser.parse_args(words)
    run = magics.find_run(given.run)
    try:
        return frames.steps(run=run.id, status=given.status)
    except ValueError as error:
        raise UsageError(f"%ironflow steps: {error}") from None


def _events(magics: IronflowMagics, words: list[str]) -> Any:
    return _parse_run(magics, "events", words).events()


def _resume(magics: IronflowMagics, words: list[str]) -> Any:
    return _parse_run(magics, "resume", words).resume()


def _cancel(magics: IronflowMagics, words: list[str]) -> Any:
    return _parse_run(magics, "cancel", words).cancel()


def _pause(magics: IronflowMagics, words: list[str]) -> Any:
    return _parse_run(magics, "pause", words).pause()


def _fork(magics: IronflowMagics, words: list[str]) -> Any:
    parser = _run_parser("fork")
    parser.add_argument("position", nargs="?", type=int)
    given = parser.parse_args(words)
    return magics.find_run(given.run).fork(given.position)


def _attach(magics: IronflowMagics, words: list[str]) -> Any:
    run, notebook = _parse_run(magics, "attach", words), frontend()
    if notebook is None or not hasattr(magics.shell, "kernel"):  # where no output can be replaced later
        return run
    notebook.began(REGISTRY.engine(), run.id)
    return None


def _diagram(magics: IronflowMagics, words: list[str]) -> Any:
    name = _run_parser("diagram").parse_args(words).run
    held: Any = None if name is None or magics.shell is None else magics.shell.user_ns.get(name)
    return held.diagram() if hasattr(held, "diagram") else magics.find_run(name).diagram()


def _sql(_magics: IronflowMagics, words: list[str]) -> Any:
    if not words:
        raise UsageError("%ironflow sql: write a query, such as %ironflow sql SELECT name, status FROM runs")
    return sql(words[0])


def _live(_magics: IronflowMagics, words: list[str]) -> None:
    parser = Parser("ironflow live")
    parser.add_argument("state", choices=["on", "off"])
    os.environ["IRONFLOW_STATIC"] = "1" if parser.parse_args(words).state == "off" else ""


def _nest(_magics: IronflowMagics, words: list[str]) -> None:
    parser = Parser("ironflow nest")
    parser.add_argument("state", choices=["on"])
    parser.parse_args(words)
    name = next((name for name in _NESTING if find_spec(name) is not None), None)
    if name is None:
        raise UsageError("%ironflow nest on: nest-asyncio2 is not installed; pip install 'ironflow-nb[nest]'")
    import_module(name).apply()


def _trust(_magics: IronflowMagics, words: list[str]) -> Any:
    parser = Parser("ironflow trust")
    parser.add_argument("path", nargs="?")
    return trust(parser.parse_args(words).path)


def _debug(magics: IronflowMagics, words: list[str]) -> Any:
    parser = _run_parser("debug")
    parser.add_argument("step", nargs="?")
    given = parser.parse_args(words)
    return magics.find_run(given.run).debug(given.step)


def _schedules(_magics: IronflowMagics, words: list[str]) -> Any:
    parser = Parser("ironflow schedules")
    parser.add_argument("name", nargs="?")
    what = parser.add_mutually_exclusive_group()
    for change in ("pause", "resume", "remove"):
        what.add_argument(f"--{change}", dest="change", action="store_const", const=change)
    given = parser.parse_args(words)
    if given.name is None and given.change is not None:
        raise UsageError(f"%ironflow schedules: --{given.change} needs the name of a schedule")
    if given.change is not None:
        getattr(_schedule(given.name), given.change)()
    found = schedules()
    return found if given.name is None else found[found["schedule"] == given.name]


def _schedule(name: str) -> Schedule:
    named = schedules_of_name(REGISTRY.engine(), name)
    if len(named) != 1:
        flows = ", ".join(each.flow for each in named)
        many = f"several flows have one ({flows}); write FLOW.schedule(name={name!r})"
        raise UsageError(f"%ironflow schedules: no schedule is called {name!r}" if not named else f"{name!r}: {many}")
    return named[0]


def _emit(magics: IronflowMagics, words: list[str]) -> str:
    parser = Parser("ironflow emit")
    parser.add_argument("event")
    parser.add_argument("data", nargs="?")
    parser.add_argument("--key")
    given = parser.parse_args(words)
    try:
        return emit(given.event, magics.read_data(given.data), key=given.key)
    except ValueError as error:
        raise UsageError(f"%ironflow emit: {error}") from None


def _waiting(_magics: IronflowMagics, words: list[str]) -> Any:
    Parser("ironflow waiting").parse_args(words)
    return waiting()


def _answer(magics: IronflowMagics, words: list[str]) -> Any:
    parser = Parser("ironflow answer")
    parser.add_argument("run")
    parser.add_argument("value", nargs="+")
    parser.add_argument("--step")
    given = parser.parse_args(words)
    run, text = magics.find_run(given.run), " ".join(given.value)
    held = None if magics.shell is None else magics.shell.user_ns.get(text)
    if held is None:
        answer_typed(REGISTRY.engine(), run.id, text, given.step)
        return run
    return run.answer(held, given.step)


def _signal(magics: IronflowMagics, words: list[str]) -> Any:
    parser = Parser("ironflow signal")
    parser.add_argument("run")
    parser.add_argument("name")
    parser.add_argument("payload", nargs="*")
    parser.add_argument("--id")
    given = parser.parse_args(words)
    text = " ".join(given.payload)
    try:
        return magics.find_run(given.run).signal(given.name, read_payload(text) if text else None, id=given.id)
    except ValueError as error:
        raise UsageError(f"%ironflow signal: {error}") from None


def _cells(magics: IronflowMagics, words: list[str]) -> Any:
    parser = Parser("ironflow cells")
    parser.add_argument("action", nargs="?", choices=["on", "off", "restore", "again"])
    parser.add_argument("names", nargs="*")
    given = parser.parse_args(words)
    action = given.action
    if given.names and action != "restore":
        parser.error("only restore takes names of variables")
    whole = whole_notebook(magics.shell)
    if action == "on":
        whole.turn_on()
    elif action == "off":
        whole.turn_off()
    elif action == "again":
        whole.run_next_again()
    elif action == "restore":
        print(whole.restore(given.names))
    return None if action in {"on", "off", "again"} else cells()


def _doctor(_magics: IronflowMagics, words: list[str]) -> Any:
    Parser("ironflow doctor").parse_args(words)
    return doctor()


def _use(_magics: IronflowMagics, words: list[str]) -> None:
    parser = Parser("ironflow use")
    parser.add_argument("path")
    parser.add_argument("--durability", choices=["power", "process"], default="power")
    given = parser.parse_args(words)
    engine_api.use(given.path, durability=given.durability)


def _run_parser(verb: str) -> Parser:
    parser = Parser(f"ironflow {verb}")
    parser.add_argument("run", nargs="?")
    return parser


def _parse_run(magics: IronflowMagics, verb: str, words: list[str]) -> Run[Any]:
    return magics.find_run(_run_parser(verb).parse_args(words).run)


VERBS: Final[dict[str, Callable[[IronflowMagics, list[str]], Any]]] = {
    "runs": _runs,
    "show": _show,
    "steps": _steps,
    "events": _events,
    "waiting": _waiting,
    "answer": _answer,
    "signal": _signal,
    "resume": _resume,
    "cancel": _cancel,
    "pause": _pause,
    "fork": _fork,
    "attach": _attach,
    "diagram": _diagram,
    "debug": _debug,
    "schedules": _schedules,
    "emit": _emit,
    "sql": _sql,
    "cells": _cells,
    "doctor": _doctor,
    "live": _live,
    "nest": _nest,
    "trust": _trust,
    "use": _use,
}


_OF_A_RUN: Final = frozenset(
    {"show", "steps", "events", "resume", "cancel", "pause", "fork", "attach", "diagram", "debug", "signal"}
)
"""The verbs whose first word is a run."""


def complete(line: str) -> list[str]:
    """Return the completions: verbs, and after a verb the ids of the newest runs."""
    words = line.split()
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        return list(VERBS)
    try:
        if words[1] == "answer":
            return _answer_completions(words[2:-1] if not line.endswith(" ") else words[2:])
        if words[1] in _OF_A_RUN:
            with REGISTRY.engine().reading() as reader:
                # A foreign journal can have any text as an id, and Tab must not write it into a cell.
                return [row.run_id for row in reader.runs(Select(limit=20)) if row.run_id.isalnum()]
    except IronflowError:
        return []
    return []


def _answer_completions(before: list[str]) -> list[str]:
    """Return the runs that ask something; after one of them, the answers that can be counted."""
    asked = waiting()
    if not before:
        return [run_id for run_id in dict.fromkeys(asked["run_id"]) if run_id.isalnum()]
    of_run = asked[asked["run_id"].str.startswith(before[0])]
    if len(before) > 1 or of_run.empty:
        return []
    choices = of_run["choices"].iloc[0]
    offered = ["yes", "no"] if choices is None and of_run["fits"].iloc[0] == YES_OR_NO.fits else choices or []
    return [text for text in map(str, offered) if text.isprintable()]


_MAGIC_LINE: Final = re.compile(r"\s*%ironflow\s+.*")
_STEP: Final = re.compile(r"""([A-Za-z_]\w*)(\.last)?\.(?:explain|debug|value|values|inputs)\(\s*(["'])([^"']*)$""")
_MOST_STEPS: Final = 200


class RunMatcher(Matcher):
    """Completes verbs, ids of runs and ids of steps; where it has completions, others are suppressed."""

    matcher_identifier: Final = "ironflow_nb.run"

    def __call__(self, context: CompletionContext) -> SimpleMatcherResult:
        """Return the completions at the cursor."""
        line = context.line_with_cursor[: context.cursor_position]
        if _MAGIC_LINE.fullmatch(line):
            word = "" if line[-1].isspace() else line.split()[-1]
            return matches(complete(line), word)
        found = _STEP.search(line)
        return matches([], "") if found is None else matches(self._steps(found[1], is_last=bool(found[2])), found[4])

    def _steps(self, name: str, *, is_last: bool) -> list[str]:
        """Return the ids of the steps of the run that the variable holds, or of the last run of its flow."""
        held = self._shell.user_ns.get(name)
        try:
            run = held.last if is_last and isinstance(held, Runnable) else held
            steps = run.steps()["step"].tolist() if isinstance(run, Run) else []
        except IronflowError:
            return []
        return [step for step in steps[:_MOST_STEPS] if step.isprintable()]
