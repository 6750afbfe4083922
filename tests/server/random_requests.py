"""Requests by chance, made of the document of the server: some fit, most are wrong in one place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote

TEXTS = [
    "", "go", "work[0]", "iron.wait_for[0]", "\0", "é\u202e", "x" * 300, "7d", "2026-01-01", "-1", "waits", "squares",
    "/etc/passwd", "graph: a\nnodes: []", "null", "\ud800", "{", "..",
]  # fmt: skip
NUMBERS = [0, -1, 1, 0.5, 1e300, 2**70, 10**400]


class RandomRequest(NamedTuple):
    method: str
    url: str
    query: dict[str, str]
    content: bytes


class RandomRequests:
    """Makes requests of a document; `ids` are those of runs."""

    def __init__(self, document: Any, ids: list[str], seed: int) -> None:
        self._document, self._ids, self._random = document, ids, Random(seed)

    def some(self, n: int) -> Iterator[RandomRequest]:
        for _ in range(n):
            path = self._random.choice([*self._document["paths"]])
            method = self._random.choice([*self._document["paths"][path]])
            if method != "delete":
                yield self._request(path, method, self._document["paths"][path][method])

    def _request(self, path: str, method: str, operation: Any) -> RandomRequest:
        url = path.replace("{run_id}", self._quoted([*self._ids, *self._ids])).replace("{name}", self._quoted([]))
        in_query = [each for each in operation["parameters"] if each["in"] == "query" and self._random.random() < 0.4]
        query = {each["name"]: str(self._value(each["schema"])) for each in in_query}
        query = {name: text.encode("utf-8", "replace").decode() for name, text in query.items()}
        content = b""
        if "requestBody" in operation:
            [of] = operation["requestBody"]["content"].values()
            body = self._value(of["schema"])
            if isinstance(body, dict) and "wait" in body:
                body["timeout_s"] = 0.01
            content = json.dumps(body).encode()
        return RandomRequest(method.upper(), url, query, content)

    def _quoted(self, more: list[str]) -> str:
        return quote(self._random.choice([*more, self._random.choice(TEXTS)]).encode("utf-8", "surrogatepass"), safe="")

    def _value(self, schema: Any) -> Any:
        if self._random.random() < 0.1:
            return self._any(0)
        if "$ref" in schema:
            return self._value(self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema:
            return self._value(self._random.choice(schema["anyOf"]))
        match schema.get("type"):
            case "object" if "properties" in schema:
                needed = schema.get("required", ())
                items = schema["properties"].items()
                return {
                    name: self._value(each) for name, each in items if name in needed or self._random.random() < 0.5
                }
            case "array":
                return [self._value(schema["items"]) for _ in range(self._random.randrange(3))]
            case "string":
                return self._random.choice(TEXTS)
            case "integer" | "number":
                return self._random.choice(NUMBERS)
            case "boolean":
                return self._random.random() < 0.5
            case "null":
                return None
        return self._any(0)

    def _any(self, depth: int) -> Any:
        kind = self._random.randrange(5 if depth < 3 else 3)
        if kind < 3:
            return self._random.choice([[None, True, False], NUMBERS, TEXTS][kind])
        several = [self._any(depth + 1) for _ in range(self._random.randrange(3))]
        return several if kind == 3 else {self._random.choice(TEXTS): each for each in several}
