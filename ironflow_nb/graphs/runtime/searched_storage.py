"""The storage of runs with secrets: every encoded value is searched, so that no type and no form hides a secret.

Plain data is redacted in its encoded form, whatever its classes are, and the caller gets the redacted value. A pickle,
a frame or an array can't be redacted; it is refused if a secret is in it.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ironflow_nb.errors import IronflowError, NodeFailed, ValueNotStorable
from ironflow_nb.execution import RunStorage
from ironflow_nb.graphs.secret_forms import REDACTED, SecretForms
from ironflow_nb.graphs.secrets import Secrets
from ironflow_nb.journal.ports import StoredDefinition
from ironflow_nb.values.codecs import BYTES, INPUT_LIMIT, JSON
from ironflow_nb.values.failures import ERROR, Failure, has_pickles, load_failure, recorded_error
from ironflow_nb.values.stored_value import StoredValue, value_id
from ironflow_nb.values.tagged import TAG, Tree, untag

_WITH_FIELDS: Final = frozenset({"named", "data"})
"""The kinds of tagged data whose keys are names of fields."""

_IN_BASE64: Final = frozenset({"bytes", "bytearray", "numpy", "str"})


class SearchedStorage(RunStorage):
    """The storage of a run with secrets, around that of its parent or its engine."""

    def __init__(self, inner: RunStorage, secrets: Secrets) -> None:
        super().__init__(inner)
        self._inner = inner
        self._secrets = secrets

    @classmethod
    def around(cls, storage: RunStorage, secrets: Secrets) -> RunStorage:
        """Return a storage that searches for these secrets, too; the same one if it does already."""
        known = storage
        while isinstance(known, SearchedStorage):
            if known._secrets is secrets:  # noqa: SLF001 -- its own
                return storage
            known = known._inner  # noqa: SLF001 -- its own
        return cls(storage, secrets) if secrets.has_any else storage

    def encode(self, value: object) -> StoredValue:
        """See the base class.

        Raises:
            ValueNotStorable: a secret is in the value, which nobody here could use without it.
        """
        stored = self._inner.encode(value)
        if self._has_secret(stored):
            raise _secret_in_value(stored)
        return self._with_clean_preview(stored)

    def store(self, value: object) -> tuple[StoredValue, Any]:
        """See the base class.

        Raises:
            ValueNotStorable: a secret is in a value that can't be redacted.
        """
        stored, echo = self._inner.store(value)
        if not self._has_secret(stored):
            return self._with_clean_preview(stored), echo
        try:
            stored, echo = self._inner.store(self._redact_value(stored))
        except IronflowError:
            raise _secret_in_value(stored) from None
        if self._has_secret(stored):
            raise _secret_in_value(stored)
        return self._with_clean_preview(stored), echo

    def store_inputs(self, arguments: Mapping[str, object], limit: float = INPUT_LIMIT) -> list[StoredValue]:
        """See the base class. Inputs are for people to read, so an argument that can't be redacted is left out."""
        stored = self._inner.store_inputs(arguments, limit)
        if any(map(self._has_secret, stored)):
            redacted = {name: self._redact_argument(each) for name, each in arguments.items()}
            stored = self._inner.store_inputs(redacted, limit)
        return [self._with_clean_preview(each) for each in stored]

    def store_failure(self, error: BaseException) -> StoredValue:
        """See the base class. An exception that can't be redacted is stored as an error with its text."""
        stored = self._redacted_failure(self._inner.store_failure(error))
        try:
            text = f"{recorded_error(stored, self.signer, where='')!s}"
        except Exception:  # noqa: BLE001 -- a class of the user may need an attribute that was removed
            text = None
        if text is not None and not self._secrets.are_in(text):
            return self._with_clean_preview(stored)
        failure = load_failure(stored)
        return self._with_clean_preview(self._inner.store_failure(NodeFailed(f"{failure.kind}: {failure.text}")))

    def _redacted_failure(self, stored: StoredValue) -> StoredValue:
        failure = load_failure(stored)
        clean = self._redact_failure(failure)
        if clean == failure:
            return stored
        content = msgspec.json.encode(clean)
        mac = self.signer.sign(ERROR, content) if has_pickles(content) else None
        return replace(stored, value_id=value_id(ERROR, content), content=content, size=len(content), mac=mac)

    def _redact_failure(self, failure: Failure) -> Failure:
        """Return the record of an exception without secrets."""
        redacted = self._secrets.redacted
        state = {name: self._redact_tree(tree) for name, tree in failure.state.items()}
        is_pickle_clean = failure.pickled is None or not self._secrets.forms.is_in_pickle(failure.pickled)
        if not is_pickle_clean:  # the repr of an argument stays
            state |= {name: REDACTED for name in failure.pickles if name.isidentifier()}
        return replace(
            failure,
            text=redacted(failure.text),
            traceback=redacted(failure.traceback),
            notes=tuple(map(redacted, failure.notes)),
            arguments=tuple(map(self._redact_tree, failure.arguments)),
            state=state,
            pickled=failure.pickled if is_pickle_clean else None,
            pickles=failure.pickles if is_pickle_clean else (),
            parts=tuple(map(self._redact_failure, failure.parts)),
            links=tuple(map(self._redact_failure, failure.links)),
        )

    def definition(self, definition: StoredDefinition) -> StoredDefinition:
        """See the base class. The text of the graph itself was checked for secrets before the run."""
        return replace(
            self._inner.definition(definition),
            source=self._secrets.redacted(definition.source),
            diagram=self._secrets.redacted(definition.diagram),
        )

    def redacted(self, text: str) -> str:
        """See the base class."""
        return self._secrets.redacted(self._inner.redacted(text))

    def _redact_argument(self, value: Any) -> Any:
        try:
            return self.store(value)[1]
        except IronflowError:
            return REDACTED

    def _with_clean_preview(self, stored: StoredValue) -> StoredValue:
        preview = stored.preview
        return stored if preview is None else replace(stored, preview=self._secrets.redacted(preview))

    def refuse_secrets(self, what: str, value: object) -> None:
        """See the base class."""
        self._inner.refuse_secrets(what, value)
        if self._has_secret(self._inner.encode(value)):
            raise ValueNotStorable(
                f"{what} would carry a secret of a graph, and the journal keeps it as it is; leave the secret out there"
            )

    # -- searching -----------------------------------------------------------------------------------------------

    def _has_secret(self, stored: StoredValue) -> bool:
        forms, content = self._secrets.forms, bytes(stored.content or b"")
        match stored.codec:
            case "json" | "inputs":
                tree = msgspec.json.decode(content)
                return bool(self._redact_tree(tree) != tree)
            case "pickle":
                return forms.is_in_pickle(content)
            case "npy":
                return forms.is_in(content) or _array_has_secret(content, forms)
            case "arrow":
                return _frame_has_secret(content, forms)
            case _:
                return forms.is_in(content)

    def _redact_value(self, stored: StoredValue) -> Any:
        """Return the value without secrets.

        Raises:
            ValueNotStorable: its form can't be redacted.
            ValueUnreadable: it can't be decoded without the secret.
        """
        assert stored.content is not None
        if stored.codec == JSON:
            return untag(self._redact_tree(msgspec.json.decode(stored.content)))
        if stored.codec == BYTES:
            return self._secrets.forms.redacted_bytes(bytes(stored.content))
        raise _secret_in_value(stored)

    def _redact_tree(self, tree: Tree) -> Tree:
        """Return tagged data without secrets: cut out of texts; any other value with one becomes a text."""
        if type(tree) is list:
            return [self._redact_tree(each) for each in tree]
        if type(tree) is not dict:
            return self._secrets.forms.redacted_data(tree)
        kind = tree.get(TAG)
        if kind is None:
            return {self._secrets.redacted(key): self._redact_tree(each) for key, each in tree.items()}
        if kind in _IN_BASE64 or (type(tree.get("v")) is str and kind != "path"):
            is_number = kind == "numpy" and self._secrets.forms.is_number(untag(tree))
            return REDACTED if is_number or self._has_secret_scalar(kind, tree["v"]) else tree
        if kind in _WITH_FIELDS:
            return {**tree, "v": {name: self._redact_tree(each) for name, each in tree["v"].items()}}
        return {name: each if name in {TAG, "c", "t"} else self._redact_tree(each) for name, each in tree.items()}

    def _has_secret_scalar(self, kind: str, written: str) -> bool:
        forms = self._secrets.forms
        if kind in _IN_BASE64:
            return forms.is_in(b64decode(written))
        if kind == "complex":
            number = untag({TAG: kind, "v": written})
            return forms.is_number(number.real) or forms.is_number(number.imag)
        return forms.is_in(written) or (kind == "int" and forms.is_number(int(written, 16)))


