"""Recorded values and arguments: decoding, and previews that never run code of the values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.core.identity import StepRef, ValueId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunKind, StepStatus
from ironflow_nb.errors import InputsNotStored, StepNotFound, ValueUnreadable
from ironflow_nb.execution import CLOSURE, Engine, unwrapped
from ironflow_nb.history.lookup import resolve_step
from ironflow_nb.journal.ports import Reader, Select
from ironflow_nb.values.codecs import JSON, NOT_KEPT, REDACTED, REFERENCE, input_references
from ironflow_nb.values.stored_value import StoredValue, ValueRecord
from ironflow_nb.values.tagged import TAG, Tree, untag

LENGTH: Final = 200
CONTENT_LIMIT: Final = 4 * 1024
"""Larger values are not read; their recorded preview is shown."""

_DECODER: Final = msgspec.json.Decoder(dict[str, Any])
_CLOSURE: Final = CLOSURE.encode()
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_ARGUMENT_LENGTH: Final = 60
_BRACKETS: Final = {"tuple": "()", "set": "{}", "frozenset": ("frozenset({", "})")}


def preview(stored: StoredValue | None) -> str | None:
    """Return a short text about the value, or None if there is no value."""
    if stored is None:
        return None
    if stored.preview is not None:
        return clip(stored.preview)
    if stored.codec == JSON and stored.content is not None:
        try:
            return clip(preview_tree(msgspec.json.decode(stored.content)))
        except Exception:  # noqa: BLE001 -- the form is unknown here; its JSON is still informative
            return clip(bytes(stored.content).decode("utf-8", "replace"))
    return f"{stored.type_name} ({stored.size} bytes)"


def fields_of_call(record: StoredValue, kind: str) -> Mapping[str, Any] | None:
    """Return the recorded arguments of a call of that kind of run, as trees; None if they can't be read."""
    if record.content is None:
        return None
    try:
        fields = _DECODER.decode(record.content)
    except msgspec.MsgspecError:  # the form is unknown here
        return None
    if _CLOSURE in record.content:
        fields = without_closure(fields)
    given = fields.get("input")
    # A graph has one argument, a mapping, and users write its items as keyword arguments.
    return given if kind == RunKind.GRAPH and type(given) is dict and TAG not in given else fields


def references(fields: Mapping[str, Any]) -> Iterator[ValueId]:
    """Yield the ids of the arguments that are values of their own."""
    for tree in fields.values():
        if type(tree) is dict and tree.get(TAG) == REFERENCE:
            yield ValueId(bytes.fromhex(tree["v"]))


def call_preview(fields: Mapping[str, Any], values: Mapping[ValueId, StoredValue]) -> str:
    """Return the arguments as in a call, ``x=3, path='a.csv'``; `values` are the values that they refer to."""
    return clip(", ".join([f"{name}={preview_argument(tree, values)}" for name, tree in fields.items()]))


def preview_argument(tree: Any, values: Mapping[ValueId, StoredValue]) -> str:
    """Return a preview of one recorded argument."""
    if type(tree) in _SCALARS:
        return _cut(repr(tree), _ARGUMENT_LENGTH)
    try:
        text = preview_tree(tree) if type(tree) is not dict else _preview_dict(tree, values)
    except Exception:  # noqa: BLE001 -- as above
        text = "..."
    return _cut(text, _ARGUMENT_LENGTH)


def _preview_dict(tree: Mapping[str, Any], values: Mapping[ValueId, StoredValue]) -> str:
    kind = tree.get(TAG)
    if kind == REFERENCE:
        return preview(values.get(ValueId(bytes.fromhex(tree["v"])))) or "<missing>"
    return f"<{tree['c'].rpartition('.')[2]}, not stored>" if kind == NOT_KEPT else preview_tree(tree)


def preview_tree(tree: Any) -> str:
    """Return the repr of a value from its tagged form, without importing classes of the user."""
    if type(tree) is list:
        return f"[{_preview_items(tree)}]"
    if type(tree) is not dict:
        return repr(tree)
    kind = tree.get(TAG)
    if kind is None:
        return f"{{{', '.join(f'{key!r}: {preview_tree(item)}' for key, item in tree.items())}}}"
    if "c" in tree:
        return _preview_instance(tree)
    if kind == "dict":
        return f"{{{', '.join(f'{preview_tree(key)}: {preview_tree(item)}' for key, item in tree['v'])}}}"
    if kind in _BRACKETS and tree["v"]:
        opening, closing = _BRACKETS[kind]
        lonely = "," if kind == "tuple" and len(tree["v"]) == 1 else ""
        return f"{opening}{_preview_items(tree['v'])}{lonely}{closing}"
    return repr(untag(tree))


def _preview_instance(tree: Mapping[str, Any]) -> str:
    name, value = tree["c"].rpartition(".")[2], tree["v"]
    if tree[TAG] == "enum":
        return f"{name}.{value}"
    if tree[TAG] == "flag":
        return f"{name}({preview_tree(value)})"
    if tree[TAG] == "codec":
        return f"{name}(...)"
    return f"{name}({', '.join(f'{field}={preview_tree(item)}' for field, item in value.items())})"


