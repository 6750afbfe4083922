"""Exceptions as values: taken apart when they are raised, and rebuilt from the class that has the name now.

A handler of a flow gets the rebuilt exception, the first time as after a restart. An exception consists of what its
built-in base was made with, its attributes, its notes, and those in its chain. What of it has an exact tagged form is
kept as that, anything else that can be pickled as a signed pickle. What can be neither is lost, and a note says so.
"""

from __future__ import annotations

import builtins
import copyreg
import io
import sys
import traceback
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import UNSET

from ironflow_nb.core.identity import step_name
from ironflow_nb.errors import IronflowError, StepFailed, ValueUnreadable
from ironflow_nb.values.classes import adds_only_attributes, lookup
from ironflow_nb.values.codecs import store_rules
from ironflow_nb.values.signed_pickles import Signer, pickled, unpickled
from ironflow_nb.values.stored_value import StoredValue, legible, value_id
from ironflow_nb.values.tagged import Tree, tag, untag

ERROR: Final = "error"
TEXT_LIMIT: Final = 8 * 1024
TRACEBACK_LIMIT: Final = 32 * 1024
PART_LIMIT: Final = 1024 * 1024
"""Larger arguments and attributes of an exception are not stored: it says what happened, it does not carry data."""
LINK_LIMIT: Final = 100
"""So many exceptions of a chain, a group and their parts are kept."""

