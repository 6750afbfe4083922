"""What one run puts into the journal beside its events: results, failures, arguments and code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ironflow_nb.journal.ports import Definition
from ironflow_nb.values.failures import store_failure
from ironflow_nb.values.store import Values
from ironflow_nb.values.stored import StoredValue


class Storage:
    """Makes what a run stores; a style that has something to hide gives the session its own."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self.signer = values.signer

    def store(self, value: object) -> tuple[StoredValue, Any]:
        """See `Values`."""
        return self._values.store(value)

    def store_inputs(self, arguments: Mapping[str, object]) -> list[StoredValue]:
        """See `Values`."""
        return self._values.store_inputs(arguments)

    def store_failure(self, error: BaseException) -> StoredValue:
        """See `store_failure`."""
        return store_failure(error, self.signer)

    def definition(self, definition: Definition) -> Definition:
        """Return what the journal is to keep of a definition."""
        return definition
