"""Any value as JSON, for those who can't read Python: what JSON does not have becomes its nearest relative."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import PurePath
from typing import Any

import msgspec

from ironflow_nb.values.failures import safe_text


def json_of(value: Any) -> Any:
    """Return the value made of JSON's types only: frames as lists of rows, arrays as lists, NaN as null.

    It never raises: what is nested too deep, or in itself, and what its own class can't show, is a text that says so.
    """
    try:
        return _json_of(value)
    except Exception as error:  # noqa: BLE001 -- code of users is met here
        return f"({type(value).__name__} that can't be shown as JSON: {type(error).__name__})"


def _json_of(value: Any) -> Any:
    import numpy as np
    import pandas as pd

    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if np.isfinite(value) else None
        case dict():
            return {key if isinstance(key, str) else str(_json_of(key)): _json_of(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_json_of(item) for item in value]
        case pd.DataFrame():
            return _json_of(value.to_dict("records"))
        case np.ndarray() | pd.Series() | pd.Index():
            return _json_of(value.tolist())
        case np.generic():
            return _json_of(value.item())
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    try:
        return _json_of(msgspec.to_builtins(value))
    except TypeError:
        return safe_text(repr, value)
