"""Exceptions as values: stored as text and tagged arguments, rebuilt from the class that has the name now."""

from __future__ import annotations

import builtins
import copyreg
import traceback
from typing import Any, Final

import msgspec

from ironflow_nb.core.identity import step_name
from ironflow_nb.errors import StepFailed, ValueUnreadable
from ironflow_nb.values.classes import lookup
from ironflow_nb.values.store import STORE_RULES
from ironflow_nb.values.stored import StoredValue, legible, value_id
from ironflow_nb.values.tagged import Tree, tag, untag

ERROR: Final = "error"
TEXT_LIMIT: Final = 8 * 1024
TRACEBACK_LIMIT: Final = 32 * 1024
PART_LIMIT: Final = 16 * 1024
"""Larger arguments and attributes of an exception are not stored: it says what happened, it does not carry data."""

_ENCODER: Final = msgspec.json.Encoder()
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A recorded exception.

    `arguments` and `state` (attributes by name) are tagged; an argument that can't be stored is there as its repr, an
    attribute that can't is only named in `lost`. `parts` are the exceptions of a group.
    """

    kind: str
    text: str
    traceback: str = ""
    notes: tuple[str, ...] = ()
    arguments: tuple[Tree, ...] = ()
    state: dict[str, Tree] = {}
    lost: tuple[str, ...] = ()
    parts: tuple[Failure, ...] = ()


_DECODER: Final = msgspec.json.Decoder(Failure)


def store_failure(error: BaseException) -> StoredValue:
    """Return the exception as it will lie in the journal; never raises."""
    failure = _failure(error, _traceback(error))
    content = _ENCODER.encode(failure)
    preview = legible(f"{failure.kind}: {failure.text}")
    return StoredValue(value_id(ERROR, content), ERROR, content, len(content), failure.kind, preview)


def load_failure(stored: StoredValue) -> Failure:
    """Return what was recorded of the exception.

    Raises:
        ValueUnreadable: the bytes are no recorded exception.
    """
    try:
        return _DECODER.decode(stored.content or b"")
    except msgspec.MsgspecError as error:
        raise ValueUnreadable(f"a recorded exception can't be read: {error}", value_id=stored.value_id) from error


def rebuild(failure: Failure, *, where: str) -> BaseException:
    """Return an exception equal to the recorded one, or `StepFailed` where its class does not exist here.

    It is made from the class that has the name now, without calling that class and without importing anything.
    """
    kind = _find(failure.kind)
    if kind is None:
        return _stand_in(failure, where)
    try:
        error = _revive(kind, failure, where)
    except Exception:  # noqa: BLE001 -- a class may have changed in any way since
        return _stand_in(failure, where)
    for note in failure.notes:
        error.add_note(note)
    if failure.lost:
        error.add_note(f"(the journal could not keep of it: {', '.join(failure.lost)})")
    return error


def exception_name(kind: type[BaseException]) -> str:
    """Return the name of an exception class; builtins go without their module, and so do those of ``__main__``."""
    name = step_name(None if kind.__module__ == builtins.__name__ else kind.__module__, kind.__qualname__)
    hides_builtin = kind.__module__ == "__main__" and hasattr(builtins, name)
    return f"__main__.{name}" if hides_builtin else name


# -- taking apart ------------------------------------------------------------------------------------------------


def _failure(error: BaseException, stack: str) -> Failure:
    arguments, state = _contents(error)
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    trees = {name: _tree(value) for name, value in state.items()}
    notes = getattr(error, "__notes__", None)
    return Failure(
        kind=legible(exception_name(type(error))),
        text=legible(_text(str, error), TEXT_LIMIT),
        traceback=stack,
        notes=tuple(legible(note, TEXT_LIMIT) for note in notes if isinstance(note, str))
        if type(notes) is list
        else (),
        arguments=tuple(map(_argument, arguments[:1] if parts else arguments)),
        state={name: tree for name, (tree, is_kept) in trees.items() if is_kept},
        lost=tuple(name for name, (_, is_kept) in trees.items() if not is_kept),
        parts=tuple(_failure(part, "") for part in parts),
    )


def _contents(error: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what the built-in base of the class was made with, and the attributes, those of slots included."""
    kind = type(error)
    reduced: Any = _built_in(kind).__reduce__(error)
    _, arguments, *more = reduced
    found = dict(more[0] or {}) if more else {}
    slots = copyreg._slotnames(kind)  # type: ignore[attr-defined]  # noqa: SLF001
    found |= {name: getattr(error, name) for name in slots if hasattr(error, name)}
    return arguments, {name: value for name, value in found.items() if not name.startswith(("__", "_ironflow"))}


def _built_in(kind: type[BaseException]) -> type[BaseException]:
    """Return the class of C that decides how the exceptions of `kind` are laid out."""
    while kind.__flags__ & _HEAP_TYPE:
        kind = kind.__base__  # type: ignore[assignment]
    return kind


def _tree(value: Any) -> tuple[Tree, bool]:
    try:
        tree = tag(value, STORE_RULES)
        return tree, len(_ENCODER.encode(tree)) <= PART_LIMIT
    except Exception:  # noqa: BLE001 -- whatever a foreign class does, the failure is to be recorded
        return None, False


def _argument(value: Any) -> Tree:
    tree, is_kept = _tree(value)
    return tree if is_kept else legible(_text(str if type(value) is str else repr, value), TEXT_LIMIT)


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


def _find(name: str) -> type[BaseException] | None:
    found = getattr(builtins, name, None) or lookup(name)
    is_exception = isinstance(found, type) and issubclass(found, Exception)
    return found if is_exception else None


def _revive(kind: type[BaseException], failure: Failure, where: str) -> BaseException:
    arguments = [untag(tree) for tree in failure.arguments]
    if failure.parts:
        arguments.append([rebuild(part, where=where) for part in failure.parts])
    base: Any = _built_in(kind)
    error: BaseException = base.__new__(kind, *arguments)
    base.__init__(error, *arguments)
    for name, tree in failure.state.items():
        try:
            object.__setattr__(error, name, untag(tree))
        except AttributeError:  # a property hides the attribute of that name
            vars(error)[name] = untag(tree)
    return error


def _stand_in(failure: Failure, where: str) -> StepFailed:
    error = StepFailed(f"{where} failed with {failure.kind}: {failure.text}", kind=failure.kind, text=failure.text)
    if failure.traceback:
        error.add_note(f"recorded traceback:\n{failure.traceback}")
    return error
