"""JSON schemas of users: compiled without reading anything outside of them, for data that is not nested too deep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from jsonschema_rs import Validator

MOST_DEPTH: Final = 100
"""The library ends the process, without an error, at data that is nested some thousand levels deep."""


def schema_validator(schema: Any, value: object = None, *, mask: str | None = None) -> Validator:
    """Return the validator of a schema that is to check the value. Messages have `mask` in place of values.

    Raises:
        ValueError: it is no JSON schema, refers to what is not in it, or schema or value is nested too deep.
    """
    from jsonschema_rs import validator_for

    for what, data in (("the schema", schema), ("the value", value)):
        if _is_deeper(data, MOST_DEPTH):
            raise ValueError(f"{what} is nested deeper than {MOST_DEPTH}")
    try:
        return validator_for(schema, validate_formats=True, retriever=_refuse, mask=mask)
    except ValueError as error:
        why = str(error).partition("\n")[0]
        raise ValueError(f"schema is no JSON schema: {why}") from None


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"a schema is complete in itself, and {uri} is not in it; write it below $defs")


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        parts = (part for each in level for part in _parts(each) if isinstance(part, Mapping | list | tuple))
        level = list({id(part): part for part in parts}.values())  # one that occurs many times is looked at once
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()
