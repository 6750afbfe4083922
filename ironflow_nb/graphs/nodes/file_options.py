"""What can be written in a node of the kind ``file``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ironflow_nb.graphs.kinds import options_schema
from ironflow_nb.graphs.nodes.contents import MAX_BYTES
from ironflow_nb.graphs.nodes.listing import MAX_ENTRIES

ACTIONS: Final = ("read", "write", "append", "copy", "move", "delete", "list", "exists")


def _belongs(option: str, actions: Iterable[str]) -> dict[str, Any]:
    return {
        "description": f"{option} belongs to {' and '.join(actions)} only",
        "not": {"required": [option], "not": {"anyOf": [{"required": [action]} for action in actions]}},
    }


def _demands(action: str, option: str) -> dict[str, Any]:
    return {"description": f"{action} needs {option} too", "not": {"required": [action], "not": {"required": [option]}}}


_PATH: Final = {"type": "string", "minLength": 1}

SCHEMA: Final = options_schema(
    {
        "read": _PATH | {"description": "the file to read, of which content and bytes are given"},
        "write": _PATH | {"description": "the file to write, whole or not at all; folders that are missing are made"},
        "append": _PATH | {"description": "the file to append to; once more if the node is done again: see once"},
        "copy": _PATH | {"description": "the file to copy"},
        "move": _PATH | {"description": "the file or folder to move"},
        "delete": _PATH | {"description": "the file, link or folder to delete"},
        "list": _PATH | {"description": f"the folder to list: at most {MAX_ENTRIES:,} entries, sorted by their paths"},
        "exists": _PATH | {"description": "the path to look for; gives exists and is_folder"},
        "to": _PATH | {"description": "where a copied or moved file is to be, with its name"},
        "as": {"description": "text of UTF-8, the default, or bytes", "enum": ["text", "bytes"]},
        "content": {
            "description": "what to write: a text, bytes, or other data, which becomes JSON, and one line if appended"
        },
        "overwrite": {
            "description": "whether a file with another content may be replaced; true unless said",
            "type": "boolean",
        },
        "missing_ok": {"description": "whether nothing may be there to delete; false unless said", "type": "boolean"},
        "recursive": {
            "description": "whether folders are listed with those inside, or deleted with all; false unless said",
            "type": "boolean",
        },
        "pattern": {
            "description": "which names are listed, for instance *.csv; all unless said",
            "type": "string",
            "minLength": 1,
        },
        "max_bytes": {
            "description": f"how large a file may be that is read; {MAX_BYTES:,} bytes unless said",
            "type": "integer",
            "minimum": 0,
            "maximum": 2_000_000_000,
        },
    },
    allOf=[
        {
            "description": f"a file node does exactly one of these: {', '.join(ACTIONS)}",
            "not": {"not": {"oneOf": [{"required": [action]} for action in ACTIONS]}},
        },
        *[_demands(action, "content") for action in ("write", "append")],
        *[_demands(action, "to") for action in ("copy", "move")],
        _belongs("content", ["write", "append"]),
        _belongs("to", ["copy", "move"]),
        _belongs("overwrite", ["write", "copy", "move"]),
        _belongs("recursive", ["list", "delete"]),
        _belongs("as", ["read"]),
        _belongs("max_bytes", ["read"]),
        _belongs("missing_ok", ["delete"]),
        _belongs("pattern", ["list"]),
    ],
)
