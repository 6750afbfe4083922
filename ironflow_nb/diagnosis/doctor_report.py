"""Findings as a DataFrame that shows its texts in full; pandas would cut them after 50 characters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from html import escape
from textwrap import wrap
from typing import Final

import pandas as pd
from msgspec.structs import astuple

from ironflow_nb.core.plain_text import counted, plain
from ironflow_nb.diagnosis.findings import GLYPHS, GRAVEST_FIRST, Finding, Severity

COLUMNS: Final = Finding.__struct_fields__
_WIDTH: Final = 110
# Colours of middle lightness, for light and dark notebooks. The glyph and the word say the same.
_COLOURS: Final = {
    Severity.OK: "#2c9c4b",
    Severity.NOTICE: "#2f6feb",
    Severity.WARNING: "#b27d12",
    Severity.PROBLEM: "#d1303a",
}
_LONG: Final = "text-align: left"
_SHORT: Final = f"{_LONG}; white-space: nowrap; vertical-align: top"


class Report(pd.DataFrame):
    """A DataFrame with one finding a row. A selection with all columns is shown as a report too."""

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Report:
        """Return the report of these findings; all columns have the dtype string."""
        rows = [map(plain, astuple(finding)) for finding in findings]
        return cls(pd.DataFrame(rows, columns=list(COLUMNS), dtype="string"))

    @property
    def _constructor(self) -> Callable[..., Report]:
        return Report

    def __repr__(self) -> str:
        return "\n".join(self._lines()) if self._has_findings() else super().__repr__()

    def _repr_html_(self) -> str | None:
        if not self._has_findings():
            shown: str | None = pd.DataFrame(self)._repr_html_()  # type: ignore[operator]
            return shown
        findings = self._findings()
        topics = [finding.topic for finding in findings]
        rows = "".join(
            _html_row(finding, "" if topic == before else topic)
            for finding, topic, before in zip(findings, topics, [None, *topics], strict=False)
        )
        return f"<div><b>{escape(self._headline())}</b><table>{rows}</table></div>"

    def _has_findings(self) -> bool:
        return (
            tuple(self.columns) == COLUMNS and set(self["state"]) <= set(Severity) and not self.isna().to_numpy().any()
        )

    def _findings(self) -> list[Finding]:
        return [
            Finding(topic, what, found, Severity(state), advice)
            for topic, what, found, state, advice in self.itertuples(index=False)
        ]

    def _headline(self) -> str:
        states = list(self["state"])
        parts = [
            f"{states.count(state)} ok" if state is Severity.OK else counted(states.count(state), state)
            for state in GRAVEST_FIRST
            if state in states
        ]
        return f"ironflow doctor: {', '.join(parts) or 'nothing found'}"

    def _lines(self) -> Iterator[str]:
        yield self._headline()
        findings = self._findings()
        margin = " " * (6 + max((len(finding.what) for finding in findings), default=0))
        topic = None
        for finding in findings:
            if finding.topic != topic:
                topic = finding.topic
                yield topic
            start = f"  {GLYPHS[finding.state]} {finding.what}".ljust(len(margin))
            yield from _wrap_text(finding.found, start, margin)
            if finding.advice:
                yield from _wrap_text(finding.advice, f"{margin}→ ", f"{margin}  ")


def _wrap_text(text: str, start: str, margin: str) -> list[str]:
    # Paths are not broken, so that they can be copied.
    return wrap(
        text, _WIDTH, initial_indent=start, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )


def _html_row(finding: Finding, topic: str) -> str:
    state = f'<span style="color: {_COLOURS[finding.state]}">{GLYPHS[finding.state]} {finding.state}</span>'
    tag = "b" if finding.state in {Severity.WARNING, Severity.PROBLEM} else "span"
    advice = f"<br><{tag}>→ {escape(finding.advice)}</{tag}>" if finding.advice else ""
    cells = (escape(topic), escape(finding.what), state, escape(finding.found) + advice)
    styles = (_SHORT, _SHORT, _SHORT, _LONG)
    return (
        "<tr>"
        + "".join(f'<td style="{style}">{cell}</td>' for style, cell in zip(styles, cells, strict=True))
        + "</tr>"
    )