def _array_has_secret(content: bytes, forms: SecretForms) -> bool:
    if not forms.numbers:
        return False
    from ironflow_nb.values import arrays

    return _has_number(arrays.from_npy(content), forms)


def _frame_has_secret(content: bytes, forms: SecretForms) -> bool:
    """Return True if a secret is in a frame, which is stored compressed."""
    import pyarrow as pa

    table = pa.ipc.open_file(pa.py_buffer(content)).read_all()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    if forms.is_in(sink.getvalue().to_pybytes()):
        return True
    return bool(forms.numbers) and any(
        _has_number(column.to_numpy(zero_copy_only=False) if hasattr(column, "to_numpy") else column, forms)
        for column in table.columns
    )


def _has_number(array: Any, forms: SecretForms) -> bool:
    if array.dtype.kind == "O":
        return any(forms.is_number(each) for each in array.ravel() if isinstance(each, int | float))
    return array.dtype.kind in "iuf" and any(map(forms.is_number, array.ravel().tolist()))


def _secret_in_value(stored: StoredValue) -> ValueNotStorable:
    return ValueNotStorable(
        f"a secret is in a value of type {stored.type_name}, which is kept as {stored.codec}: nothing can be redacted "
        "in it, and it would be kept in the clear; return it without the secret, or as plain data"
    )
