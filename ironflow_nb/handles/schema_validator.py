"""JSON schemas of users: compiled without reading anything outside of them, for data that is not nested too deep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import unquote

if TYPE_CHECKING:
    from jsonschema_rs import Validator

MOST_DEPTH: Final = 100
"""The library ends the process, without an error, at data that is nested some thousand levels deep."""


MOST_RULES: Final = 100_000
"""Rules of a schema when each reference that does not lead back to itself is written out; the library does so."""
_MOST_STEPS: Final = 20_000
_MOST_TIMES: Final = 8
"""As often may each rule be applied to each part of a value on the average, if there are many applications."""


def mismatches(schema: Any, value: object, *, mask: str | None = None) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield each place where the value does not fit, with a message, which has `mask` in place of values.

    Whether it fits is known soon. To find all places takes, where a schema refers to itself several times at one place,
    twice as long with each level of the data. If that is too long, only the fact is told.

    Raises:
        ValueError: see `schema_validator`.
    """
    validator = schema_validator(schema, value, mask=mask)
    if validator.is_valid(value):
        return
    if _is_endless(schema, value):
        yield (), "it does not fit, and the schema refers to itself so often that the places can't be told"
        return
    for error in validator.iter_errors(value):
        yield tuple(error.instance_path), error.message


def schema_validator(schema: Any, value: object = None, *, mask: str | None = None) -> Validator:
    """Return the validator of a schema that is to check the value. Messages have `mask` in place of values.

    Raises:
        ValueError: it is no JSON schema, refers to what is not in it, or schema or value is nested too deep, or grows
            too large when references are written out.
    """
    from jsonschema_rs import validator_for

    for what, data in (("the schema", schema), ("the value", value)):
        if _is_deeper(data, MOST_DEPTH):
            raise ValueError(f"{what} is nested deeper than {MOST_DEPTH}")
    if _n_rules(schema) > MOST_RULES:
        raise ValueError(f"the schema has more than {MOST_RULES} rules when its references are written out")
    try:
        return validator_for(schema, validate_formats=True, retriever=_refuse, mask=mask)
    except ValueError as error:
        why = str(error).partition("\n")[0]
        raise ValueError(f"schema is no JSON schema: {why}") from None


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"a schema is complete in itself, and {uri} is not in it; write it below $defs")


def _n_rules(schema: Any) -> int:
    """Count the parts of a schema as often as references lead to them; one inside of itself is counted once."""
    counts: dict[int, int] = {}

    def count(part: Any) -> int:
        key = id(part)
        if key not in counts:
            counts[key] = 1  # what leads back to it is not written out
            inner = [*_parts(part), *_targets(schema, part)]
            counts[key] += sum(count(each) for each in inner if isinstance(each, Mapping | list | tuple))
        return counts[key]

    try:
        return count(schema)
    except RecursionError:
        return MOST_RULES + 1


def _targets(schema: Any, rule: Any) -> Iterator[Any]:
    """Yield the part of the schema that a rule refers to by its place."""
    reference = rule.get("$ref") if isinstance(rule, Mapping) else None
    if not isinstance(reference, str) or not reference.startswith("#"):
        return
    found = schema
    for name in reference[1:].split("/")[1:]:
        name = unquote(name).replace("~1", "/").replace("~0", "~")  # noqa: PLW2901
        at_place = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            at_place = found[int(name)]
        found = at_place
    yield found


def _is_endless(schema: Any, value: object) -> bool:
    """Return True if the same rules are applied to the same parts of the value again and again."""
    n, applied, left = 0, set(), [(schema, value)]
    while left:
        rule, each = left.pop()
        if not isinstance(rule, Mapping):
            continue
        if isinstance(each, Mapping | list | tuple):
            n += 1
            applied.add((id(rule), id(each)))
            if n > _MOST_STEPS and n > _MOST_TIMES * len(applied):
                return True
        left += [(target, each) for target in _targets(schema, rule)]
        left += [(inner, each) for name in ("allOf", "anyOf", "oneOf") for inner in _parts(rule.get(name))]
        left += [(rule[name], each) for name in ("not", "if", "then", "else") if name in rule]
        left += [(inner, each) for inner in _parts(rule.get("dependentSchemas"))]
        if isinstance(each, Mapping):
            named = rule.get("properties")
            named = named if isinstance(named, Mapping) else {}
            left += [(named[name], part) for name, part in each.items() if name in named]
            others = [*_parts(rule.get("patternProperties")), rule.get("additionalProperties")]
            left += [(inner, part) for inner in others if inner is not None for part in each.values()]
        elif isinstance(each, list | tuple):
            items = [rule[name] for name in ("items", "contains", "additionalItems") if name in rule]
            left += [(inner, part) for inner in items for part in each]
            left += zip(_parts(rule.get("prefixItems")), each, strict=False)
    return False


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
