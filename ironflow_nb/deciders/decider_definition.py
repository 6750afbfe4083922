"""The definition of a decider: its pure functions, the classes of its messages, and the handlers of its effects."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar, get_args, get_type_hints
from weakref import WeakKeyDictionary

import msgspec

from ironflow_nb.code_identity.tracker import Tracker
from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.core.option_values import a_text
from ironflow_nb.core.status import RunKind
from ironflow_nb.deciders.codec import Codec, Upcast
from ironflow_nb.deciders.decisions import Accept, Reject
from ironflow_nb.deciders.transitions import declared_transitions
from ironflow_nb.errors import DecisionError
from ironflow_nb.execution import JournalAccess, call_body

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")
Effect = TypeVar("Effect")
F = TypeVar("F", bound=Callable[..., Any])

_PLAIN: Final = (int, float, str, bytes, bool, tuple, frozenset)


@dataclass(frozen=True, slots=True)
class Handler:
    """The function that performs effects of one class, and its retry. Delays and lease are seconds."""

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

    _evolve: Callable[[Any, Any], Any] | None = None
    _decide: Callable[..., Any] | None = None
    _takes_time = False
    command_names: tuple[str, ...] = ()
    _evolve_code: Tracker | None = None
    warned_in: str | None = None
    """The execution of a cell that was warned of a repeated command."""

    def __new__(cls, *args: Any, **options: Any) -> DeciderDefinition[State, Command, Event, Effect]:
        """Refuse a call without `initial`, in which Python would name an inner class. Type checkers read `__init__`.

        Raises:
            DecisionError: there is no initial state.
        """
        if args and "initial" not in options:
            raise DecisionError(
                f"decider {args[0]!r} has no state to begin with; write iron.Decider({args[0]!r}, initial=...), where "
                "initial is the state before the first event, such as a frozen dataclass"
            )
        return super().__new__(cls)

    def __init__(  # noqa: PLR0913 -- the options of one decider; keyword-only
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
        """Define a decider; `evolve`, `decide` and `perform` give it its functions.

        Args:
            name: its name in the journal, for ever; without a dot.
            initial: the state before the first event; a frozen dataclass or msgspec struct.
            id_of: the field of commands, or a function of them, with the id of the instance.
            status: the field of states, or a function of them, with the status of the instance in a word.
            terminal: the statuses, or a function of the state, in which an instance decides nothing any more.
            unique_key: the field of the first command, or a function of it, with a key that only one instance may have
                until it is completed.
            check_purity: decide everything twice; refuse a `decide` that changes its state or gives two decisions.
            transitions: the declared transitions, for diagrams: (from, command, to), optionally effects and timers.
            samples: commands with which a diagram explores the states; commands of the history are tried too.

        Raises:
            DecisionError: an argument is invalid.
        """
        _refuse_invalid(name, initial, id_of, terminal)
        self.name = name
        self._initial, self._shares_initial, self.initial_text = initial, is_immutable(initial), _state_text(initial)
        self._id_of, self._status, self._unique = id_of, status, unique_key
        self._terminal = (terminal,) if isinstance(terminal, str) else terminal
        self.checks_purity = check_purity
        self.transitions, self.samples = declared_transitions(transitions), tuple(samples)
        self.event_codec, self.command_codec = Codec(name, "event"), Codec(name, "command")
        self.effect_codec = Codec(name, "effect")
        self.handlers: dict[str, Handler] = {}
        self._other_code = {
            name: Tracker(each) for name, each in (("status", status), ("terminal", terminal)) if callable(each)
        }
        self.memories: WeakKeyDictionary[JournalAccess, Any] = WeakKeyDictionary()
        """The states that `instances` remembers, for each engine."""
        self._register()

    def _register(self) -> None:
        """Make the decider known to the process."""

    @property
    def initial(self) -> State:
        """The state before the first event; a new copy each time if it can be changed in place."""
        return self._initial if self._shares_initial else copy.deepcopy(self._initial)

    # -- definition ----------------------------------------------------------------------------------------------

    def evolve(self, function: F) -> F:
        """Register the function that returns the state after an event: ``(state, event) -> state``."""
        self._evolve = function
        state = type(self._initial)  # its methods are part of the code, however the function reaches them
        self._evolve_code = Tracker(function, () if state.__module__ == "builtins" else (state,))
        self.event_codec.namespace = function.__globals__
        self._learn_classes(function)
        return function

    def decide(self, function: F) -> F:
        """Register the function that decides: ``(state, command) -> decision`` or ``(state, command, now)``."""
        self._decide = function
        self._other_code["decide"] = Tracker(function)
        self._takes_time = len(inspect.signature(function).parameters) > 2
        self.command_codec.namespace = self.effect_codec.namespace = function.__globals__
        self._learn_classes(function)
        return function

    def _learn_classes(self, function: Callable[..., Any]) -> None:
        """Learn the classes of events or commands from the annotations."""
        try:
            hints = list(get_type_hints(function).values())
        except Exception:  # noqa: BLE001 -- classes are also learned when they are used
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
        """Register the function that performs effects of the class: ``(effect)`` or ``(effect, context)``.

        It returns a command, which is decided, or None. If it raises, the effect is tried again after `delay`, twice
        that, and so on up to `max_delay`, `attempts` times in all. No other process takes the effect within `lease` of
        the start of an attempt. After the last attempt the effect is a dead letter: the command that
        ``on_dead_letter(effect, error)`` returns is sent.

        Raises:
            DecisionError: an argument is invalid.
        """
        if not isinstance(kind, type):
            raise DecisionError(f"perform takes the class of the effect, got {kind!r}: @{self.name}.perform(Charge)")
        if type(attempts) is not int or attempts < 1 or seconds(lease) == 0:
            raise DecisionError(f"attempts must be an int >= 1 and lease more than 0, got {attempts!r} and {lease!r}")

        def register(function: F) -> F:
            takes_context = len(inspect.signature(function).parameters) > 1
            self.effect_codec.learn(kind)
            self.handlers[kind.__name__] = Handler(
                function, attempts, seconds(delay), seconds(max_delay), seconds(lease), takes_context, on_dead_letter
            )
            return function

        return register

    def upcast(self, kind: type | str, *, from_version: int = 1) -> Callable[[Upcast], Upcast]:
        """Register the function that converts the fields of an event from that version to the next: dict to dict.

        Args:
            kind: the class of the events, or its name.
            from_version: the version that the function converts.

        Raises:
            DecisionError: an argument is invalid.
        """
        if not isinstance(kind, type | str):
            raise DecisionError(
                f"upcast takes a class of events or its name, got {kind!r}: @{self.name}.upcast(Placed)"
            )
        if type(from_version) is not int or from_version < 1:
            raise DecisionError(f"from_version must be an int >= 1, got {from_version!r}")
        return partial(self._add_upcast, kind, from_version)

    def _add_upcast(self, kind: type | str, from_version: int, function: Upcast) -> Upcast:
        self.event_codec.add_upcast(kind, from_version, function)
        return function

    # -- calls of its functions, without a journal ---------------------------------------------------------------

    def evolve_with(self, state: Any, event: Any) -> Any:
        """Return the state after the event.

        Raises:
            DecisionError: there is no `evolve`, or it returned None.
        """
        if self._evolve is None:
            raise self._missing("evolve")
        after = self._evolve(state, event)
        if after is None and self.initial is not None:
            raise DecisionError(
                f"evolve of {self.name} returned None for {event!r}; it must return the state after the event, "
                "changed or not"
            )
        return after

    def decide_with(self, state: Any, command: Any, now: datetime) -> Accept[Any] | Reject:
        """Return the decision.

        Raises:
            DecisionError: there is no `decide`, or it returned no decision.
        """
        if self._decide is None:
            raise self._missing("decide")
        decision = call_body(self._decide, (state, command, now) if self._takes_time else (state, command), {})
        if not isinstance(decision, Accept | Reject):
            raise DecisionError(
                f"decide of {self.name} returned {decision!r} for {command!r}; it is called with the state, then the "
                "command, and returns iron.accept(event, ...) or iron.reject(reason)"
            )
        return decision

    def _missing(self, function: str) -> DecisionError:
        return DecisionError(f"decider {self.name} has no {function}; define one with @{self.name}.{function}")

    def instance_of(self, command: Any) -> str:
        """Return the id of the instance that the command is for.

        Raises:
            DecisionError: the command has none.
        """
        found = self._id_of(command) if callable(self._id_of) else getattr(command, self._id_of, None)
        if not isinstance(found, str) or not found:
            where = "id_of=" if callable(self._id_of) else f"its field {self._id_of!r}"
            raise DecisionError(
                f"{command!r} has no id of an instance of {self.name}: {where} must give a str, got {found!r}"
            )
        return found if found.isascii() else a_text("the id of an instance", found)

    def status_of(self, state: Any) -> str:
        """Return the status of the state."""
        if self._status is None:
            return str(getattr(state, "status", type(state).__name__))
        return str(self._status(state) if callable(self._status) else getattr(state, self._status))

    def is_terminal(self, state: Any) -> bool:
        """Return True if an instance in that state decides nothing any more."""
        return bool(self._terminal(state)) if callable(self._terminal) else self.status_of(state) in self._terminal

    @property
    def has_unique_key(self) -> bool:
        """Whether instances have a unique key."""
        return self._unique is not None

    def unique_key_of(self, command: Any) -> str | None:
        """Return the key that only one open instance may have, or None."""
        if self._unique is None:
            return None
        found = self._unique(command) if callable(self._unique) else getattr(command, self._unique, None)
        return None if found is None else str(found)

    # -- for diagrams, and for the identity of the code ----------------------------------------------------------

    @property
    def functions(self) -> tuple[Callable[..., Any] | None, Callable[..., Any] | None]:
        """`evolve` and `decide`; None for a missing one."""
        return self._evolve, self._decide

    @property
    def status_field(self) -> str | None:
        """The field of states with the status; None if a function returns it."""
        return "status" if self._status is None else None if callable(self._status) else self._status

    @property
    def id_field(self) -> str | None:
        """The field of commands with the id of the instance; None if a function returns it."""
        return None if callable(self._id_of) else self._id_of

    @property
    def terminal_statuses(self) -> tuple[str, ...]:
        """The statuses that were declared terminal, in order; none if a function decides it."""
        if callable(self._terminal):
            return ()
        return tuple(sorted(self._terminal) if isinstance(self._terminal, AbstractSet) else self._terminal)

    @property
    def evolve_code(self) -> Digest:
        """The digest of the code of `evolve`, with the initial state.

        Raises:
            DecisionError: there is no `evolve`.
        """
        if self._evolve_code is None:
            raise self._missing("evolve")
        return digest_bytes(self._evolve_code.current().digest + (self.initial_text or b""))

    @property
    def code(self) -> tuple[Digest, ...]:
        """The digests of all defined functions that determine transitions."""
        evolves = () if self._evolve_code is None else (self.evolve_code,)
        return (*evolves, *(tracker.current().digest for tracker in self._other_code.values()))

    @property
    def definition_id(self) -> Digest:
        """The identity of the definition."""
        return digest_bytes(f"decider {self.name}\0".encode() + self.evolve_code)


def is_immutable(state: Any) -> bool:
    """Return True if nothing can change the state in place, judged by its class and the hash of its fields."""
    parameters = getattr(type(state), "__dataclass_params__", None)
    if parameters is not None:
        is_frozen = parameters.frozen
    elif isinstance(state, msgspec.Struct):
        is_frozen = state.__struct_config__.frozen
    else:
        is_frozen = type(state) in _PLAIN
    if not is_frozen:
        return False
    try:
        hash(state)
    except TypeError:
        return False
    return True


def _state_text(initial: Any) -> bytes | None:
    """Return the state as text, equal in every process if possible; None if JSON has no form for it."""
    # "deterministic" refuses numbers as keys.
    orders: tuple[Literal["deterministic"] | None, ...] = ("deterministic", None)
    for order in orders:
        try:
            return type(initial).__qualname__.encode() + b"\0" + msgspec.json.encode(initial, order=order)
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
            continue
    return None


def _refuse_invalid(name: Any, initial: Any, id_of: Any, terminal: Any) -> None:
    """Raise `DecisionError` if an argument of a definition is invalid."""
    if not isinstance(name, str) or not name or "." in name or not name.isprintable():
        raise DecisionError(f"the name of a decider must be a str without dots and control characters, got {name!r}")
    if isinstance(initial, type):
        raise DecisionError(
            f"initial of decider {name} must be a state, got a class; write initial={initial.__name__}(...)"
        )
    if not isinstance(id_of, str) and not callable(id_of):
        raise DecisionError(
            f"id_of of decider {name} must be the name of a field of commands or a function of them, got {id_of!r}"
        )
    if not callable(terminal) and not isinstance(terminal, Collection):  # a str is one, too
        raise DecisionError(
            f"terminal of decider {name} must be a list of statuses or a function of the state, got {terminal!r}"
        )


AnyDecider = DeciderDefinition[Any, Any, Any, Any]

for own in ("evolve", "decide", "perform", "upcast"):
    setattr(vars(DeciderDefinition)[own], "__ironflow_decorator__", True)  # noqa: B010 -- mypy refuses an attribute of a function
