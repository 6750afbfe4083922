"""The kinds of nodes for texts: parse, format, template, hash, log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.compiler.compiler_findings import CompilerFinding
from ironflow_nb.graphs.compiler.graph_source import read_yaml, write_yaml
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, missing_extra, options_schema
from ironflow_nb.graphs.language.data import coerce, coerce_deep, describe, read_json, write_json
from ironflow_nb.graphs.language.functions import HASHES, digest
from ironflow_nb.graphs.nodes.csv_tables import FORMAT_OPTIONS, PARSE_OPTIONS, Unfit, read_csv, write_csv
from ironflow_nb.graphs.nodes.xml_texts import XML_OPTIONS, read_xml, write_xml

_FORMATS: Final = ("json", "csv", "yaml", "xml")
_ONE_FORMAT: Final[dict[str, Any]] = {"oneOf": [{"required": [each]} for each in _FORMATS]}


def _chosen_format(options: Options, context: NodeContext) -> str:
    named = [each for each in _FORMATS if each in options]
    if len(named) != 1:
        raise failure(context, f"one of {', '.join(_FORMATS)} is to be given, and not {len(named)}")
    return named[0]


# -- parse -------------------------------------------------------------------------------------------------------


def _parse(options: Options, context: NodeContext) -> Any:
    form = _chosen_format(options, context)
    text = options[form]
    if not isinstance(text, str):
        raise failure(context, f"{form} is {describe(text)}, and not a text; what is data already needs no parse")
    try:
        return _READERS[form](text.removeprefix("\ufeff"), options)
    except ImportError:
        raise missing_extra(context, form, form) from None
    except (Unfit, ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise failure(context, f"the text of {len(text)} characters is no {form.upper()}: {reason}") from None


def _read_json(text: str, _options: Options) -> Any:
    return read_json(text)


def _read_yaml(text: str, _options: Options) -> Any:
    lines = [line.strip() for line in text.splitlines()]
    if all(line in {"", "---", "..."} or line.startswith("#") for line in lines):
        return None
    try:
        return read_yaml(text).data
    except GraphInvalid as error:
        findings = getattr(error, "findings", ())
        reason = (
            "; ".join(map(_format_finding, findings))
            or "it has too many values, or is nested too deep, with its aliases"
        )
        raise Unfit(reason) from None


def _format_finding(finding: CompilerFinding) -> str:
    at = finding.position
    return finding.message if at is None else f"line {at.line}, column {at.column}: {finding.message}"


_READERS: Final[Mapping[str, Callable[[str, Options], Any]]] = {
    "json": _read_json, "csv": read_csv, "yaml": _read_yaml, "xml": read_xml,
}  # fmt: skip

PARSE: Final = Kind(
    name="parse",
    description="Gives the data that a text of JSON, CSV, YAML or XML says.",
    schema=options_schema(
        {
            "json": {"type": "string", "description": "A text of JSON."},
            "csv": {"type": "string", "description": "A text of CSV, whose cells stay texts without types."},
            "yaml": {"type": "string", "description": "A text of YAML 1.2, without tags; dates stay texts."},
            "xml": {
                "type": "string",
                "description": "A text of XML without entities of its own: @name is an attribute, #text the text "
                "beside elements, an element that is repeated a list.",
            },
            **PARSE_OPTIONS,
        },
        **_ONE_FORMAT,
    ),
    perform=_parse,
)

# -- format ------------------------------------------------------------------------------------------------------


def _format(options: Options, context: NodeContext) -> str:
    form = _chosen_format(options, context)
    try:
        return _WRITERS[form](options[form], options)
    except ImportError:
        raise missing_extra(context, form, form) from None
    except RecursionError:
        raise failure(context, f"{describe(options[form])} is nested too deep for {form.upper()}") from None
    except Unfit as error:
        raise failure(context, f"{describe(options[form])} can't be written as {form.upper()}: {error}") from None


def _write_json(data: Any, options: Options) -> str:
    try:
        return write_json(data, indent=options.get("indent"), ensure_ascii=False, separators=None)
    except (TypeError, ValueError) as error:
        raise Unfit(str(error)) from None


def _write_yaml(data: Any, _options: Options) -> str:
    _write_json(
        data, {}
    )  # raises for values that JSON does not have: YAML would write them as only one library reads them
    return write_yaml(coerce_deep(data))


_WRITERS: Final[Mapping[str, Callable[[Any, Options], str]]] = {
    "json": _write_json,
    "csv": write_csv,
    "yaml": _write_yaml,
    "xml": write_xml,
}

FORMAT: Final = Kind(
    name="format",
    description="Gives data as a text of JSON, CSV, YAML or XML.",
    schema=options_schema(
        {
            "json": {"description": "Data to write as JSON."},
            "csv": {"type": "array", "description": "Rows to write as CSV: objects, or lists; null is an empty cell."},
            "yaml": {"description": "Data to write as YAML."},
            "xml": {"description": "Data to write as XML: an object with one element, or data and root."},
            "indent": {
                "type": "integer",
                "minimum": 0,
                "maximum": 16,
                "description": "Of json and xml: how far each level is indented; without it, all is in one line.",
            },
            **XML_OPTIONS,
            **FORMAT_OPTIONS,
        },
        **_ONE_FORMAT,
    ),
    perform=_format,
)

# -- template ----------------------------------------------------------------------------------------------------


def _render(options: Options, context: NodeContext) -> str:
    from ironflow_nb.graphs.nodes.templating import Unrenderable, render_template

    try:
        return render_template(options["text"], options.get("values", {}), is_escaping=options.get("autoescape", False))
    except Unrenderable as error:
        raise failure(context, f"the template {error}") from None


TEMPLATE: Final = Kind(
    name="template",
    description="Gives a text made of a Jinja template, which sees nothing but the values that it is given.",
    schema=options_schema(
        {
            "text": {"type": "string", "description": "The template; braces in it are Jinja's, not the graph's."},
            "values": {"type": "object", "description": "What the template sees, by name."},
            "autoescape": {"type": "boolean", "default": False, "description": "Whether values are escaped for HTML."},
        },
        required=["text"],
    ),
    perform=_render,
    verbatim=frozenset({"text"}),
)

# -- hash and log ------------------------------------------------------------------------------------------------


def _hash(options: Options, context: NodeContext) -> str:
    try:
        return digest(options["value"], options.get("algorithm", "sha256"))
    except (TypeError, ValueError, RecursionError) as error:
        raise failure(context, f"{describe(options['value'])} has no digest: {error}") from None


HASH: Final = Kind(
    name="hash",
    description="Gives the hex digest of a text, of bytes, or of other data as JSON with sorted keys.",
    schema=options_schema(
        {
            "value": {"description": "What to digest."},
            "algorithm": {"enum": list(HASHES), "default": "sha256", "description": "Which digest."},
        },
        required=["value"],
    ),
    perform=_hash,
    shorthand="value",
)


def _log(options: Options, context: NodeContext) -> Any:
    message = options["message"]
    options_of_text = {"ensure_ascii": False, "allow_nan": True, "separators": None, "default": _loggable}
    text = message if isinstance(message, str) else write_json(message, **options_of_text)
    context.log(text, options.get("level", "info"))
    return message


def _loggable(value: Any) -> Any:
    found = coerce(value)
    return describe(value) if found is value else found


LOG: Final = Kind(
    name="log",
    description="Writes a message to the log ironflow_nb.graph, and gives the message.",
    schema=options_schema(
        {
            "message": {"description": "What to log; data is logged as JSON."},
            "level": {
                "enum": ["debug", "info", "warning", "error", "critical"],
                "default": "info",
                "description": "How much it matters.",
            },
        },
        required=["message"],
    ),
    perform=_log,
    shorthand="message",
)
