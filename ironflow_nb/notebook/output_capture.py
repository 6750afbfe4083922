"""Capture of the outputs of cells in a shell, which still shows them."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from ironflow_nb.durable_cells.cell_record import Output
from ironflow_nb.execution import CopyingStream, frontend
from ironflow_nb.notebook.notebook_hooks import NotebookHooks

_WIDGET: Final = "application/vnd.jupyter.widget-view+json"
"""The kind of an output that shows a widget: in another kernel there is none, and its text is shown."""
_INLINE: Final = "matplotlib_inline.backend_inline"


class OutputCapture:
    """An `OutputSink` of one shell: collects the output of its streams and its publisher, from any thread."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    @contextmanager
    def recording(self) -> Iterator[list[Output]]:
        """Collect the outputs that are shown within the context; they are also shown."""
        collected = _OutputCollector()
        publisher = self._shell.display_pub
        streams = sys.stdout, sys.stderr
        names = "stdout", "stderr"
        tees: Any = [
            CopyingStream(stream, partial(collected.write, name)) for stream, name in zip(streams, names, strict=True)
        ]
        sys.stdout, sys.stderr = tees
        publisher.publish = collected.wrap_publish(publisher.publish)
        publisher.clear_output = collected.wrap_clear(publisher.clear_output)
        self._collected = collected
        try:
            yield collected.outputs
            _finish_picture()
            _flush_figures()
        finally:
            collected.is_paused = True  # a logging handler created meanwhile keeps the tee as its stream
            del publisher.publish, publisher.clear_output
            if sys.stdout is tees[0]:
                sys.stdout = streams[0]
            if sys.stderr is tees[1]:
                sys.stderr = streams[1]

    def show_result(self, value: object) -> None:
        """Show the value as the result of the cell, and collect it."""
        if value is None:
            return
        with self._collected.capture_result(self._shell.display_formatter):
            sys.displayhook(value)

    def show(self, outputs: list[Output]) -> None:
        """Show recorded outputs again."""
        for output in outputs:
            if output.kind == "stream":
                (sys.stderr if output.name == "stderr" else sys.stdout).write(output.text)
            else:
                data = {kind: item for kind, item in output.data.items() if kind != _WIDGET}
                self._shell.display_pub.publish(data=data or dict(output.data), metadata=dict(output.metadata))


class _OutputCollector:
    """Collects outputs, with wrappers of the methods that show them."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.is_paused = False
        self._by_id: dict[str, int] = {}

    def write(self, name: str, text: str) -> None:
        """Collect text that is written to a stream, except for text that IPython prints for a bundle."""
        if self.is_paused or not text:
            return
        last = self.outputs[-1] if self.outputs else None
        if last is not None and last.kind == "stream" and last.name == name:
            last.text += text
        else:
            self.outputs.append(Output("stream", name, text))

    def wrap_publish(self, publish: Callable[..., Any]) -> Callable[..., Any]:
        """Return a `publish` that also collects the bundle."""

        def published(data: Any, metadata: Any = None, *args: Any, **options: Any) -> Any:
            self._collect_bundle(data, metadata, options.get("transient"), is_update=bool(options.get("update")))
            was, self.is_paused = self.is_paused, True
            try:
                return publish(data, metadata, *args, **options)
            finally:
                self.is_paused = was

        return published

    def wrap_clear(self, clear: Callable[..., Any]) -> Callable[..., Any]:
        """Return a `clear_output` that also clears the collected outputs."""

        def cleared(*args: Any, **options: Any) -> Any:
            self.outputs.clear()
            self._by_id.clear()
            was, self.is_paused = self.is_paused, True
            try:
                return clear(*args, **options)
            finally:
                self.is_paused = was

        return cleared

    @contextmanager
    def capture_result(self, formatter: Any) -> Iterator[None]:
        """Collect the result of a cell once, as the shell formats it."""
        plain, depth = formatter.format, 0

        def formatted(value: object, *args: Any, **options: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                data, metadata = plain(value, *args, **options)
            finally:
                depth -= 1
            if not depth and data:
                self.outputs.append(
                    Output("execute_result", None, "", _json_bundle(data), _json_bundle(metadata or {}))
                )
            return data, metadata

        formatter.format = formatted
        self.is_paused = True
        try:
            yield
        finally:
            self.is_paused = False
            del formatter.format

    def _collect_bundle(self, data: Any, metadata: Any, transient: Any, *, is_update: bool) -> None:
        output = Output("display_data", None, "", _json_bundle(data), _json_bundle(metadata or {}))
        display_id = (transient or {}).get("display_id")
        if is_update:
            if display_id in self._by_id:
                self.outputs[self._by_id[display_id]] = output
            return
        if display_id is not None:
            self._by_id[display_id] = len(self.outputs)
        self.outputs.append(output)


def _json_bundle(bundle: Any) -> dict[str, Any]:
    """Return the bundle as JSON: bytes as base64, and other objects as their repr."""
    return {str(kind): _json_value(value) for kind, value in bundle.items()}


def _json_value(value: Any) -> Any:
    match value:
        case bytes():
            return base64.encodebytes(value).decode()
        case dict():
            return _json_bundle(value)
        case list() | tuple():
            return [_json_value(each) for each in value]
        case str() | int() | float() | bool() | None:
            return value
        case _:
            return repr(value)


def _finish_picture() -> None:
    notebook: Any = frontend()
    if isinstance(notebook, NotebookHooks):
        notebook.finish_picture()


def _flush_figures() -> None:
    """Show figures now: matplotlib would show them after the cell, when outputs are no longer collected."""
    backend = sys.modules.get(_INLINE)
    if backend is not None:
        backend.flush_figures()
