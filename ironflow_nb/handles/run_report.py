"""The report of a run: one self-contained text, as HTML and as Markdown."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.option_values import a_path
from ironflow_nb.core.plain_text import counted, plain
from ironflow_nb.handles.recorded_run import RecordedRun
from ironflow_nb.handles.report_context import installed_versions, origin_run, sources
from ironflow_nb.handles.run_picture import picture_of
from ironflow_nb.history import frames
from ironflow_nb.history.recorded_values import preview
from ironflow_nb.values.private_files import whole_file
from ironflow_nb.views.error_signature import without_numbers

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.diagram.draw import Picture

N_SLOWEST: Final = 20
N_ROWS: Final = 500
N_LINES: Final = 200
_EDITS: Final = ("OutputInjected", "InjectionUndone", "ChildEdited", "StepRedacted", "RunRedacted")
_RUN: Final = ["run_id", "name", "key", "status", "started_at", "ended_at", "duration_s", "n_sessions", "parent_run_id"]
_CALL: Final = ["arguments", "output", "error"]
_STEP: Final = ["step", "attempt", "status", "started_at", "duration_s", "reason", "output", "error"]
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}"
    "td,th{border:1px solid #8884;padding:.2em .6em;text-align:left}"
    "pre{background:#8881;padding:.8em;overflow-x:auto}svg{max-width:100%}"
    ".beside{display:flex;flex-wrap:wrap;gap:1em}figure{margin:0;min-width:0;flex:1}"
)


@dataclass(frozen=True)
class Section:
    """One part of a report: a table or a text under a title; a table may have a text below it."""

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
    origin: tuple[str, Picture] | None = None
    """Of a fork the run that it goes on from, in words, and its picture."""

    @property
    def html(self) -> str:
        """The report as a page: no script, no style sheet or picture from elsewhere."""
        drawn = _drawn(self.picture)
        if self.origin is not None:
            words, picture = self.origin
            drawn = (
                f"<figure>{drawn}</figure><figure><figcaption>{escape(words)}</figcaption>{_drawn(picture)}</figure>"
            )
            drawn = f'<div class="beside">{drawn}</div>'
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
        if self.origin is not None:
            parts += [_cell(self.origin[0]), _fenced(self.origin[1].text)]
        for each in self.sections:
            parts += [f"## {each.title}", _markdown(each)]
        return "\n\n".join(parts) + "\n"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report into a new file that only its user can read; ``.md`` is Markdown, ``.html`` HTML.

        Raises:
            ValueError: the name ends in another way.
            FileExistsError: something is there already.
            OSError: it can't be written; nothing is then there.
        """
        target = Path(a_path(path)).expanduser().absolute()
        if target.suffix not in {".md", ".html"}:
            raise ValueError(f"a report is a file .html or .md, got {target.name!r}")
        text = self.markdown if target.suffix == ".md" else self.html
        _publish(target, text.encode("utf-8", "backslashreplace"))
        return target

    def __repr__(self) -> str:
        return f"<report: {self.title}>"

    def _repr_html_(self) -> str:
        return f'<iframe style="width:100%;height:40em;border:0" sandbox srcdoc="{escape(self.html)}"></iframe>'


def _drawn(picture: Picture) -> str:
    return picture.svg or f"<pre>{escape(picture.text)}</pre>"


def _publish(target: Path, content: bytes) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    with whole_file(target) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # before it has its name: what has this name is whole


def report_of(run: RecordedRun) -> RunReport:
    """Return the report of a run, as it is at this moment."""
    found = frames.runs(run=run.id, engine=run._engine)  # noqa: SLF001 -- the same room
    name = str(found["name"].iloc[0]) if len(found) else "?"
    title = plain(f"{name}: run {run.id}, {run.status.value}")
    call = Section("Arguments and result", _rows(found, _CALL))
    sections = (
        Section("Run", _rows(found.dropna(axis="columns", how="all"), _RUN)),
        call,
        *_sections(run),
        *_context(run),
    )
    return RunReport(run.id, title, run.diagram(), sections, _origin(run))


def _origin(run: RecordedRun) -> tuple[str, Picture] | None:
    with run._engine.reading() as reader:  # noqa: SLF001 -- the same room
        found = origin_run(reader, run.id)
    return None if found is None else (found[1], picture_of(run._engine, found[0]))  # noqa: SLF001