def _preview_items(trees: list[Any]) -> str:
    return ", ".join(map(preview_tree, trees))


def clip(text: str) -> str:
    """Return the text on one line, with an ellipsis where it is too long."""
    return _cut(plain(" ".join(text.split())), LENGTH)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def read_value(engine: Engine, stored: StoredValue) -> Any:
    """Return a stored value; a record as a dict of the values that it refers to, by name.

    Raises:
        ValueUnreadable: it, or something it refers to, can't be read here.
    """
    value = engine.codecs.decode(stored)
    if not isinstance(value, ValueRecord):
        return value
    ids = {name: value_id for name, value_id in value.ids().items() if name.isidentifier()}
    with engine.access.current() as reader:
        parts = reader.values(list(ids.values()))
    missing = [name for name, value_id in ids.items() if value_id not in parts]
    if missing:
        raise ValueUnreadable(f"{', '.join(missing)} of a record is missing in the journal; put that back from a copy")
    return {name: engine.codecs.decode(parts[value_id]) for name, value_id in ids.items()}


def latest_output(rows: Sequence[StepRow], ref: StepRef) -> StepRow | None:
    """Return the newest attempt of the step that has an output, or None."""
    done = (row for row in reversed(rows) if row.step == ref and row.status is StepStatus.COMPLETED)
    return next(done, None)


def output_of(engine: Engine, rows: Sequence[StepRow], step: object, run_id: str) -> Any:
    """Return the newest output of a step among these attempts of a run.

    Raises:
        StepNotFound, AmbiguousStep: none of them is of such a step, or those of several are; or it has no output.
        ValueUnreadable: the output can't be read here.
    """
    ref = resolve_step(rows, step, run_id)
    latest = latest_output(rows, ref)
    if latest is None:
        now = next(row.status.value for row in reversed(rows) if row.step == ref)
        raise StepNotFound(f"{ref} of run {run_id} is {now} and has no output", run_id=run_id, step=ref)
    return read_output(engine, latest)


def read_output(engine: Engine, row: StepRow) -> Any:
    """Return the output of an attempt that has one.

    Raises:
        ValueUnreadable: it can't be read here.
    """
    assert row.output_id is not None
    with engine.reading() as reader:
        stored = reader.values([row.output_id], of=[row.row_key]).get(row.output_id) or _marker(reader, row)
    if stored is None:
        raise ValueUnreadable(
            f"the output of {row.step} of run {row.run_id} is missing in the journal; put that back from a copy",
            run_id=row.run_id,
            step=row.step,
        )
    try:
        return read_value(engine, stored)
    except ValueUnreadable as error:
        error.add_note(f"It is the recorded result of {row.step} in run {row.run_id}.")
        raise


def _marker(reader: Reader, row: StepRow) -> StoredValue | None:
    """Return what stands in the place of the output now, if it was redacted: the row may be one of the past."""
    found = (each.output_id for each in reader.steps(Select(run_ids=[row.run_id])) if each.row_key == row.row_key)
    now = next(found, None)
    stored = None if now is None else reader.values([now]).get(now)
    return stored if stored is not None and stored.codec == REDACTED else None


def recorded_arguments(engine: Engine, run: RunRow) -> dict[str, Any]:
    """Return the arguments of the run by name.

    Raises:
        InputsNotStored: some were too large to be stored, or nothing stores them.
        ValueUnreadable: some can't be decoded here.
    """
    found, gone = read_arguments(engine, run, lambda what: _missing_arguments(what, run))
    if gone:
        raise InputsNotStored(
            f"the arguments {', '.join(gone)} of run {run.run_id} were not stored, because they are larger than 1 MB "
            f"or can't be pickled; continue the run by calling {run.name} again with them",
            run_id=run.run_id,
            arguments=list(gone),
        )
    return found