_ENCODER: Final = msgspec.json.Encoder()
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
_WHOLE: Final = ""
"""The name among the pickled parts of an exception that can't be taken apart."""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A recorded exception.

    `arguments` and `state` (attributes by name) are tagged; what has no tagged form is in the pickle `pickled`, under
    the names `pickles`; of the rest `lost` has the names, and an argument stands there as its repr. Where `kind` can't
    be made again from its parts, `stand_in` names the nearest of its bases that can.

    Other exceptions are numbers in the list of this one and its `links`: those in the chain, those of a group (`parts`
    in older records), and in `inner` those among the arguments and attributes.
    """

    kind: str
    text: str
    traceback: str = ""
    notes: tuple[str, ...] = ()
    arguments: tuple[Tree, ...] = ()
    state: dict[str, Tree] = {}
    lost: tuple[str, ...] = ()
    parts: tuple[Failure, ...] = ()
    stand_in: str = ""
    pickled: bytes | None = None
    pickles: tuple[str, ...] = ()
    inner: dict[str, int] = {}
    members: tuple[int, ...] = ()
    cause: int | None = None
    context: int | None = None
    suppresses: bool = False
    links: tuple[Failure, ...] = ()


_DECODER: Final = msgspec.json.Decoder(Failure)


def store_failure(error: BaseException, signer: Signer | None = None) -> StoredValue:
    """Return the exception as it will lie in the journal; never raises. Without a signer nothing is pickled."""
    taking = _Taking(is_pickling=signer is not None)
    taking.number(error)
    found = [taking.failure(each) for each in taking.errors]  # which grow meanwhile
    failure = msgspec.structs.replace(found[0], traceback=_traceback(error), links=tuple(found[1:]))
    content, mac = _ENCODER.encode(failure), None
    if signer is not None and taking.has_pickles:
        try:
            mac = signer.sign(ERROR, content)
        except IronflowError:  # there is no key
            return store_failure(error)
    preview = legible(f"{failure.kind}: {failure.text}")
    return StoredValue(value_id(ERROR, content), ERROR, content, len(content), failure.kind, preview, mac=mac)


def load_failure(stored: StoredValue) -> Failure:
    """Return what was recorded of the exception.

    Raises:
        ValueUnreadable: the bytes are no recorded exception.
    """
    try:
        return _DECODER.decode(stored.content or b"")
    except msgspec.MsgspecError as error:
        raise ValueUnreadable(f"a recorded exception can't be read: {error}", value_id=stored.value_id) from error


def has_pickles(content: bytes) -> bool:
    """Tell whether a recorded exception has pickled parts."""
    return b'"pickled":' in content


def recorded_error(
    stored: StoredValue, signer: Signer, *, where: str, raised: BaseException | None = None
) -> BaseException:
    """Return an exception equal to the recorded one, or `StepFailed` where its class does not exist here.

    It is made from the class that has the name now, without calling that class; pickled parts count only if this user
    signed them. The exception that was `raised` and recorded just now gives its tracebacks.

    Raises:
        ValueUnreadable: the bytes are no recorded exception.
    """
    failure = load_failure(stored)
    content = stored.content or b""
    is_own = has_pickles(content) and signer.is_own(ERROR, content, stored.mac)
    return _Rebuilding(failure, where, is_own=is_own).all(raised)


def exception_name(kind: type[BaseException]) -> str:
    """Return the name of an exception class; builtins go without their module, and so do those of ``__main__``."""
    name = step_name(None if kind.__module__ == builtins.__name__ else kind.__module__, kind.__qualname__)
    hides_builtin = kind.__module__ == "__main__" and hasattr(builtins, name)
    return f"__main__.{name}" if hides_builtin else name


# -- taking apart ------------------------------------------------------------------------------------------------


class _Taking:
    """Takes exceptions apart: one, and all that it leads to."""

    def __init__(self, *, is_pickling: bool) -> None:
        self.errors: list[BaseException] = []
        self.has_pickles = False
        self._is_pickling = is_pickling
        self._numbers: dict[int, int] = {}
        self._read: dict[int, io.BytesIO] = {}

    def number(self, error: BaseException | None) -> int | None:
        """Return the number of the exception, which is taken apart as well; None if there is none, or one too many."""
        if error is not None and id(error) not in self._numbers and len(self.errors) < LINK_LIMIT:
            self._numbers[id(error)] = len(self.errors)
            self.errors.append(error)
        return self._numbers.get(id(error))

    def failure(self, error: BaseException) -> Failure:
        """Return what is to be recorded of the exception."""
        kind, base = type(error), _base(type(error))
        arguments, state = _contents(error)
        members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        named = {f"args[{index}]": value for index, value in enumerate(arguments[:1] if members else arguments)} | state
        trees = {name: tree for name, value in named.items() if (tree := _tree(value)) is not UNSET}
        inner = {name: number for name, value in named.items() if (number := self._inner(value)) is not None}
        others = {name: value for name, value in named.items() if name not in trees | inner}
        is_whole = base is not kind and _find(exception_name(kind)) is kind
        pickles = self._pickled({_WHOLE: error} if is_whole else self._answers(others))
        return Failure(
            kind=legible(exception_name(kind)),
            text=legible(_text(str, error), TEXT_LIMIT),
            notes=_notes(error),
            arguments=tuple(trees.get(name, _shown(value)) for name, value in named.items() if name not in state),
            state={name: tree for name, tree in trees.items() if name in state},
            lost=tuple(name for name in others if name not in pickles and _WHOLE not in pickles),
            stand_in="" if base is kind or base is None else exception_name(base),
            pickled=pickled(pickles) if pickles else None,
            pickles=tuple(pickles),
            inner=inner,
            members=tuple(number for each in members if (number := self.number(each)) is not None),
            cause=self.number(error.__cause__),
            context=self.number(error.__context__),
            suppresses=error.__suppress_context__,
        )

    def _inner(self, value: Any) -> int | None:
        return self.number(value) if isinstance(value, BaseException) else None

    def _answers(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values with what is left to read of an HTTP answer in the place of its connection.

        `urllib.error.HTTPError` has one, and handlers read it. It is read only if it says how long it is.
        """
        answer: Any = getattr(sys.modules.get("http.client"), "HTTPResponse", type(None))
        for value in values.values():
            if value is not None and isinstance(value, answer) and id(value) not in self._read:
                is_short = value.length is not None and value.length <= PART_LIMIT
                self._read[id(value)] = io.BytesIO(value.read() if is_short else b"")
        return {name: self._read.get(id(value), value) for name, value in values.items()}

    def _pickled(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return those of the values that a pickle gives back."""
        kept = {name: value for name, value in values.items() if self._is_pickling and _comes_back(value)}
        self.has_pickles |= bool(kept)
        return kept


def _base(kind: type[BaseException]) -> type[BaseException] | None:
    """Return the class if its objects can be made again from their parts, else the nearest such base.

    None if that says no more than `Exception`.
    """
    for each in kind.__mro__:
        if each in {Exception, BaseException} and each is not kind:
            return None
        if _find(exception_name(each)) is not None and adds_only_attributes(each, _built_in(each)):
            return each
    return None


def _comes_back(value: Any) -> bool:
    try:
        unpickled(pickled(value, limit=PART_LIMIT))
    except Exception:  # noqa: BLE001 -- whatever a foreign class does, the failure is to be recorded
        return False
    return True


def _contents(error: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what the built-in base of the class was made with, and the attributes, those of slots included."""
    kind = type(error)
    reduced: Any = _built_in(kind).__reduce__(error)
    _, arguments, *more = reduced
    found = dict(more[0] or {}) if more else {}
    if isinstance(error, NameError):  # of which its pickles know nothing
        found["name"] = error.name
    slots = copyreg._slotnames(kind)  # type: ignore[attr-defined]
    found |= {name: getattr(error, name) for name in slots if hasattr(error, name)}
    return arguments, {name: value for name, value in found.items() if not name.startswith(("__", "_ironflow"))}


def _built_in(kind: type[BaseException]) -> type[BaseException]:
    """Return the class of C that decides how the exceptions of `kind` are laid out."""
    while kind.__flags__ & _HEAP_TYPE:
        kind = kind.__base__  # type: ignore[assignment]
    return kind


def _tree(value: Any) -> Tree:
    """Return the tagged form of the value; `UNSET` if it has none, or too large a one."""
    try:
        tree = tag(value, store_rules())
        return tree if len(_ENCODER.encode(tree)) <= PART_LIMIT else UNSET
    except Exception:  # noqa: BLE001 -- whatever a foreign class does, the failure is to be recorded
        return UNSET


def _shown(value: Any) -> str:
    return legible(_text(str if type(value) is str else repr, value), TEXT_LIMIT)


def _notes(error: BaseException) -> tuple[str, ...]:
    notes = getattr(error, "__notes__", None)
    texts = [note for note in notes if isinstance(note, str)] if type(notes) is list else []
    return tuple(legible(note, TEXT_LIMIT) for note in texts)


def _text(write: Any, value: Any) -> str:
    try:
        return str.__str__(write(value))
    except Exception:  # noqa: BLE001 -- a foreign __str__ or __repr__ may raise anything
        return f"(the text of a {type(value).__name__} that can't be shown)"


def _traceback(error: BaseException) -> str:
    try:
        stack = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 -- nor may anything foreign in the chain hurt
        return ""
    half = TRACEBACK_LIMIT // 2
    cut = stack if len(stack) <= TRACEBACK_LIMIT else f"{stack[:half]}\n...\n{stack[-half:]}"
    return legible(cut, 2 * TRACEBACK_LIMIT)


# -- putting together --------------------------------------------------------------------------------------------


class _Rebuilding:
    """Makes exceptions of what was recorded of one, and of all that it leads to."""

    def __init__(self, failure: Failure, where: str, *, is_own: bool) -> None:
        """Take the records; `where` says what failed, and pickled parts are loaded only of one's own."""
        self._failures = [failure, *failure.links]
        self._where = where
        self._is_own = is_own
        self._begun: set[int] = set()
        self._made: dict[int, BaseException] = {}

    def all(self, raised: BaseException | None) -> BaseException:
        """Return the exception with its chain, and with the tracebacks of the one that was raised."""
        originals: dict[int, BaseException | None] = {0: raised}
        for number, failure in enumerate(self._failures):
            error, original = self._error(number), originals.get(number)
            for member, part in zip(failure.members, getattr(original, "exceptions", ()), strict=False):
                originals.setdefault(member, part)
            for name, link in (("__cause__", failure.cause), ("__context__", failure.context)):
                if link is not None:
                    setattr(error, name, self._error(link))
                    originals.setdefault(link, getattr(original, name, None))
            error.__suppress_context__ = failure.suppresses
            error.__traceback__ = None if original is None else original.__traceback__
        return self._error(0)

    def _error(self, number: int) -> BaseException:
        if number not in self._made:
            self._begun.add(number)
            self._made[number] = self.one(self._failures[number])
        return self._made[number]

    def one(self, failure: Failure) -> BaseException:
        """Return the exception without its chain."""
        loaded = _loaded(failure) if self._is_own else {}
        members = [self.one(part) for part in failure.parts] or [self._error(number) for number in failure.members]
        missing = [*failure.lost, *(name for name in failure.pickles if name != _WHOLE and name not in loaded)]
        for name, number in failure.inner.items():
            if number in self._made or number not in self._begun:  # else it holds what holds it
                loaded[name] = self._error(number)
        error = _made(failure, loaded, self._where, members)
        vars(error).pop("__notes__", None)
        for note in failure.notes:
            error.add_note(note)
        if failure.stand_in and _WHOLE not in loaded:
            error.add_note(f"(it stands for a {failure.kind}, which nothing finds by that name after a restart)")
        if missing:
            error.add_note(f"(the journal could not keep of it: {', '.join(missing)})")
        return error


def _loaded(failure: Failure) -> dict[str, Any]:
    """Return the pickled parts by name, if they can be loaded."""
    if failure.pickled is None:
        return {}
    try:
        loaded: dict[str, Any] = unpickled(failure.pickled)
    except ValueUnreadable:
        return {}
    return loaded


def _made(failure: Failure, loaded: dict[str, Any], where: str, members: list[BaseException]) -> BaseException:
    whole = loaded.get(_WHOLE)
    if isinstance(whole, BaseException):
        return whole
    kind = _find(failure.stand_in or failure.kind)
    if kind is not None:
        with suppress(Exception):  # a class may have changed in any way since
            return _revived(kind, failure, loaded, members)
    return StepFailed(f"{where} failed with {failure.kind}: {failure.text}", kind=failure.kind, text=failure.text)


def _find(name: str) -> type[BaseException] | None:
    found = getattr(builtins, name, None) or lookup(name)
    is_exception = isinstance(found, type) and issubclass(found, Exception)
    return found if is_exception else None


def _revived(
    kind: type[BaseException], failure: Failure, loaded: dict[str, Any], members: list[BaseException]
) -> BaseException:
    trees = {f"args[{index}]": tree for index, tree in enumerate(failure.arguments)}
    arguments = [loaded[name] if name in loaded else untag(tree) for name, tree in trees.items()]
    if members:
        arguments.append(members)
    base: Any = _built_in(kind)
    error: BaseException = base.__new__(kind, *arguments)
    base.__init__(error, *arguments)
    state = {name: untag(tree) for name, tree in failure.state.items()}
    for name, value in (state | {name: value for name, value in loaded.items() if name not in trees}).items():
        try:
            object.__setattr__(error, name, value)
        except AttributeError:  # a property hides the attribute of that name
            vars(error)[name] = value
    return error
