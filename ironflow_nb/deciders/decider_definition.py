"""What a decider is made of: pure functions, classes, and how effects are performed."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar, get_args, get_type_hints

import msgspec

from ironflow_nb.code_identity.tracker import Tracker
from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.core.status import RunKind
from ironflow_nb.deciders.codec import Codec, Upcast
from ironflow_nb.deciders.decisions import Accept, Reject
from ironflow_nb.deciders.instance_changes import InstanceChanges
from ironflow_nb.deciders.state_memory import StateMemory, is_immutable
from ironflow_nb.deciders.store import StoredState
from ironflow_nb.deciders.transitions import declared_transitions
from ironflow_nb.errors import DecisionError
from ironflow_nb.execution import a_text, call_body

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")
Effect = TypeVar("Effect")
F = TypeVar("F", bound=Callable[..., Any])

SNAPSHOT_EVERY: Final = 200
"""So many events are folded again at most, beside what a process still knows."""


@dataclass(frozen=True, slots=True)
class Handler:
    """What performs effects of one class, and how often it is tried."""

    perform: Callable[..., Any]
    attempts: int
    delay_s: float
    max_delay_s: float
    lease_s: float
    takes_context: bool
    on_dead_letter: Callable[..., Any] | None = None


class DeciderDefinition(Generic[State, Command, Event, Effect]):
    """The definition of a decider, without any journal."""

    __ironflow_definition__: Final = "decider"
    kind: Final = RunKind.DECIDER

    def __new__(cls, *args: Any, **options: Any) -> DeciderDefinition[State, Command, Event, Effect]:
        """Refuse what Python itself would refuse with the name of an inner class. Type checkers read `__init__`.

        Raises:
            DecisionError: there is no initial state.
        """
        if args and "initial" not in options:
            raise DecisionError(
                f"decider {args[0]!r} has no state to begin with; write iron.Decider({args[0]!r}, initial=...), where "
                "initial is the state before the first event, such as a frozen dataclass"
            )
        return super().__new__(cls)

    def __init__(  # noqa: PLR0913 -- all of it is what one machine is; keyword-only
        self,
        name: str,
        *,
        initial: State,
        id_of: str | Callable[[Command], str] = "id",
        status: str | Callable[[State], str] | None = None,
        terminal: Collection[str] | Callable[[State], bool] = (),
        unique_key: str | Callable[[Command], str | None] | None = None,
        check_purity: bool = False,
        transitions: Iterable[Any] = (),
        samples: Iterable[Command] = (),
    ) -> None:
        """Name the machine.

        Args:
            name: what it is called in the journal, for ever; without a dot.
            initial: the state before the first event; a frozen dataclass or msgspec struct.
            id_of: the field of commands, or the function, that says which instance they are for.
            status: the field of states, or the function, that says in a word where an instance stands.
            terminal: statuses, or the function, that say when an instance decides nothing any more.
            unique_key: the field of the first command, or the function, whose value no two instances that are not
                completed may have.
            check_purity: decide everything twice, and refuse a `decide` that changes its state or says something else.
            transitions: those there should be, for diagrams: (from, command, to), then effects and timers if wanted.
            samples: commands with which a diagram finds out what can be reached; those of history are tried too.
        """
        if not isinstance(name, str) or not name or "." in name or not name.isprintable():
            raise DecisionError(f"the name of a decider is a text without dots and control characters, not {name!r}")
        if isinstance(initial, type):
            raise DecisionError(
                f"initial of decider {name} is a state, not a class; write initial={initial.__name__}(...)"
            )
        if not isinstance(id_of, str) and not callable(id_of):
            raise DecisionError(f"id_of of decider {name} is a field of commands or a function of them, not {id_of!r}")
        if isinstance(terminal, str):
            terminal = (terminal,)
        if not callable(terminal) and not isinstance(terminal, Collection):
            raise DecisionError(
                f"terminal of decider {name} is a list of statuses or a function of the state, not {terminal!r}"
            )
        self.name = name
        self._initial = initial
        self._shares_initial = is_immutable(initial)
        self._beginning = _written(initial)
        self.checks_purity = check_purity
        self.event_codec = Codec(name, "event")
        self.command_codec = Codec(name, "command")
        self.effect_codec = Codec(name, "effect")
        self.handlers: dict[str, Handler] = {}
        self._id_of, self._status, self._terminal, self._unique = id_of, status, terminal, unique_key
        self._evolve: Callable[[Any, Any], Any] | None = None
        self._decide: Callable[..., Any] | None = None
        self._takes_time = False
        self.transitions = declared_transitions(transitions)
        self.samples = tuple(samples)
        self.command_names: tuple[str, ...] = ()
        self._evolve_code: Tracker | None = None
        self._other_code = {
            name: Tracker(each) for name, each in (("status", status), ("terminal", terminal)) if callable(each)
        }
        self.warned_in: str | None = None
        self.memory = StateMemory()
        self._is_made()

    def _is_made(self) -> None:
        """Do what follows from there being one more."""

    @property
    def initial(self) -> State:
        """The state before the first event; one that could be changed is a new one each time."""
        return self._initial if self._shares_initial else copy.deepcopy(self._initial)

    # -- definition ----------------------------------------------------------------------------------------------

    def evolve(self, function: F) -> F:
        """Make the function the one that says what a state becomes by an event: ``(state, event) -> state``."""
        self._evolve = function
        state = type(self._initial)  # its methods count, by whatever way the function calls them
        self._evolve_code = Tracker(function, () if state.__module__ == "builtins" else (state,))
        self.event_codec.namespace = function.__globals__
        self._learn(function)
        return function

    def decide(self, function: F) -> F:
        """Make the function the one that decides: ``(state, command)`` or ``(state, command, now) -> decision``."""
        self._decide = function
        self._other_code["decide"] = Tracker(function)
        self._takes_time = len(inspect.signature(function).parameters) > 2
        self.command_codec.namespace = self.effect_codec.namespace = function.__globals__
        self._learn(function)
        return function

    def _learn(self, function: Callable[..., Any]) -> None:
        """Take the classes that the annotations name."""
        try:
            hints = list(get_type_hints(function).values())
        except Exception:  # noqa: BLE001 -- annotations that can't be resolved only say less
            return
        if len(hints) > 1 and function is self._decide:
            kinds = get_args(hints[1]) or (hints[1],)
            self.command_names = tuple(kind.__name__ for kind in kinds if isinstance(kind, type))
        if len(hints) > 1:
            (self.event_codec if function is self._evolve else self.command_codec).learn(hints[1])

    def perform(
        self,
        kind: type,
        *,
        attempts: int = 5,
        delay: Duration = 1.0,
        max_delay: Duration = 300.0,
        lease: Duration = 300.0,
        on_dead_letter: Callable[..., Any] | None = None,
    ) -> Callable[[F], F]:
        """Make the function the one that performs effects of the class: ``(effect)`` or ``(effect, context)``.

        It returns a command, which is decided, or None. What it raises is tried again, `attempts` times in all, after
        `delay`, twice that, and so on up to `max_delay`. Nobody else takes an effect within `lease` of its beginning.
        What fails for good is a dead letter; `on_dead_letter(effect, error)` returns a command that is sent then.
        """
        if not isinstance(kind, type):
            raise DecisionError(f"perform takes the class of the effect, not {kind!r}: @{self.name}.perform(Charge)")
        if type(attempts) is not int or attempts < 1 or seconds(lease) == 0:
            raise DecisionError(f"an effect needs at least one attempt and a lease, not {attempts!r} and {lease!r}")

        def register(function: F) -> F:
            takes_context = len(inspect.signature(function).parameters) > 1
            self.effect_codec.learn(kind)
            self.handlers[kind.__name__] = Handler(
                function, attempts, seconds(delay), seconds(max_delay), seconds(lease), takes_context, on_dead_letter
            )
            return function

        return register

    def upcast(self, kind: type | str, *, from_version: int = 1) -> Callable[[Upcast], Upcast]:
        """Make the function the one that brings the fields of events of that version to the next one: dict to dict.

        The events are named by their class, or by the name of it.
        """
        if not isinstance(kind, type | str):
            raise DecisionError(
                f"upcast takes a class of events, or its name, not {kind!r}: @{self.name}.upcast(Placed)"
            )
        if type(from_version) is not int or from_version < 1:
            raise DecisionError(f"from_version is a whole number from 1, not {from_version!r}")
        return partial(self._upcast, kind, from_version)

    def _upcast(self, kind: type | str, from_version: int, function: Upcast) -> Upcast:
        self.event_codec.add_upcast(kind, from_version, function)
        return function

    # -- asking it, without a journal ----------------------------------------------------------------------------

    def evolve_with(self, state: Any, event: Any) -> Any:
        """Return what the state becomes by the event."""
        if self._evolve is None:
            raise DecisionError(f"decider {self.name} has no evolve; define one with @{self.name}.evolve")
        after = self._evolve(state, event)
        if after is None and self.initial is not None:
            raise DecisionError(
                f"evolve of {self.name} returned nothing for {event!r}; it returns the state after the event, or the "
                "state as it was"
            )
        return after

    def decide_with(self, state: Any, command: Any, now: datetime) -> Accept[Any] | Reject:
        """Return what is decided."""
        if self._decide is None:
            raise DecisionError(f"decider {self.name} has no decide; define one with @{self.name}.decide")
        decision = call_body(self._decide, (state, command, now) if self._takes_time else (state, command), {})
        if not isinstance(decision, Accept | Reject):
            raise DecisionError(
                f"decide of {self.name} returned {decision!r} for {command!r}; it is called with the state, then the "
                "command, and returns iron.accept(event, ...) or iron.reject(reason)"
            )
        return decision

    def instance_of(self, command: Any) -> str:
        """Return for which instance the command is.

        Raises:
            DecisionError: it does not say.
        """
        found = self._id_of(command) if callable(self._id_of) else getattr(command, self._id_of, None)
        if not isinstance(found, str) or not found:
            where = "id_of=" if callable(self._id_of) else f"its field {self._id_of!r}"
            raise DecisionError(
                f"{command!r} does not say for which {self.name} it is: {where} gives {found!r}, no text"
            )
        return a_text("the id of an instance", found)

    def status_of(self, state: Any) -> str:
        """Return in a word where the state stands."""
        if self._status is None:
            return str(getattr(state, "status", type(state).__name__))
        return str(self._status(state) if callable(self._status) else getattr(state, self._status))

    def is_terminal(self, state: Any) -> bool:
        """Tell whether nothing is decided any more in that state."""
        return bool(self._terminal(state)) if callable(self._terminal) else self.status_of(state) in self._terminal

    @property
    def has_unique_key(self) -> bool:
        """Tell whether instances may have a key that no other open one has."""
        return self._unique is not None

    def unique_key_of(self, command: Any) -> str | None:
        """Return the key that no other open instance may have."""
        if self._unique is None:
            return None
        found = self._unique(command) if callable(self._unique) else getattr(command, self._unique, None)
        return None if found is None else str(found)

    # -- what diagrams are made of -------------------------------------------------------------------------------

    @property
    def functions(self) -> tuple[Callable[..., Any] | None, Callable[..., Any] | None]:
        """What evolves and what decides, as far as they are defined."""
        return self._evolve, self._decide

    @property
    def status_field(self) -> str | None:
        """The field of states that says where an instance stands; None if a function does."""
        return "status" if self._status is None else None if callable(self._status) else self._status

    @property
    def terminal_statuses(self) -> tuple[str, ...]:
        """The statuses that were named terminal, in order; none if a function tells."""
        if callable(self._terminal):
            return ()
        return tuple(sorted(self._terminal) if isinstance(self._terminal, AbstractSet) else self._terminal)

    @property
    def evolve_code(self) -> Digest:
        """The identity of what makes states of events."""
        assert self._evolve_code is not None
        return digest_bytes(self._evolve_code.current().digest + (self._beginning or b""))

    @property
    def code(self) -> tuple[Digest, ...]:
        """The identities of all code that says where commands lead, as far as it is defined."""
        evolves = () if self._evolve_code is None else (self.evolve_code,)
        return (*evolves, *(tracker.current().digest for tracker in self._other_code.values()))

    @property
    def definition_id(self) -> Digest:
        """The identity of the definition."""
        return digest_bytes(f"decider {self.name}\0".encode() + self.evolve_code)

    def known_state(self, kept: StoredState) -> tuple[Any] | None:
        """Return the state that was kept, if the code that made it is that of now."""
        if kept.code != self.evolve_code:
            return None
        try:
            return (msgspec.json.decode(kept.data, type=type(self.initial)),)
        except (msgspec.MsgspecError, TypeError):
            return None

    def keep_state(self, draft: InstanceChanges) -> None:
        """Keep the state when the one that was kept lies so many events back, if it is read back as it is."""
        if self._beginning is None or draft.version - draft.kept_version < SNAPSHOT_EVERY:
            return  # of a beginning that has no text nobody could tell whether it has changed
        draft.kept_version = draft.version  # also where it can't be kept: not every command is to try that
        try:
            data = msgspec.json.encode(draft.state)
            if msgspec.json.decode(data, type=type(self.initial)) != draft.state:
                return
        except (msgspec.MsgspecError, TypeError):
            return
        draft.keep_state(self.evolve_code, data.decode())


def _written(initial: Any) -> bytes | None:
    """Return the state before the first event as text, the same in every process where that can be; or None."""
    orders: tuple[Literal["deterministic"] | None, ...] = ("deterministic", None)  # the first knows no numbers as keys
    for order in orders:
        try:
            return type(initial).__qualname__.encode() + b"\0" + msgspec.json.encode(initial, order=order)
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
            continue
    return None


AnyMachine = DeciderDefinition[Any, Any, Any, Any]

for own in ("evolve", "decide", "perform", "upcast"):
    setattr(vars(DeciderDefinition)[own], "__ironflow_decorator__", True)  # noqa: B010 -- how a function is marked
