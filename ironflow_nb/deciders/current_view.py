"""What a decider looks like now, for its card: instances, commands as forms, and effects, timers and dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, is_dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, Final, NamedTuple, TypeAlias, get_type_hints

import msgspec

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.deciders.commands import WorkKind
from ironflow_nb.deciders.decider import Decider
from ironflow_nb.deciders.decisions import Accepted, Outcome, Rejected
from ironflow_nb.deciders.instance_moments import fields_of
from ironflow_nb.deciders.instances import state_at
from ironflow_nb.deciders.possible_transitions import Explorer
from ironflow_nb.deciders.state_diagram import InstanceView, StateDiagram, simple_fields
from ironflow_nb.deciders.state_machine import StateMachine, state_machine_of
from ironflow_nb.errors import DecisionError, EventUnreadable, InstanceNotFound
from ironflow_nb.execution import Engine
from ironflow_nb.handles.questions import answer_of_type
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Reader, Select
from ironflow_nb.values.stored_value import StoredValue
from ironflow_nb.views.decider_view import CommandForm, DeciderView, FieldForm, InstanceRow, OpenWork

AnyDecider: TypeAlias = Decider[Any, Any, Any, Any]

MOST: Final = 200
_SHOWN: Final = 400


class CurrentDecider(NamedTuple):
    """A view, and its diagram."""

    view: DeciderView
    diagram: StateDiagram


def current_decider(engine: Engine, decider: AnyDecider, explorer: Explorer, chosen: str | None) -> CurrentDecider:
    """Return the decider as it is now, with one instance of it or with all of them.

    Raises:
        InstanceNotFound: no instance has that id.
    """
    machine = state_machine_of(engine, decider, explorer, instance=chosen)
    with engine.reading() as reader:
        runs = reader.runs(Select(kind=decider.kind, name=decider.name, is_full_name=True))
        ids = {row.run_id: row.key or "" for row in runs}
        items = [
            each
            for each in reader.work(QueueSelect(of=[(decider.kind, decider.name)]))
            if each.kind != WorkKind.UNIQUE and chosen in {None, ids.get(each.run_id)}
        ]
        work = tuple(_open_work(reader, items[:MOST], ids))
        state = None if chosen is None else _state(reader, decider, ids, chosen)
    rows = [
        InstanceRow(instance=r.key or "", is_completed=r.ended_at is not None, updated_at=r.updated_at) for r in runs
    ]
    rows.sort(key=lambda each: -each.updated_at)
    status = machine.initial if chosen is None else decider.status_of(state)
    view = DeciderView(
        name=decider.name,
        instances=tuple(rows[:MOST]),
        n_more=max(len(rows) - MOST, 0),
        chosen=chosen,
        status="" if chosen is None else status,
        state=() if chosen is None else tuple((name, plain(text)[:_SHOWN]) for name, text in fields_of(state).items()),
        commands=tuple(command_forms(decider, machine, status, is_new=chosen is None)),
        work=work,
    )
    return CurrentDecider(view, _diagram(decider, machine, chosen, state))


def _state(reader: Reader, decider: AnyDecider, ids: Mapping[RunId, str], chosen: str) -> Any:
    run_id = next((run_id for run_id, key in ids.items() if key == chosen), None)
    if run_id is None:
        raise InstanceNotFound(f"there is no {decider.name} {chosen!r}", name=decider.name, instance=chosen)
    return state_at(decider, reader, run_id, chosen)


def _diagram(decider: AnyDecider, machine: StateMachine, chosen: str | None, state: Any) -> StateDiagram:
    if chosen is None:
        return StateDiagram(machine)
    instance = next(each for each in machine.history.instances if each.instance_id == chosen)
    shown = simple_fields(state, excluded=decider.status_field)
    return StateDiagram(machine, InstanceView(instance=instance, state=state, fields=shown))


def _open_work(reader: Reader, items: Sequence[QueueItem], ids: Mapping[RunId, str]) -> Iterator[OpenWork]:
    wanted = [each for item in items for each in (item.payload_id, item.error_id) if each is not None]
    values = reader.values(wanted)
    for item in items:
        payload = None if item.payload_id is None else values.get(item.payload_id)
        error = None if item.error_id is None else values.get(item.error_id)
        name, data = _payload(payload)
        yield OpenWork(
            instance=ids.get(item.run_id, ""), kind=item.kind, name=name, key=item.key, due_at=item.due_at,
            attempts=item.attempts, dead_at=item.dead_at, data=data,
            error="" if error is None else plain(error.preview or ""),
        )  # fmt: skip


def _payload(stored: StoredValue | None) -> tuple[str, str]:
    if stored is None or stored.content is None:
        return "", ""
    fields = msgspec.json.decode(stored.content)
    return str(fields.get("type")), plain(msgspec.json.encode(fields.get("data")).decode())[:_SHOWN]


# -- commands as forms -------------------------------------------------------------------------------------------------


def command_forms(decider: AnyDecider, machine: StateMachine, status: str, *, is_new: bool) -> Iterator[CommandForm]:
    """Yield the commands of the decider: first those that are known to be accepted in that status.

    The field of the id is left out, unless the command is for a new instance.
    """
    forms = [_command_form(decider, machine, status, name, is_new=is_new) for name in decider.command_names]
    yield from sorted(forms, key=lambda each: not each.targets)


def _command_form(decider: AnyDecider, machine: StateMachine, status: str, name: str, *, is_new: bool) -> CommandForm:
    transitions = [arrow.transition for arrow in machine.arrows]
    targets = dict.fromkeys(each.target for each in transitions if (each.source, each.command) == (status, name))
    fields = [
        _field_form(each, kind, default, is_required=is_required)
        for each, (kind, is_required, default) in _fields(decider, name).items()
        if is_new or each != decider.id_field
    ]
    return CommandForm(name=name, fields=tuple(fields), targets=tuple(targets))


def _fields(decider: AnyDecider, command: str) -> dict[str, tuple[Any, bool, Any]]:
    """Return type, whether it must be given, and default of the fields of a command, by name."""
    kind = decider.command_codec.class_of(command)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        found = msgspec.structs.fields(kind)
        return {each.name: (each.type, each.required, each.default) for each in found}
    if kind is None or not is_dataclass(kind):
        return {}
    hints = get_type_hints(kind)
    own = [each for each in dataclass_fields(kind) if each.init]
    return {
        each.name: (hints[each.name], each.default is MISSING and each.default_factory is MISSING, each.default)
        for each in own
    }


def _field_form(name: str, kind: Any, default: Any, *, is_required: bool) -> FieldForm:
    answer = answer_of_type(kind, None)
    is_shown = isinstance(default, str | int | float) and not isinstance(default, bool)
    return FieldForm(
        name=name, form=answer.form, fits=answer.fits, choices=answer.choices, is_required=is_required,
        default=str(default) if is_shown else "",
    )  # fmt: skip


def send_typed(decider: AnyDecider, command: str, chosen: str | None, texts: Mapping[str, str]) -> Outcome:
    """Send a command whose fields were typed; an empty field that has a default is left out.

    Raises:
        DecisionError: the decider has no such command, or a field does not fit.
    """
    if command not in decider.command_names:
        raise DecisionError(f"{decider.name} has no command {command!r}")
    given: dict[str, Any] = {} if chosen is None or decider.id_field is None else {decider.id_field: chosen}
    for name, (kind, is_required, _) in _fields(decider, command).items():
        text = texts.get(name, "")
        if name in given or not (text or is_required):
            continue
        answer = answer_of_type(kind, None)
        try:
            given[name] = answer.sent(answer.read(text))
        except ValueError as error:
            raise DecisionError(f"{command}: {name} takes {answer.fits}, not {text!r}: {error}") from None
    try:
        made = decider.command_codec.decode(command, msgspec.json.encode(given).decode())
    except EventUnreadable as error:
        raise DecisionError(f"{command}: {error.__cause__ or error}") from error
    return decider.send(made)


def outcome_words(command: str, outcome: Outcome) -> str:
    """Return in a line what became of a command."""
    match outcome:
        case Rejected(reason=reason):
            return f"{command} was rejected: {reason}"
        case Accepted(n_events=n_events):
            return f"{command} was accepted, with {n_events} event{'s' * (n_events != 1)}"
        case _:
            return f"{command} was not decided: the instance is completed"
