"""The kind ``validate``: whether data fits a JSON schema, and all places where it does not."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from ironflow_nb.graphs.compiler.compiler_findings import format_path
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.graphs.language.budget import Budget
from ironflow_nb.graphs.language.data import coerce_deep, describe
from ironflow_nb.handles.schema_validator import mismatches

MOST_ERRORS: Final = 100


def _validate(options: Options, context: NodeContext) -> dict[str, Any]:
    errors = []
    try:
        Budget().measure(list(options.values()))  # before anything writes out a value that occurs many times
        value, schema = coerce_deep(options["value"]), coerce_deep(options["schema"])
        for path, message in islice(mismatches(schema, value, mask="the value"), MOST_ERRORS):
            errors.append({"path": format_path(path), "message": message})
    except (TypeError, ValueError, RecursionError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else error
        raise failure(context, f"{describe(options['value'])} can't be checked: {what}") from None
    if errors and options.get("fail_on_invalid", True):
        lines = "\n".join(f"  {each['path'] or 'it'}: {each['message']}" for each in errors)
        message = f"{describe(options['value'])} does not fit the schema; fail_on_invalid: false would tell that only"
        raise failure(context, f"{message}:\n{lines}", output={"is_valid": False, "errors": errors})
    return {"is_valid": not errors, "errors": errors}


VALIDATE: Final = Kind(
    name="validate",
    description="Fails if a value does not fit a JSON schema; gives is_valid, and errors with path and message.",
    schema=options_schema(
        {
            "value": {"description": "The value to check."},
            "schema": {
                "type": ["object", "boolean"],
                "description": "The JSON schema, complete: what it refers to is in it.",
            },
            "fail_on_invalid": {
                "type": "boolean",
                "default": True,
                "description": "Whether the node fails on a value that does not fit.",
            },
        },
        required=["value", "schema"],
    ),
    perform=_validate,
)
