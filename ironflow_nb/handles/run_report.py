"""The report of a run: one self-contained text, as HTML and as Markdown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.handles.recorded_run import RecordedRun
from ironflow_nb.history import frames
from ironflow_nb.values.private_files import new_file

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.diagram.draw import Picture

N_STEPS: Final = 20
N_LINES: Final = 200
_EDITS: Final = ("OutputInjected", "InjectionUndone", "StepRedacted")
_RUN: Final = ["run_id", "name", "status", "started_at", "finished_at", "duration_s", "n_sessions"]
_STEP: Final = ["step", "attempt", "status", "started_at", "duration_s", "reason", "output", "error"]
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}"
    "td,th{border:1px solid #8884;padding:.2em .6em;text-align:left}"
    "pre{background:#8881;padding:.8em;overflow-x:auto}svg{max-width:100%}"
)


@dataclass(frozen=True)
class Section:
    """One part of a report: a table or a text under a title."""

    title: str
    rows: tuple[tuple[str, ...], ...] = ()
    text: str = ""


@dataclass(frozen=True)
class RunReport:
    """What is recorded of a run, to be read without the journal. `html` and `markdown` need nothing but themselves."""

    run_id: RunId
    title: str
    picture: Picture
    sections: tuple[Section, ...]

    @property
    def html(self) -> str:
        """The report as a page: no script, no style sheet or picture from elsewhere."""
        drawn = self.picture.svg or f"<pre>{escape(self.picture.text)}</pre>"
        parts = "".join(f"<h2>{escape(each.title)}</h2>{_html(each)}" for each in self.sections)
        head = f'<meta charset="utf-8"><title>{escape(self.title)}</title><style>{_STYLE}</style>'
        return (
            f'<!doctype html><html lang="en"><head>{head}</head>'
            f"<body><h1>{escape(self.title)}</h1>{drawn}{parts}</body></html>"
        )

    @property
    def markdown(self) -> str:
        """The report as Markdown, with the diagram as text."""
        parts = [f"# {_cell(self.title)}", _fenced(self.picture.text)]
        for each in self.sections:
            parts += [f"## {each.title}", _markdown(each)]
        return "\n\n".join(parts) + "\n"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report into a new file that only its user can read; ``.md`` is Markdown, ``.html`` HTML.

        Raises:
            ValueError: the name ends in another way.
            FileExistsError: something is there already.
        """
        target = Path(path).expanduser().absolute()
        if target.suffix not in {".md", ".html"}:
            raise ValueError(f"a report is a file .html or .md, got {target.name!r}")
        text = self.markdown if target.suffix == ".md" else self.html
        with new_file(target) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
        return target

    def __repr__(self) -> str:
        return f"<report: {self.title}>"

    def _repr_html_(self) -> str:
        return f'<iframe style="width:100%;height:40em;border:0" sandbox srcdoc="{escape(self.html)}"></iframe>'


def report_of(run: RecordedRun) -> RunReport:
    """Return the report of a run, as it is at this moment."""
    found = frames.runs(run=run.id, engine=run._engine)  # noqa: SLF001 -- the same room
    name = str(found["name"].iloc[0]) if len(found) else "?"
    title = plain(f"{name}: run {run.id}, {run.status.value}")
    sections = (Section("Run", _rows(found, _RUN)), *_sections(run))
    return RunReport(run.id, title, run.diagram(), sections)


def _sections(run: RecordedRun) -> Iterator[Section]:
    steps, attempts, events = run.steps(), run.attempts(), run.events()
    failed = attempts[attempts["error"].notna()]
    slowest = steps[steps["duration_s"].notna()].nlargest(N_STEPS, "duration_s")
    repeated = steps[steps["attempt"] > 1]
    edits = events[events["type"].isin(_EDITS)]
    tables = {
        "Steps": _rows(steps, _STEP),
        "Slowest steps": _rows(slowest, ["step", "duration_s"]),
        "Done more than once": _rows(repeated, ["step", "attempt", "status", "reason"]),
        "Errors": _rows(failed.groupby(["name", "error"], sort=False).size().reset_index(name="n"), None),
        "Edits": _rows(edits, ["version", "at", "type", "step", "data"]),
    }
    yield from (Section(title, rows) for title, rows in tables.items() if len(rows) > 1)
    lines = str(run.log()).splitlines()
    if lines:
        omitted = [f"... {len(lines) - N_LINES} lines before"] if len(lines) > N_LINES else []
        yield Section("Log", text="\n".join([*omitted, *lines[-N_LINES:]]))


def _rows(frame: pd.DataFrame, columns: list[str] | None) -> tuple[tuple[str, ...], ...]:
    chosen = frame if columns is None else frame[[name for name in columns if name in frame]]
    return (tuple(chosen.columns), *(tuple(map(_text, row)) for row in chosen.itertuples(index=False)))


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        return "" if cell != cell else f"{cell:.3f}"  # noqa: PLR0124 -- NaN
    return "" if str(cell) in {"None", "NaT", "<NA>"} else plain(str(cell))


def _html(section: Section) -> str:
    if not section.rows:
        return f"<pre>{escape(section.text)}</pre>"
    head, *body = section.rows
    lines = ["".join(f"<th>{escape(each)}</th>" for each in head)]
    lines += ["".join(f"<td>{escape(each)}</td>" for each in row) for row in body]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _markdown(section: Section) -> str:
    if not section.rows:
        return _fenced(section.text)
    head, *body = section.rows
    rows = [head, ("---",) * len(head), *body]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(text: str) -> str:
    marked = "".join(f"\\{each}" if each in "\\`*_[]|<>" else each for each in text)
    return marked if set(text) <= {"-"} else marked.replace("\n", " ")


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
