"""The kind ``date``: an instant in another zone or another form, or some time later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ironflow_nb.core.durations import seconds
from ironflow_nb.core.schedule_rules import zone
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.graphs.language.data import coerce

_ZONE: Final = {"type": "string", "minLength": 1, "maxLength": 100}
_FORM: Final = {"type": "string", "minLength": 1, "maxLength": 200}


def _date(options: Options, context: NodeContext) -> str:
    try:
        given = _moment(options)
        wanted = zone(options["zone"]) if "zone" in options else given.tzinfo
        # In a zone, Python would add to what its clocks show.
        moment = (given.astimezone(UTC) + _added(options.get("add", 0))).astimezone(wanted)
        return moment.strftime(options["format"]) if "format" in options else str(coerce(moment))
    except UnicodeEncodeError:
        raise failure(context, "format has half of a character in it (a lone surrogate); leave it out") from None
    except (ValueError, OverflowError, OSError) as error:
        raise failure(context, str(error)) from None


def _moment(options: Options) -> datetime:
    at = options["at"]
    moment = datetime.fromtimestamp(at, UTC) if isinstance(at, int | float) else _read(at, options.get("from"))
    if moment.tzinfo is not None:
        return moment
    if "from_zone" not in options:
        raise ValueError("at has no time zone, so it is no instant; say in which it is: from_zone: Europe/Berlin")
    local = moment.replace(tzinfo=zone(options["from_zone"]))
    instant = local.astimezone(UTC)
    if instant.astimezone(local.tzinfo).replace(tzinfo=None) != moment:
        raise ValueError(f"{moment.isoformat()} is no time in {options['from_zone']}: its clocks skip it")
    return local


def _read(text: str, form: str | None) -> datetime:
    try:
        return datetime.fromisoformat(text) if form is None else datetime.strptime(text, form)  # noqa: DTZ007
    except ValueError:
        wanted = "in ISO form; from: says another, as %d.%m.%Y %H:%M" if form is None else f"of the form {form}"
        raise ValueError(f"at is a text of {len(text)} characters, and no time {wanted}") from None


def _added(duration: Any) -> timedelta:
    sign = 1
    match duration:
        case int() | float() if duration < 0:
            sign, duration = -1, -duration
        case str() if duration.lstrip().startswith("-"):
            sign, duration = -1, duration.lstrip()[1:]
        case _:
            pass
    return sign * timedelta(seconds=seconds(duration))


DATE: Final = Kind(
    name="date",
    description="Gives a time as a text: in another zone, in another form, or some time later or earlier.",
    schema=options_schema(
        {
            "at": {
                "type": ["string", "number"],
                "description": "The time: in ISO form, in the form of from, or seconds since 1970.",
            },
            "from": {**_FORM, "description": "The form of at, as of strptime: %d.%m.%Y %H:%M."},
            "from_zone": {
                **_ZONE,
                "description": "The zone of a time that names none. Of an hour that a clock shows twice, the first is "
                "meant.",
            },
            "add": {
                "type": ["number", "string"],
                "default": 0,
                "description": "A duration to add: seconds, or a text such as 90m, -7d; a day has 24 hours.",
            },
            "zone": {**_ZONE, "description": "The zone of the result, as Europe/Berlin; by default that of at."},
            "format": {**_FORM, "description": "The form of the result, as of strftime; by default ISO."},
        },
        required=["at"],
    ),
    perform=_date,
    shorthand="at",
)
