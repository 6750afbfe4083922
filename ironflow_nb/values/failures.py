"""Exceptions as stored values: recorded in parts when they are raised, and rebuilt from the class of that name.

The handler of a flow gets the rebuilt exception in the first run, too, and not only after a restart. The parts are the
arguments of the built-in base class, the attributes, the notes, and the exceptions of the chain. A part is stored in
tagged form if it has one, else in a signed pickle. A part without both is lost, and a note on the exception says so.
"""

from __future__ import annotations

import builtins
import copyreg
import io
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
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
"""Bytes up to which an argument or attribute of an exception is stored."""
LINK_LIMIT: Final = 100
"""The number of exceptions that are stored of a chain, a group and their parts."""

_ENCODER: Final = msgspec.json.Encoder()
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
_WHOLE: Final = ""
"""The name, among the pickled parts, of an exception that is pickled as a whole."""
_CLASS: Final = "<class>"
"""The name, among the pickled parts, of a class that has to be imported; a body may have imported its library."""
_LOADED: Final = frozenset({builtins.__name__, "__main__", __name__.partition(".")[0]})
"""Packages that are loaded wherever a failure is rebuilt."""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A recorded exception.

    `arguments` and `state` (attributes by name) are tagged. The pickle `pickled` is a dict of the parts without a
    tagged form, and `pickles` has their names. `lost` has the names of the other parts; `arguments` has their repr. If
    `kind` can't be rebuilt from its parts, `stand_in` names the nearest base class that can.

    This failure has the number 0, and its `links` the numbers from 1. By number it refers to `cause` and `context`, to
    the `members` of a group (`parts` in older records), and in `inner` to exceptions among arguments and attributes.
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
    """Return the encoded exception; it never raises. Without a signer nothing is pickled."""
    recorder = _FailureRecorder(is_pickling=signer is not None)
    recorder.number(error)
    failures = [recorder.failure(each) for each in recorder.errors]  # the list grows during the loop
    failure = msgspec.structs.replace(failures[0], traceback=_format_traceback(error), links=tuple(failures[1:]))
    content, mac = _ENCODER.encode(failure), None
    if signer is not None and recorder.has_pickles:
        try:
            mac = signer.sign(ERROR, content)
        except IronflowError:  # there is no key
            return store_failure(error)
    preview = legible(f"{failure.kind}: {failure.text}")
    return StoredValue(value_id(ERROR, content), ERROR, content, len(content), failure.kind, preview, mac=mac)


def load_failure(stored: StoredValue) -> Failure:
    """Return the parts of a recorded exception.

    Raises:
        ValueUnreadable: the bytes are not a recorded exception.
    """
    try:
        return _DECODER.decode(stored.content or b"")
    except msgspec.MsgspecError as error:
        raise ValueUnreadable(f"a recorded exception can't be read: {error}", value_id=stored.value_id) from error


def has_pickles(content: bytes) -> bool:
    """Return True if a recorded exception has pickled parts."""
    return b'"pickled":' in content


def recorded_error(
    stored: StoredValue, signer: Signer, *, where: str, raised: BaseException | None = None
) -> BaseException:
    """Return an exception equal to the recorded one, or `StepFailed` if its class does not exist here.

    The class that has the name now is used without calling it. Pickled parts are loaded only if this user signed them.
    The exception `raised`, if it is the recorded one, gives its tracebacks. `where` names the failed step in messages.

    Raises:
        ValueUnreadable: the bytes are not a recorded exception.
    """
    failure = load_failure(stored)
    content = stored.content or b""
    is_own = has_pickles(content) and signer.is_own(ERROR, content, stored.mac)
    return _FailureBuilder(failure, where, is_own=is_own).exception(raised)


def exception_name(kind: type[BaseException]) -> str:
    """Return the name of an exception class, without the module for builtins and classes of ``__main__``."""
    name = step_name(None if kind.__module__ == builtins.__name__ else kind.__module__, kind.__qualname__)
    hides_builtin = kind.__module__ == "__main__" and hasattr(builtins, name)
    return f"__main__.{name}" if hides_builtin else name


def set_attribute(error: BaseException, name: str, value: object) -> None:
    """Set an attribute of an exception, also of a frozen one, as a dataclass may be."""
    object.__setattr__(error, name, value)


