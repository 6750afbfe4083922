"""Data as texts of XML: ``@name`` is an attribute, ``#text`` the text beside others, a repeated element a list."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from xml.parsers.expat import ExpatError

from ironflow_nb.graphs.kinds import Options
from ironflow_nb.graphs.language.budget import Budget
from ironflow_nb.graphs.language.data import coerce_deep, describe, write_json
from ironflow_nb.graphs.nodes.csv_tables import Unfit

XML_OPTIONS: Final[Mapping[str, Any]] = {
    "root": {
        "type": "string",
        "minLength": 1,
        "description": "Of xml: the element around the data; without it, the data has one element.",
    }
}
"""Options of ``format`` for XML, with their schemas."""

_MOST_CHARACTERS: Final = 50_000_000
_NAME: Final = re.compile(r"@?[^\W\d][\w:.-]*")
_TEXT: Final = "#text"


def read_xml(text: str, _options: Options) -> Any:
    """Return the data of a text of XML. Declarations of entities and types of documents are refused.

    Raises:
        Unfit: the text is no such XML.
    """
    import xmltodict

    if len(text) > _MOST_CHARACTERS:
        raise Unfit(f"at most {_MOST_CHARACTERS:,} characters are read")
    try:
        data = xmltodict.parse(text.encode(), encoding="utf-8", disable_entities=True)
    except ExpatError as error:
        raise Unfit(str(error)) from None
    Budget().measure(data)
    return data


def write_xml(data: Any, options: Options) -> str:
    """Return data as a text of XML.

    Raises:
        Unfit: the data is no such document, or has a name that XML does not allow.
    """
    import xmltodict

    data = coerce_deep(data)
    if "root" in options:
        data = {options["root"]: {"item": data} if isinstance(data, list) else data}
    if not isinstance(data, Mapping) or len(data) != 1:
        raise Unfit(f"a document has one element around all, and this is {describe(data)}; give its name: root")
    indent = options.get("indent")
    try:
        write_json(data)  # raises for values that JSON does not have
        _check_names(data)
        made: str = xmltodict.unparse(data, pretty=indent is not None, indent=" " * (indent or 0))
    except (TypeError, ValueError) as error:
        raise Unfit(str(error)) from None
    return made


def _check_names(data: Any) -> None:
    if isinstance(data, list):
        for each in data:
            _check_names(each)
    elif isinstance(data, Mapping):
        for name, each in data.items():
            if name != _TEXT and not _NAME.fullmatch(str(name)):
                raise ValueError(f"{str(name)[:100]!r} can't be the name of an element or attribute")
            _check_names(each)
