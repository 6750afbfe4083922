"""Large frames and arrays on their way to workers and back: as references to the place that the journal has for values.

What travels is the id of the content, which who reads it compares. So it need not be signed, and it is stored once,
however many workers get it, and whether it becomes the result of a step or not.
"""

from __future__ import annotations

import io
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import cloudpickle

from ironflow_nb.core.identity import ValueId
from ironflow_nb.errors import IronflowError, ValueUnreadable
from ironflow_nb.value_store.value_place import values_in
from ironflow_nb.values import arrays, arrow
from ironflow_nb.values.codecs import NPY
from ironflow_nb.values.digest import is_of_numpy
from ironflow_nb.values.stored_value import ARROW, StoredValue, value_id, verified_content
from ironflow_nb.values.value_files import ValueFiles

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT: Final = 1 << 20
"""Bytes of an encoded frame or array from which on it is worth a request to the store."""


def pickled_by_reference(value: Any, place: str) -> bytes:
    """Return the pickle of a value in which large frames and arrays are references to the place.

    If the place can't be reached, they are in the pickle.

    Raises:
        Exception: the value can't be pickled.
    """
    try:
        return _pickle(value, partial(_reference, place))
    except IronflowError:
        return _pickle(value, lambda _: None)


def _pickle(value: Any, refer: Callable[[Any], tuple[Any, ...] | None]) -> bytes:
    class ReferencePickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            return (is_of_numpy(obj) and refer(obj)) or super().reducer_override(obj)

    buffer = io.BytesIO()
    ReferencePickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


def _reference(place: str, value: Any) -> tuple[Any, ...] | None:
    """Write the value to the place, and return what pickle makes it of; None for one that is small or has no codec.

    Raises:
        JournalError: the place can't be reached.
    """
    try:
        if arrays.is_npy(value) and value.nbytes >= LIMIT:
            codec, content = NPY, arrays.to_npy(value)
            content_id = value_id(codec, content)
        elif arrow.is_arrow(value) and value.memory_usage(deep=False).sum() >= LIMIT:
            codec, (content, content_id) = ARROW, arrow.to_arrow(value)
        else:
            return None
    except Exception:  # noqa: BLE001 -- without pyarrow, or what it refuses, goes in the pickle
        return None
    values_in(place).write(content_id, content)
    return read, (place, content_id, codec, len(content))


def read(place: str, content_id: ValueId, codec: str, size: int) -> Any:
    """Return the value that a reference stands for.

    Raises:
        ValueUnreadable: it is not there, or has other bytes than were written.
        JournalError: the place can't be reached from here.
        ModuleNotFoundError: the libraries for the place are not installed here.
    """
    values = values_in(place)
    stored = StoredValue(content_id, codec, values.read(content_id, size), size, codec)
    found = arrow.verified_frame(stored) if codec == ARROW else verified_content(stored)
    if found.content is None:
        raise ValueUnreadable(f"the value {values.path(content_id)} has other bytes than were written", codec=codec)
    if not isinstance(values, ValueFiles):
        values.note_whole(content_id)
    return arrow.from_arrow(found.content, found.table) if codec == ARROW else arrays.from_npy(found.content)
