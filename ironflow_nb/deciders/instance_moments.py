"""The moments of an instance of a decider, for a slider: its state, and the way that it has gone until then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from hashlib import blake2b
from itertools import islice
from typing import Any, Final

import msgspec

from ironflow_nb.core.run_state import RunRow
from ironflow_nb.deciders.decider_definition import AnyDecider
from ironflow_nb.deciders.decisions import OutcomeKind
from ironflow_nb.deciders.instances import state_at
from ironflow_nb.deciders.possible_transitions import Explorer
from ironflow_nb.deciders.state_diagram import InstanceView, StateDiagram, simple_fields, state_element_id
from ironflow_nb.deciders.state_machine import ObservedInstance, StateMachine, state_machine_of
from ironflow_nb.deciders.store import EventRecord, Observation, deciders_of
from ironflow_nb.diagram.draw import PictureParts
from ironflow_nb.execution import Engine
from ironflow_nb.handles.slider import ShownMoment
from ironflow_nb.views.moment_view import (
    ChangeView,
    DifferenceView,
    SliderView,
    change_words,
    is_failure,
    is_of_note,
    marks_of,
)

_SHOWN: Final = 200


class InstanceMoments:
    """The moments of one instance: version 0 is the state before its first event."""

    def __init__(self, engine: Engine, decider: AnyDecider, row: RunRow, explorer: Explorer) -> None:
        self.engine = engine
        self._decider = decider
        self._row = row
        self._explorer = explorer
        self._events: list[EventRecord] = []
        self._view: SliderView | None = None
        self._machine: StateMachine | None = None
        self._way: list[int] = []
        """The version of the last event of each step of the way."""

    @property
    def _instance(self) -> str:
        return self._row.key or ""

    def look(self) -> SliderView:
        """See `Moments`."""
        with self.engine.reading() as reader:
            head = reader.head(self._row.run_id)
            if self._view is not None and head is not None and head[0] == self._view.newest:
                return self._view
            self._events = deciders_of(reader).events_after(self._row.run_id, 0)
            observed = deciders_of(reader).observations(self._decider.name, self._instance)
        self._way = list(_versions_of_way(self._events, observed))
        self._machine = state_machine_of(self.engine, self._decider, self._explorer, instance=self._instance)
        newest = self._events[-1] if self._events else (0, self._row.started_at, "", "")
        state = self._state(newest[0])
        notable = [_change(each) for each in self._events if is_of_note(each[2])]
        self._view = SliderView(
            title=f"{self._decider.name} {self._instance}", first=0, newest=newest[0], newest_at=newest[1],
            began_at=self._row.started_at, is_over=self._decider.is_terminal(state), marks=marks_of(notable),
        )  # fmt: skip
        return self._view

    def changes(self, after: int = 0, until: int | None = None) -> list[ChangeView]:
        """See `Moments`."""
        return [_change(each) for each in self._events if each[0] > after and (until is None or each[0] <= until)]

    def moment(self, version: int) -> ShownMoment:
        """See `Moments`."""
        machine = self._machine
        assert machine is not None
        state = self._state(version)
        n_gone = sum(each <= version for each in self._way)
        status = self._decider.status_of(state)
        then = replace(self._now(machine), status=status, is_completed=self._decider.is_terminal(state))
        shown = simple_fields(state, excluded=self._decider.status_field)
        view = InstanceView(instance=then, state=state, fields=shown)
        diagram = StateDiagram(replace(machine, path=machine.path[:n_gone]), view)
        picture = diagram.picture()
        gone = {status, machine.initial, *(end for step in machine.path[:n_gone] for end in (step[0], step[2]))}
        later = dict.fromkeys(step[2] for step in machine.path[n_gone:] if step[2] not in gone)
        digest = blake2b((picture.svg or "").encode("utf-8", "replace"), digest_size=12).hexdigest()
        ghosts = tuple(state_element_id(diagram, target) for target in later)
        change = next((_change(each) for each in self._events if each[0] == version), None)
        change = change or ChangeView(version=version, at=self._row.started_at, words="before the first event")
        return ShownMoment(change, status, PictureParts(frame=digest, elements={}), lambda: picture, ghosts)

    def differences(self, before: int, after: int) -> list[DifferenceView]:
        """See `Moments`: the fields of the state."""
        first, last = (fields_of(self._state(version)) for version in (before, after))
        names = [name for name in {**first, **last} if first.get(name) != last.get(name)]
        return [DifferenceView(name=name, before=first.get(name), after=last.get(name)) for name in names]

    def _state(self, version: int) -> Any:
        with self.engine.reading() as reader:
            return state_at(self._decider, reader, self._row.run_id, self._instance, version=version)

    def _now(self, machine: StateMachine) -> ObservedInstance:
        return next(each for each in machine.history.instances if each.instance_id == self._instance)


def _versions_of_way(events: Sequence[EventRecord], observed: Iterable[Observation]) -> Iterator[int]:
    """Yield for each accepted command the version of its last event; its effects and timers come after that."""
    domain = iter([version for version, _, kind, _ in events if "." in kind])
    for each in observed:
        if each.outcome == OutcomeKind.ACCEPTED:
            own = list(islice(domain, each.n_events))
            yield own[-1] if own else each.version


def _change(event: EventRecord) -> ChangeView:
    version, at, kind, data = event
    shown = data if len(data) <= _SHOWN else f"{data[:_SHOWN]}..."
    words = change_words(kind, None, None)
    return ChangeView(
        version=version, at=at, words=f"{words} {shown}" if "." in kind else words, is_failure=is_failure(kind)
    )


def fields_of(state: Any) -> dict[str, str]:
    """Return the fields of a state as texts, by name."""
    if is_dataclass(state):
        return {each.name: repr(getattr(state, each.name)) for each in fields(state)}
    if isinstance(state, msgspec.Struct):
        return {name: repr(value) for name, value in msgspec.structs.asdict(state).items()}
    return {"state": repr(state)}
