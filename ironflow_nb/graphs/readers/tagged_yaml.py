"""Workflows of tagged YAML (``!Http``, ``!Loop``, ...) as graphs of ours.

In such a file a text is an expression only if it begins with two braces; whatever is missing is null; every node sees
the outputs of all others, also of nested ones. What has no counterpart is a finding and refuses the file. What means
something else here is a note with its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from ironflow_nb.graphs.compiler.compiler_findings import CompilerFinding, DataPath, SourceSpans, invalid_graph
from ironflow_nb.graphs.compiler.yaml_composer import compose_yaml
from ironflow_nb.graphs.grants import host_of
from ironflow_nb.graphs.kinds import RESERVED_NAMES
from ironflow_nb.graphs.nodes.http import METHODS
from ironflow_nb.graphs.readers.imported_graph import ImportedGraph
from ironflow_nb.graphs.readers.imported_graph import identifier as _identifier
from ironflow_nb.graphs.readers.lenient_expressions import Block, LenientExpression, NodePlace

_KEYS: Final = {
    "!Http": ({"url", "method"}, {"content_type", "headers", "params", "body", "config"}),
    "!Lambda": ({"function_name"}, {"payload"}),
    "!Condition": ({"expression"}, {"true_branch", "false_branch"}),
    "!Branch": ({"branches"}, {"condition"}),
    "!Loop": ({"array", "for_each", "nodes"}, set()),
    "!Workflow": ({"workflow", "input"}, {"execution_id"}),
    "!Assertion": ({"assertions"}, set()),
}  # fmt: skip
"""The kinds of nodes with the keys that they must and may have, beside ``id``."""

_RETRIED_METHODS: Final = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE")
_JSON: Final = re.compile(r"application/([\w.-]+\+)?json\b.*", re.IGNORECASE)


def is_tagged_yaml(text: str) -> bool:
    """Return True if the text looks like a workflow of tagged YAML: it has a node with one of the tags."""
    return re.search(rf"^\s*-\s+(?:{'|'.join(_KEYS)})\b", text, re.MULTILINE) is not None and (
        re.search(r"^graph\s*:", text, re.MULTILINE) is None
    )


def read_tagged_yaml(text: str, providers: str | None = None, *, is_lenient: bool = False) -> ImportedGraph:
    """Return the graph of a workflow of tagged YAML.

    Args:
        text: the file of the workflow.
        providers: the file of its auth providers.
        is_lenient: expressions are wrapped, so that what is missing is null as it was there.

    Raises:
        GraphInvalid: something can't be kept; all of it is listed, with line and column.
    """
    data, spans, found = compose_yaml(text, keeps_tags=True)
    reader = _WorkflowReader(spans, found, is_lenient=is_lenient)
    graph = reader.graph(data, {} if providers is None else _provider_data(providers))
    if reader.findings:
        raise invalid_graph(str(data.get("name")) if isinstance(data, Mapping) else None, reader.findings)
    return ImportedGraph(graph, tuple(map(str, reader.notes)))


def _provider_data(text: str) -> dict[str, Mapping[str, Any]]:
    data, _, found = compose_yaml(text, keeps_tags=True)
    listed = data.get("providers") if isinstance(data, Mapping) else None
    if found or not isinstance(listed, list):
        raise invalid_graph(None, [*found, CompilerFinding((), "the file of auth providers has no list providers:")])
    named = [each for each in listed if isinstance(each, Mapping) and "name" in each]
    return {str(each["name"]): each["auth"] for each in named if isinstance(each.get("auth"), Mapping)}


class _Place(NamedTuple):
    """Where something stands: its path, the blocks around it, and the variables of the loops around it."""

    path: DataPath
    block: Block = ()
    loops: Mapping[str, str] = {}

    def at(self, *inside: str | int) -> _Place:
        return self._replace(path=(*self.path, *inside))

    def within(self, access: str, which: str, *inside: str) -> _Place:
        return self.at(*inside)._replace(block=(*self.block, (access, which)))


class _WorkflowReader:
    """Reads one workflow, and collects findings, notes and grants."""

    def __init__(self, spans: SourceSpans, found: list[CompilerFinding], *, is_lenient: bool) -> None:
        self.findings = list(found)
        self.notes: list[CompilerFinding] = []
        self._spans = spans
        self._is_lenient = is_lenient
        self._places: dict[str, NodePlace] = {}
        self._taken: set[str] = set(RESERVED_NAMES)
        self._auths: dict[str, Mapping[str, Any]] = {}
        self._allowed: dict[str, dict[str, None]] = {"http": {}, "lambda": {}, "env": {}}
        self._secrets: dict[str, dict[str, str]] = {}

    def graph(self, data: Any, providers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        if not isinstance(data, Mapping) or not isinstance(data.get("nodes"), list):
            self._refuse((), "a workflow is a mapping with name: and nodes:")
            return {}
        self._note_unknown((), data, {"name", "nodes", "config"})
        self._read_config(data.get("config"), providers)
        place = _Place(("nodes",))
        self._find_places(data["nodes"], place)
        nodes = self._nodes(data["nodes"], place)
        name = re.sub(r"[^\w.-]", "_", str(data.get("name", "workflow")), flags=re.ASCII)
        allow = {kind: list(names) for kind, names in self._allowed.items() if names}
        used = {"secrets": self._secrets, "auth": self._auths}
        return {"graph": name, "allow": allow, **{key: each for key, each in used.items() if each}, "nodes": nodes}

    # -- findings and notes --------------------------------------------------------------------------------------

    def _refuse(self, path: DataPath, message: str) -> None:
        self.findings.append(CompilerFinding(path, message, self._spans.position_of(path)))

    def _note(self, path: DataPath, message: str) -> None:
        self.notes.append(CompilerFinding(path, message, self._spans.position_of(path)))

    def _note_unknown(self, path: DataPath, data: Mapping[str, Any], known: set[str]) -> None:
        for key in data:
            if key not in known:
                self._note((*path, key), "this key means nothing there, and is left out")

    # -- auth ----------------------------------------------------------------------------------------------------

    def _read_config(self, config: Any, providers: Mapping[str, Mapping[str, Any]]) -> None:
        if config is None:
            return
        path: DataPath = ("config", "auth_providers")
        names = config.get("auth_providers") if isinstance(config, Mapping) else None
        if not isinstance(names, list):
            self._refuse(path, "config has a list auth_providers")
            return
        for number, name in enumerate(map(str, names)):
            if name not in providers:
                known = f" (there are: {', '.join(providers)})" if providers else ""
                advice = f"there is no auth provider {name}{known}; give their file: from_file(..., providers=PATH)"
                self._refuse((*path, number), advice)
                continue
            auth = self._auth(name, providers[name], (*path, number))
            if auth is None:
                continue
            first = next((known for known, each in self._auths.items() if each["host"] == auth["host"]), None)
            if first is not None:  # there the first one counted
                self._note((*path, number), f"{first} is for the same host, and counts; this one is left out")
                continue
            self._auths[_identifier(name)] = auth
            self._allowed["http"][auth["host"]] = None

    def _auth(self, name: str, given: Mapping[str, Any], path: DataPath) -> Mapping[str, Any] | None:
        """Return the ``auth`` of an http node; None for a provider without a credential."""
        host = str(given.get("host"))
        match given.get("strategy"):
            case "Plain" | None:
                return None
            case {"!Token": {"name": header, "value": value}}:
                return {"host": host, "header": {"name": header, "value": self._secret(name, value, path)}}
            case {"!Basic": {"name": user, "password": password}}:
                return {"host": host, "basic": {"user": user, "password": self._secret(name, password, path)}}
            case _:
                self._refuse(path, f"the auth provider {name} has no strategy of !Token, !Basic or Plain")
                return None

    def _secret(self, name: str, value: Any, path: DataPath) -> str:
        match value:
            case {"!Env": str(variable)}:
                secret = _identifier(name)
                self._secrets[secret] = {"env": variable}
                self._allowed["env"][variable] = None
                return f"{{{{ secrets.{secret} }}}}"
            case _:
                advice = "put it into an environment variable, and write value: !Env VARIABLE"
                self._refuse(path, f"the secret of the auth provider {name} stands in its file; {advice}")
                return ""

    # -- places --------------------------------------------------------------------------------------------------

    def _find_places(self, nodes: Any, place: _Place) -> None:
        """Note the new id of each node and the way to its output from outside of its block."""
        for number, tag, data in _tagged(nodes):
            written, here = str(data.get("id")), place.at(number, tag)
            if written in self._places:
                self._refuse(here.at("id").path, f"the id {written} is repeated")
                continue
            name = self._free_name(written)
            self._places[written] = NodePlace(name, place.block)
            for inner, inside in _blocks(name, data, here):
                self._find_places(inner, inside)

    def _free_name(self, written: str) -> str:
        name = base = _identifier(written)
        number = 2
        while name in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name)
        return name

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _nodes(self, nodes: Any, place: _Place) -> list[dict[str, Any]]:
        if not isinstance(nodes, list):
            self._refuse(place.path, "a list of nodes belongs here")
            return []
        known = [number for number, _, _ in _tagged(nodes)]
        for number in set(range(len(nodes))) - set(known):
            self._refuse(place.at(number).path, f"a node is a mapping with one of the tags {', '.join(_KEYS)}")
        return [self._node(tag, data, place.at(number, tag)) for number, tag, data in _tagged(nodes)]

    def _node(self, tag: str, data: Mapping[str, Any], place: _Place) -> dict[str, Any]:
        needed, others = _KEYS[tag]
        missing = sorted({"id", *needed} - data.keys())
        if missing:
            self._refuse(place.path, f"{tag} needs {' and '.join(missing)}")
            return {}
        self._note_unknown(place.path, data, {"id", *needed, *others})
        name = self._places[str(data["id"])].name
        renamed = {} if name == str(data["id"]) else {"description": f"{data['id']} in the imported file"}
        return {"id": name, **renamed, **self._READERS[tag](self, name, data, place)}

    def _http(self, _name: str, data: Mapping[str, Any], place: _Place) -> dict[str, Any]:
        method = str(data["method"]).upper()
        if method not in METHODS:
            self._refuse(place.at("method").path, f"the method is one of {', '.join(METHODS)}")
        url = self._value(data["url"], place.at("url"))
        self._allow_host(url, place.at("url"))
        options: dict[str, Any] = {"url": url, "method": method, "parse": "json_or_text"}
        options |= {key: self._value(data[key], place.at(key)) for key in ("headers", "params") if data.get(key)}
        if "body" in data:
            content_type = str(data.get("content_type", "application/json"))
            is_json = _JSON.fullmatch(content_type) is not None
            options["json" if is_json else "body"] = self._value(data["body"], place.at("body"))
            if content_type != "application/json":
                options["headers"] = {"content-type": content_type, **options.get("headers", {})}
        config = self._mapping(data.get("config"), place.at("config"))
        if config.get("fail_on_non_2xx") is False:
            options["fail_on_status"] = False
        return {"http": options, **self._retry(config.get("retry"), method, place.at("config", "retry"))}

    def _mapping(self, given: Any, place: _Place) -> Mapping[str, Any]:
        if given is None or isinstance(given, Mapping):
            return given or {}
        self._refuse(place.path, "a mapping belongs here")
        return {}

    def _list(self, given: Any, place: _Place) -> list[Any]:
        if isinstance(given, list):
            return given
        self._refuse(place.path, "a list belongs here")
        return []

    def _retry(self, written: Any, method: str, place: _Place) -> dict[str, Any]:
        given = self._mapping(written, place)
        count = given.get("max_count", 5)
        if not isinstance(count, int) or count < 0:
            self._refuse(place.at("max_count").path, "a whole number belongs here")
            return {}
        status = self._list(given.get("on_status_codes", []), place.at("on_status_codes"))
        methods = self._list(given.get("on_methods", list(_RETRIED_METHODS)), place.at("on_methods"))
        if not status or given.get("enabled") is False or method not in methods:
            return {}
        self._note(place.path, "a broken connection and a time that is over are tried again, too; there only a status")
        return {"retry": {"attempts": count + 1, "on_status": status}}

    def _lambda(self, _name: str, data: Mapping[str, Any], place: _Place) -> dict[str, Any]:
        function = str(data["function_name"])
        self._allowed["lambda"][function] = None
        return {"lambda": {"function": function, "payload": self._value(data.get("payload"), place.at("payload"))}}

    def _condition(self, name: str, data: Mapping[str, Any], place: _Place) -> dict[str, Any]:
        written = data["expression"]
        is_expression = isinstance(written, str) and written.startswith("{{")
        if not is_expression:
            self._note(place.at("expression").path, "a text without braces is never true")
        blocks = zip(("then", "else"), _blocks(name, data, place), strict=True)
        here = place.at("expression")
        return {
            "condition": self._expression(written, here, is_condition=True) if is_expression else False,
            **{key: self._nodes(nodes, inside) for key, (nodes, inside) in blocks if nodes or key == "then"},
        }

    def _branch(self, name: str, data: Mapping[str, Any], place: _Place) -> dict[str, Any]:
        when = {}
        if data.get("condition") is not None:
            written = f"{{{{{data['condition']}"
            when = {"when": self._expression(written, place.at("condition"), is_condition=True)}
        inner = zip(self._mapping(data["branches"], place.at("branches")), _blocks(name, data, place), strict=True)
        return {"branch": {_identifier(key): {**when, "do": self._nodes(*block)} for key, block in inner}}

    def _loop(self, name: str, data: Mapping[str, Any], place: _Place) -> dict[str, Any]:
        [(nodes, inside)] = _blocks(name, data, place)
        variable = inside.loops[str(data["for_each"])]
        return {"loop": self._value(data["array"], place.at("array")), "as": variable, "do": self._nodes(nodes, inside)}

    def _workflow(self, _name: str, data: Mapping[str, Any], place: _Place) -> dict[str, Any]:
        if str(data["workflow"]).startswith("{{"):
            self._refuse(place.at("workflow").path, "the name of a workflow is fixed here; a switch can choose")
        if "execution_id" in data:
            self._note(place.at("execution_id").path, "the run of a child has an id of its own; this one is left out")
        return {"workflow": str(data["workflow"]), "input": self._value(data["input"], place.at("input"))}

    def _assertion(self, _name: str, data: Mapping[str, Any], place: _Place) -> dict[str, Any]:
        checks = []
        for number, each in enumerate(self._list(data["assertions"], place.at("assertions"))):
            match each:
                case {"!Equals": {"left": _, "right": _}} | {"!NotEquals": {"left": _, "right": _}}:
                    [(tag, sides)] = each.items()
                    here = place.at("assertions", number, tag)
                    values = [self._value(sides[side], here.at(side)) for side in ("left", "right")]
                    checks.append({"equals" if tag == "!Equals" else "not_equals": values})
                case _:
                    self._refuse(place.at("assertions", number).path, "a check is !Equals or !NotEquals {left, right}")
        return {"assert": checks}

    _READERS: Final[Mapping[str, Callable[..., dict[str, Any]]]] = {
        "!Http": _http, "!Lambda": _lambda, "!Condition": _condition, "!Branch": _branch, "!Loop": _loop,
        "!Workflow": _workflow, "!Assertion": _assertion,
    }  # fmt: skip

    # -- values --------------------------------------------------------------------------------------------------

    def _value(self, written: Any, place: _Place) -> Any:
        """Return a value with its expressions in our form."""
        match written:
            case Mapping():
                return {key: self._value(each, place.at(key)) for key, each in written.items()}
            case list():
                return [self._value(each, place.at(number)) for number, each in enumerate(written)]
            case str() if written.startswith("{{"):
                return self._expression(written, place)
            case str():
                return written.replace("{{", r"\{{")
            case _:
                return written

    def _expression(self, written: str, place: _Place, *, is_condition: bool = False) -> str:
        text = written[2:].replace("}}", "").strip()
        try:
            read = LenientExpression(text, self._places, place.block, place.loops)
            made = read.template(is_lenient=self._is_lenient, is_condition=is_condition)
        except ValueError as error:
            self._refuse(place.path, str(error))
            return ""
        if read.may_lack and not self._is_lenient:
            self._note(place.path, "what is missing is null there, and an error here")
        for note in read.notes:
            self._note(place.path, note)
        self._allowed["env"].update(dict.fromkeys(read.variables))
        return made

    def _allow_host(self, url: Any, place: _Place) -> None:
        start = re.match(r"https?://[^/?#{}]+(?=[/?#]|$)", str(url), re.IGNORECASE)
        host = host_of(start.group()) if start else ""
        if not host:
            self._note(place.path, "its host is known only when it runs: add it to allow: {http: [...]}")
            return
        self._allowed["http"][host] = None


def _tagged(nodes: Any) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Yield number, tag and content of each node of a list."""
    for number, node in enumerate(nodes if isinstance(nodes, list) else ()):
        if isinstance(node, Mapping) and len(node) == 1:
            [(tag, data)] = node.items()
            if tag in _KEYS and isinstance(data, Mapping):
                yield number, tag, data


def _blocks(name: str, data: Mapping[str, Any], place: _Place) -> Iterator[tuple[Any, _Place]]:
    """Yield the lists of nodes in a node, each with its place."""
    if "expression" in data:
        for key in ("true_branch", "false_branch"):
            yield data.get(key) or [], place.within(name, key, key)
    elif isinstance(data.get("branches"), Mapping):
        for key, nodes in data["branches"].items():
            yield nodes, place.within(f"{name}.{_identifier(key)}", key, "branches", key)
    elif "for_each" in data:
        variable = str(data["for_each"])
        inside = place.within(f"{name}[-1]", "", "nodes")
        name = _identifier(variable)
        name = f"{name}_" if name in RESERVED_NAMES - {"item"} else name
        yield data["nodes"], inside._replace(loops={**place.loops, variable: name})