def errors_in(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, or those of a group and of the groups in it."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from errors_in(each)
    else:
        yield error


def annotate(error: BaseException, note: str) -> None:
    """Add a note to an exception, also to a frozen one."""
    notes = getattr(error, "__notes__", None)
    set_attribute(error, "__notes__", [*(notes if isinstance(notes, list) else ()), note])


# -- recording ---------------------------------------------------------------------------------------------------


class _FailureRecorder:
    """Records one exception and all exceptions that it refers to; `errors` has them by number."""

    def __init__(self, *, is_pickling: bool) -> None:
        self.errors: list[BaseException] = []
        self.has_pickles = False
        self._is_pickling = is_pickling
        self._numbers: dict[int, int] = {}
        self._http_bodies: dict[int, io.BytesIO] = {}

    def number(self, error: BaseException | None) -> int | None:
        """Return the number of the exception and add it to `errors`; None for None, and beyond `LINK_LIMIT`."""
        if error is not None and id(error) not in self._numbers and len(self.errors) < LINK_LIMIT:
            self._numbers[id(error)] = len(self.errors)
            self.errors.append(error)
        return self._numbers.get(id(error))

    def failure(self, error: BaseException) -> Failure:
        """Return the parts of the exception."""
        kind, base = type(error), _rebuildable_base(type(error))
        arguments, state = contents(error)
        members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        named = {f"args[{index}]": value for index, value in enumerate(arguments[:1] if members else arguments)} | state
        trees = {name: tree for name, value in named.items() if (tree := _small_tree(value)) is not UNSET}
        inner = {name: number for name, value in named.items() if (number := self._inner_number(value)) is not None}
        others = {name: value for name, value in named.items() if name not in trees | inner}
        is_whole = base is not kind and _find_exception(exception_name(kind)) is kind
        pickles = self._picklable({_WHOLE: error} if is_whole else self._with_http_bodies(others))
        if _WHOLE not in pickles and base is not None and base.__module__.partition(".")[0] not in _LOADED:
            pickles |= self._picklable({_CLASS: _find_exception(exception_name(base))})
        return Failure(
            kind=legible(exception_name(kind)),
            text=legible(safe_text(str, error), TEXT_LIMIT),
            notes=_notes(error),
            arguments=tuple(trees.get(name, _format_part(value)) for name, value in named.items() if name not in state),
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

    def _inner_number(self, value: Any) -> int | None:
        return self.number(value) if isinstance(value, BaseException) else None

    def _with_http_bodies(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values with each HTTP response replaced by the unread rest of its body.

        `urllib.error.HTTPError` has a response, which handlers read. The body is read only if its length is known.
        """
        response: Any = getattr(sys.modules.get("http.client"), "HTTPResponse", type(None))
        for value in values.values():
            if value is not None and isinstance(value, response) and id(value) not in self._http_bodies:
                is_short = value.length is not None and value.length <= PART_LIMIT
                self._http_bodies[id(value)] = io.BytesIO(value.read() if is_short else b"")
        return {name: self._http_bodies.get(id(value), value) for name, value in values.items()}

    def _picklable(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return those of the values that a pickle restores."""
        found = {name: value for name, value in values.items() if self._is_pickling and _is_picklable(value)}
        self.has_pickles |= bool(found)
        return found


def _rebuildable_base(kind: type[BaseException]) -> type[BaseException] | None:
    """Return the nearest class of the MRO whose objects can be rebuilt from their parts; `kind` itself if it can be.

    None if there is only `Exception`, which says nothing.
    """
    for each in kind.__mro__:
        if each in {Exception, BaseException} and each is not kind:
            return None
        if _find_exception(exception_name(each)) is not None and adds_only_attributes(each, _built_in(each)):
            return each
    return None


def _is_picklable(value: Any) -> bool:
    try:
        unpickled(pickled(value, limit=PART_LIMIT))
    except Exception:  # noqa: BLE001 -- a foreign class may raise anything; the failure is recorded without the part
        return False
    return True


def contents(error: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of the built-in base class, and the attributes with those in slots."""
    kind = type(error)
    reduced: Any = _built_in(kind).__reduce__(error)
    _, arguments, *more = reduced
    found = dict(more[0] or {}) if more else {}
    if isinstance(error, NameError | AttributeError):  # its __reduce__ omits the name
        found["name"] = error.name
    slots = copyreg._slotnames(kind)  # type: ignore[attr-defined]
    found |= {name: getattr(error, name) for name in slots if hasattr(error, name)}
    return arguments, {name: value for name, value in found.items() if not name.startswith(("__", "_ironflow"))}


def _built_in(kind: type[BaseException]) -> type[BaseException]:
    """Return the built-in base class, which defines the memory layout of the exceptions of `kind`."""
    while kind.__flags__ & _HEAP_TYPE:
        kind = kind.__base__  # type: ignore[assignment]
    return kind


def _small_tree(value: Any) -> Tree:
    """Return the tagged form of the value; `UNSET` if it has none or if that is larger than `PART_LIMIT`."""
    try:
        tree = tag(value, store_rules())
        return tree if len(_ENCODER.encode(tree)) <= PART_LIMIT else UNSET
    except Exception:  # noqa: BLE001 -- a foreign class may raise anything; the failure is recorded without the part
        return UNSET


def _format_part(value: Any) -> str:
    return legible(safe_text(str if type(value) is str else repr, value), TEXT_LIMIT)


def _notes(error: BaseException) -> tuple[str, ...]:
    notes = getattr(error, "__notes__", None)
    texts = [note for note in notes if isinstance(note, str)] if type(notes) is list else []
    return tuple(legible(note, TEXT_LIMIT) for note in texts)


def safe_text(write: Callable[[Any], str], value: Any) -> str:
    """Return what `str` or `repr` makes of a value of any class. It never raises."""
    try:
        return str.__str__(write(value))
    except Exception:  # noqa: BLE001 -- a foreign __str__ or __repr__ may raise anything
        return f"(the text of a {type(value).__name__} that can't be shown)"


def _format_traceback(error: BaseException) -> str:
    try:
        stack = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 -- a foreign exception of the chain may raise anything
        return ""
    half = TRACEBACK_LIMIT // 2
    cut = stack if len(stack) <= TRACEBACK_LIMIT else f"{stack[:half]}\n...\n{stack[-half:]}"
    return legible(cut, 2 * TRACEBACK_LIMIT)


# -- rebuilding --------------------------------------------------------------------------------------------------


class _FailureBuilder:
    """Rebuilds a recorded exception and all exceptions that it refers to."""

    def __init__(self, failure: Failure, where: str, *, is_own: bool) -> None:
        """Take the failure; `where` names the failed step, and pickled parts are loaded only if `is_own`."""
        self._failures = [failure, *failure.links]
        self._where = where
        self._is_own = is_own
        self._begun: set[int] = set()
        self._exceptions: dict[int, BaseException] = {}

    def exception(self, raised: BaseException | None) -> BaseException:
        """Return the exception with its chain, and with the tracebacks of `raised`."""
        originals: dict[int, BaseException | None] = {0: raised}
        for number, failure in enumerate(self._failures):
            error, original = self._exception(number), originals.get(number)
            for member, part in zip(failure.members, getattr(original, "exceptions", ()), strict=False):
                originals.setdefault(member, part)
            for name, link in (("__cause__", failure.cause), ("__context__", failure.context)):
                if link is not None:
                    set_attribute(error, name, self._exception(link))
                    originals.setdefault(link, getattr(original, name, None))
            set_attribute(error, "__suppress_context__", failure.suppresses)
            error.with_traceback(None if original is None else original.__traceback__)
        return self._exception(0)

    def _exception(self, number: int) -> BaseException:
        if number not in self._exceptions:
            self._begun.add(number)
            self._exceptions[number] = self._without_chain(self._failures[number])
        return self._exceptions[number]

    def _without_chain(self, failure: Failure) -> BaseException:
        loaded = _load_pickles(failure) if self._is_own else {}
        # Older records have the members of a group as `parts`.
        members = [self._without_chain(part) for part in failure.parts]
        members = members or [self._exception(number) for number in failure.members]
        missing = [*failure.lost, *(name for name in failure.pickles if name not in {*loaded, _WHOLE, _CLASS})]
        for name, number in failure.inner.items():
            if number in self._exceptions or number not in self._begun:  # else the two contain each other
                loaded[name] = self._exception(number)
        error = _rebuild(failure, loaded, self._where, members)
        vars(error).pop("__notes__", None)
        for note in failure.notes:
            annotate(error, note)
        if failure.stand_in and _WHOLE not in loaded:
            annotate(error, f"(it stands for a {failure.kind}, which can't be found by that name after a restart)")
        if missing:
            annotate(error, f"(the journal could not store these parts of it: {', '.join(missing)})")
        return error


def _load_pickles(failure: Failure) -> dict[str, Any]:
    """Return the pickled parts by name; none if they can't be loaded."""
    with suppress(ValueUnreadable):
        return {} if failure.pickled is None else dict(unpickled(failure.pickled))
    return {}


def _rebuild(failure: Failure, loaded: dict[str, Any], where: str, members: list[BaseException]) -> BaseException:
    whole = loaded.get(_WHOLE)
    if isinstance(whole, BaseException):
        return whole
    kind = _find_exception(failure.stand_in or failure.kind)
    if kind is not None:
        with suppress(Exception):  # the class may have changed, and may raise anything
            return _rebuild_as(kind, failure, loaded, members)
    return StepFailed(f"{where} failed with {failure.kind}: {failure.text}", kind=failure.kind, text=failure.text)


def _find_exception(name: str) -> type[BaseException] | None:
    found = getattr(builtins, name, None) or lookup(name)
    is_exception = isinstance(found, type) and issubclass(found, Exception)
    return found if is_exception else None


def _rebuild_as(
    kind: type[BaseException], failure: Failure, loaded: dict[str, Any], members: list[BaseException]
) -> BaseException:
    trees = {f"args[{index}]": tree for index, tree in enumerate(failure.arguments)}
    arguments = [loaded[name] if name in loaded else untag(tree) for name, tree in trees.items()]
    if members:
        arguments.append(members)
    state = {name: untag(tree) for name, tree in failure.state.items()}
    state |= {name: value for name, value in loaded.items() if name not in trees and name != _CLASS}
    return made_of(kind, arguments, state)


def made_of(kind: type[BaseException], arguments: Sequence[Any], state: Mapping[str, Any]) -> BaseException:
    """Return an exception with these `contents`; its class is not called."""
    base: Any = _built_in(kind)
    error: BaseException = base.__new__(kind, *arguments)
    base.__init__(error, *arguments)
    for name, value in state.items():
        try:
            set_attribute(error, name, value)
        except AttributeError:  # a property hides the attribute of that name
            vars(error)[name] = value
    return error