def _context(run: RecordedRun) -> Iterator[Section]:
    """Yield the source of the run's definition and steps, and the environment of the report."""
    lines = [line for source in sources(run._engine, run.id) for line in (*source.splitlines(), "")]  # noqa: SLF001
    if lines:
        omitted = [f"... {len(lines) - N_ROWS} more lines"] if len(lines) > N_ROWS else []
        yield Section("Source", text="\n".join([*lines[:N_ROWS], *omitted]).rstrip())
    yield Section("Environment of this report", (("package", "version"), *installed_versions()))


def _sections(run: RecordedRun) -> Iterator[Section]:
    steps, attempts, events = run.steps(), run.attempts(), run.events()
    failed = attempts[attempts["error"].notna()]
    slowest = steps[steps["duration_s"].notna()].nlargest(N_SLOWEST, "duration_s")
    repeated = steps[steps["attempt"] > 1]
    decided = events[events["type"].str.contains(".", regex=False)]  # as in order.Placed: the events of a decider
    tables = {
        "Events": _rows(decided, ["version", "at", "type", "data"]),
        "Steps": _rows(steps, _STEP),
        "Slowest steps": _rows(slowest, ["step", "duration_s"]),
        "Done more than once": _rows(repeated, ["step", "attempt", "status", "reason"]),
        "Errors": _errors(failed),
        "Edits": _edits(run, events[events["type"].isin(_EDITS)]),
    }
    yield from (_table(title, rows) for title, rows in tables.items() if len(rows) > 1)
    lines = str(run.log()).splitlines()
    if lines:
        omitted = [f"... {len(lines) - N_LINES} lines before"] if len(lines) > N_LINES else []
        yield Section("Log", text="\n".join([*omitted, *lines[-N_LINES:]]))


def _table(title: str, rows: tuple[tuple[str, ...], ...]) -> Section:
    n_omitted = len(rows) - 1 - N_ROWS
    return Section(title, rows[: N_ROWS + 1], f"{counted(n_omitted, 'row')} more not shown" if n_omitted > 0 else "")


def _errors(failed: pd.DataFrame) -> tuple[tuple[str, ...], ...]:
    """Errors that differ only in numbers are one row, with the first of them."""
    alike = failed["error"].map(without_numbers)
    grouped = failed.assign(alike=alike).groupby(["name", "alike"], sort=False)
    return _rows(grouped.agg(n=("error", "size"), first=("error", "first")).reset_index(), ["name", "n", "first"])


def _edits(run: RecordedRun, edits: pd.DataFrame) -> tuple[tuple[str, ...], ...]:
    """An erased value has no preview: nothing has its id any more."""
    found = [(each, each["data"] or {}) for each in edits.to_dict("records")]
    ids = {ValueId(bytes.fromhex(data[key])) for _, data in found for key in ("old", "output") if data.get(key)}
    with run._engine.reading() as reader:  # noqa: SLF001 -- the same room
        values = reader.values(ids, of=[row.row_key for row in run._attempts()])  # noqa: SLF001

    def shown(value_id: str | None) -> str:
        return _text(preview(values.get(ValueId(bytes.fromhex(value_id)))) if value_id else None)

    rows: list[tuple[str, ...]] = [("at", "who", "what", "step", "why", "old", "new")]
    for each, data in found:
        # What is undone was the result, and the old one counts again.
        old, new = data.get("old"), data.get("output")
        old, new = (new, old) if each["type"] == "InjectionUndone" else (old, new)
        who = data.get("edited_by") or data.get("by")
        named = [each["at"], who, each["type"], each["step"], data.get("reason")]
        rows.append((*map(_text, named), shown(old), shown(new)))
    return tuple(rows)


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
    below = f"<p>{escape(section.text)}</p>" if section.text else ""
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>{below}"


def _markdown(section: Section) -> str:
    if not section.rows:
        return _fenced(section.text)
    head, *body = section.rows
    rows = [head, ("---",) * len(head), *body]
    table = "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)
    return f"{table}\n\n{section.text}" if section.text else table


def _cell(text: str) -> str:
    marked = "".join(f"\\{each}" if each in "\\`*_[]|<>" else each for each in text)
    return marked if set(text) <= {"-"} else marked.replace("\n", " ")


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
