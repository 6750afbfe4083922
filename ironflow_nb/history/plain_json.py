"""Any value as JSON, for those who can't read Python: what JSON does not have becomes its nearest relative."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import PurePath
from typing import Any

import msgspec


def json_of(value: Any) -> Any:
    """Return the value made of JSON's types only: frames as lists of rows, arrays as lists, NaN as null."""
    import numpy as np
    import pandas as pd

    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if np.isfinite(value) else None
        case dict():
            return {key if isinstance(key, str) else str(json_of(key)): json_of(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [json_of(item) for item in value]
        case pd.DataFrame():
            return json_of(value.to_dict("records"))
        case np.ndarray() | pd.Series() | pd.Index():
            return json_of(value.tolist())
        case np.generic():
            return json_of(value.item())
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    try:
        return json_of(msgspec.to_builtins(value))
    except TypeError:
        return repr(value)
