"""The lineage of values: which results and arguments went into each call of a run, as far as its records show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple, Self

import msgspec

from ironflow_nb.core.identity import RunId, StepRef, ValueId, parse_step_ref
from ironflow_nb.core.plain_text import counted, plain
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.diagram.draw import draw
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind
from ironflow_nb.execution import Engine
from ironflow_nb.history.lookup import resolve_step
from ironflow_nb.history.pictured_frame import PicturedFrame
from ironflow_nb.history.recorded_values import fields_of_call
from ironflow_nb.history.run_status import run_and_status
from ironflow_nb.history.step_pairs import steps_that_count
from ironflow_nb.history.tables import TEXT, frame_of_records
from ironflow_nb.journal.ports import Reader
from ironflow_nb.values.codecs import JSON, NOT_KEPT, REFERENCE
from ironflow_nb.values.tagged import TAG

COLUMNS: Final = {"target": TEXT, "argument": TEXT, "source": TEXT, "match": TEXT, "is_sure": "bool"}
RESULT: Final = "result"
WHOLE, PART = "whole", "part"
_CONTENT_LIMIT: Final = 1_000_000
"""Of larger values it is not looked at what is in them."""
_N_EQUAL: Final = 8
"""Of more equal results the latest stands for all."""
_N_NODES: Final = 40
_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_COMMON: Final = frozenset({"null", "true", "false", "0", "1", "-1", '""', "[]", "{}"})
"""What is so common that an equal one says nothing."""


class Transfer(NamedTuple):
    """A value that went from a source to a target. It `match`es the whole argument, or a part of it."""

    target: str
    argument: str
    source: str
    match: str
    is_sure: bool


class Lineage(PicturedFrame):
    """Where the arguments of the calls of a run came from, one row for each argument and source."""

    @classmethod
    def of(cls, transfers: Collection[Transfer], name: str) -> Self:
        """Make the lineage."""
        records = [each._asdict() | {"argument": plain(each.argument)} for each in transfers]
        found = f"{counted(len({(each.target, each.argument) for each in transfers}), 'argument')} with a known source"
        picture = draw(_diagram(transfers), {}, prefix="iron-lineage") if transfers else None
        return cls.of_frame(frame_of_records(COLUMNS, records), picture, plain(f"{name}: {found}"))


def lineage_of(engine: Engine, run_id: RunId, step: object) -> Lineage:
    """Return the lineage of the run, or of one of its steps; see `Run.lineage`."""
    run, status = run_and_status(engine, run_id)
    if run is None:
        return Lineage.of((), f"run {run_id}")
    with engine.reading() as reader:
        rows, _ = steps_that_count(reader, run, status)
        ref = None if step is None else resolve_step(rows, step, run_id)
        found = list(_RecordedValues(reader, run, rows).transfers())
    name = f"run {run_id} of {run.name}"
    return Lineage.of(found, name) if ref is None else Lineage.of(_around(found, ref), f"{ref} of {name}")


class _RecordedValues:
    """The arguments and outputs of a run, by what they are."""

    def __init__(self, reader: Reader, run: RunRow, steps: Sequence[StepRow]) -> None:
        self._run = run
        self._steps = sorted(steps, key=lambda row: row.version)
        rows: list[RunRow | StepRow] = [run, *self._steps]
        of = [row.row_key for row in rows]
        records = reader.values({row.inputs_id for row in rows if row.inputs_id}, of=of, content_limit=_CONTENT_LIMIT)
        self._fields = {
            key: fields_of_call(record, run.kind if key == run.inputs_id else "") or {}
            for key, record in records.items()
        }
        ids = {row.output_id for row in rows if row.output_id is not None}
        ids |= {each for fields in self._fields.values() for tree in fields.values() if (each := _referred(tree))}
        self._values = reader.values(ids, of=of, content_limit=_CONTENT_LIMIT)
        self._sources: dict[str, dict[str, None]] = {}

    def transfers(self) -> Iterator[Transfer]:
        """Yield what went into each step, in the order of their beginnings, and then into the result."""
        for name, tree in self._arguments(self._run.inputs_id):
            self._add(f"argument {name}", *self._keys(tree))
        for row in self._steps:
            for name, tree in self._arguments(row.inputs_id):
                yield from self._into(str(row.step), name, tree)
            if row.output_id is not None:
                self._add(str(row.step), row.output_id.hex(), self._tree(row.output_id))
        if self._run.output_id is not None:
            tree = {TAG: REFERENCE, "v": self._run.output_id.hex()}
            yield from self._into(RESULT, "", tree)

    def _arguments(self, inputs_id: ValueId | None) -> Iterator[tuple[str, Any]]:
        yield from (self._fields.get(inputs_id, {}) if inputs_id is not None else {}).items()

    def _keys(self, tree: Any) -> tuple[str, Any]:
        if type(tree) is dict and tree.get(TAG) == NOT_KEPT:
            return "", None
        value_id = _referred(tree)
        return ("", tree) if value_id is None else (value_id.hex(), self._tree(value_id))

    def _tree(self, value_id: ValueId) -> Any:
        """Return the value as a tree, as it stands in a record of arguments; None if it does not."""
        stored = self._values.get(value_id)
        is_tree = stored is not None and stored.codec == JSON and stored.content is not None
        return msgspec.json.decode(stored.content) if is_tree and stored is not None and stored.content else None

    def _add(self, source: str, value_id: str, tree: Any) -> None:
        for key in filter(None, (value_id, None if tree is None else _text(tree))):
            self._sources.setdefault(key, {})[source] = None

    def _into(self, target: str, argument: str, given: Any) -> Iterator[Transfer]:
        value_id, tree = self._keys(given)
        for key in filter(None, (value_id, None if tree is None else _text(tree))):
            if key in self._sources:
                yield from self._from(target, argument, key, WHOLE)
                return
        seen = dict.fromkeys(_text(part) for part in _parts(tree))
        found = {
            each.source: each for key in seen if key not in _COMMON for each in self._from(target, argument, key, PART)
        }
        yield from found.values()

    def _from(self, target: str, argument: str, key: str, match: str) -> Iterator[Transfer]:
        sources = [*self._sources.get(key, ())]
        is_sure = len(sources) == 1 and key not in _COMMON
        for source in sources if len(sources) <= _N_EQUAL else sources[-1:]:
            yield Transfer(target, argument, source, match, is_sure)


def _referred(tree: Any) -> ValueId | None:
    is_reference = type(tree) is dict and tree.get(TAG) == REFERENCE
    return ValueId(bytes.fromhex(tree["v"])) if is_reference else None


def _text(tree: Any) -> str:
    return _ENCODER.encode(tree).decode()


def _parts(tree: Any) -> Iterator[Any]:
    """Yield what is in a tree, at any depth."""
    waiting = [tree]
    while waiting:
        each = waiting.pop()
        if type(each) in {dict, list}:
            inner = list(each.values() if type(each) is dict else each)
            yield from inner
            waiting += inner


def _around(transfers: Sequence[Transfer], step: StepRef) -> list[Transfer]:
    """Return the transfers on the ways to the step and from it."""
    before, after = {str(step)}, {str(step)}
    for each in reversed(transfers):  # sources begin before their targets
        if each.target in before:
            before.add(each.source)
    for each in transfers:
        if each.source in after:
            after.add(each.target)
    return [each for each in transfers if each.target in before or each.source in after]


def _diagram(transfers: Collection[Transfer]) -> Diagram:
    """Return the graph of the values; of many steps those of one name are one node."""
    ends = dict.fromkeys(end for each in transfers for end in (each.source, each.target))
    is_folded = len(ends) > _N_NODES
    label = {end: parse_step_ref(end)[0] if is_folded else end for end in ends}
    n_of = Counter(label.values())
    nodes = tuple(
        Node(id=name, kind=NodeKind.OTHER if name.startswith("argument ") else NodeKind.STEP, label=_label(name, n))
        for name, n in n_of.items()
    )
    edges: dict[tuple[str, str], Edge] = {}
    for each in transfers:
        ways = label[each.source], label[each.target]
        edges.setdefault(ways, Edge(source=ways[0], target=ways[1], is_dashed=not each.is_sure))
    return Diagram("lineage", nodes, tuple(edges.values()))


def _label(name: str, n: int) -> str:
    short = name if name.startswith("argument ") else name.rpartition(".")[2]
    return short if n == 1 else f"{short} \N{MULTIPLICATION SIGN}{n}"