def read_arguments(
    engine: Engine, row: RunRow | StepRow, lost: Callable[[str], InputsNotStored]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the recorded arguments of the call by name, and the classes of those that were not stored.

    Raises:
        InputsNotStored: some are missing in the journal; it is what `lost` makes of their names.
        ValueUnreadable: some can't be decoded here; a note names which.
    """
    call = find_arguments(engine, row)
    if call is None:
        raise lost("the arguments")
    missing = call.missing()
    if missing:
        raise lost(f"the arguments {', '.join(missing)}")
    return {name: call.read(engine, name) for name in (*call.inline, *call.values)}, call.not_stored


class RecordedArguments(NamedTuple):
    """The arguments of a call as they were recorded, by name.

    `inline` are those that stand in the record, as trees; `values` those that are values of their own, None if one is
    missing; `not_stored` are the classes of those that were not stored.
    """

    record: StoredValue
    inline: Mapping[str, Tree]
    values: Mapping[str, StoredValue | None]
    not_stored: dict[str, str]

    def names(self) -> list[str]:
        """Return the names of all arguments in the order of the call."""
        return [*without_closure(msgspec.json.decode(self.record.content or b"{}"))]

    def missing(self) -> list[str]:
        """Return the names of the arguments whose values the journal has lost."""
        return [name for name, stored in self.values.items() if stored is None or stored.content is None]

    def read(self, engine: Engine, name: str) -> Any:
        """Return an argument that was stored.

        Raises:
            ValueUnreadable: it can't be decoded here; a note names it.
        """
        try:
            stored = self.values.get(name)
            return untag(self.inline[name]) if stored is None else engine.codecs.decode(stored)
        except ValueUnreadable as error:
            error.add_note(f"It is the recorded argument `{name}`.")
            raise


def find_arguments(engine: Engine, row: RunRow | StepRow) -> RecordedArguments | None:
    """Return the recorded arguments of the call, or None if their record is missing or damaged.

    A step whose result was taken over from another run has those of the call that computed it.
    """
    row = _computed(engine, row) if isinstance(row, StepRow) else row
    record = None if row.inputs_id is None else engine.access.value(row.inputs_id, row.row_key)
    if record is None or record.content is None:
        return None
    inline, elsewhere, not_stored = map(without_closure, input_references(record))
    ids = {name: ValueId(bytes.fromhex(text)) for name, text in elsewhere.items()}
    with engine.access.current() as reader:
        found = reader.values(list(ids.values()))
    return RecordedArguments(record, inline, {name: found.get(each) for name, each in ids.items()}, not_stored)


def _computed(engine: Engine, row: StepRow) -> StepRow:
    """Return the attempt that computed the result of this one, as far as the journal has its run; else the row."""
    with engine.access.current() as reader:
        while row.inputs_id is None and row.origin_run_id is not None and row.origin_run_id != row.run_id:
            others = reader.steps(Select(run_ids=[row.origin_run_id], name=row.name, is_full_name=True))
            found = [each for each in others if each.identity == row.identity and each.output_id is not None]
            if not found:
                break
            row = found[-1]
    return row


def without_closure(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments without the variables that the function closes over."""
    return {name: value for name, value in arguments.items() if not name.startswith(CLOSURE)}


def _missing_arguments(what: str, run: RunRow) -> InputsNotStored:
    return InputsNotStored(
        f"{what} of run {run.run_id} are missing in the journal or damaged; continue the run by calling {run.name} "
        "again with them",
        run_id=run.run_id,
    )


class Arguments(Mapping[str, Any]):
    """The arguments of a call by name, in its order. Each is decoded when it is asked for.

    One that was not stored, because it is larger than 1 MB or nothing stores it, is listed too, and raises
    `InputsNotStored` when it is asked for; one that can't be read here raises `ValueUnreadable`.
    """

    def __init__(self, engine: Engine, run: RunRow, recorded: RecordedArguments) -> None:
        self._engine = engine
        self._run = run
        self._recorded = recorded
        self._names = recorded.names()

    def __getitem__(self, name: str) -> Any:
        """Return the argument.

        Raises:
            KeyError: the call has none of that name.
            InputsNotStored: it was not stored, or is missing in the journal.
            ValueUnreadable: it can't be decoded here.
        """
        if name not in self._names:
            raise KeyError(name)
        if name in self._recorded.not_stored:
            kind = self._recorded.not_stored[name]
            raise self._unavailable(
                f"was not stored, because it is larger than 1 MB or can't be pickled ({kind})", name
            )
        if name in self._recorded.missing():
            raise self._unavailable("is missing in the journal; put that back from a copy", name)
        return unwrapped((self._recorded.read(self._engine, name),), {})[0][0]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        values = {stored.value_id: stored for stored in self._recorded.values.values() if stored is not None}
        return f"Arguments({call_preview(fields_of_call(self._recorded.record, self._run.kind) or {}, values)})"

    def _unavailable(self, why: str, name: str) -> InputsNotStored:
        return InputsNotStored(
            f"the argument {name} of run {self._run.run_id} {why}", run_id=self._run.run_id, arguments=[name]
        )


def arguments_of_run(engine: Engine, run: RunRow) -> Mapping[str, Any]:
    """Return the arguments of a run: of a graph the mapping that it was called with, of a decider none.

    Raises:
        InputsNotStored: the record of the call is missing in the journal or damaged.
    """
    if run.inputs_id is None:
        return {}
    recorded = find_arguments(engine, run)
    if recorded is None:
        raise InputsNotStored(
            f"the arguments of run {run.run_id} are missing in the journal or damaged; put that back from a copy",
            run_id=run.run_id,
        )
    arguments = Arguments(engine, run, recorded)
    if run.kind != RunKind.GRAPH:
        return arguments
    try:
        given = arguments["input"]
    except (KeyError, InputsNotStored, ValueUnreadable):
        return arguments
    return given if isinstance(given, Mapping) else arguments
