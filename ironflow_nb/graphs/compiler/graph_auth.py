"""The compiler of the credentials that a graph has for hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ironflow_nb.graphs.compiler.compiler_findings import CompilerFindings, DataPath
from ironflow_nb.graphs.compiler.name_scope import SECRETS, NameScope
from ironflow_nb.graphs.compiler.schema_check import has_expression
from ironflow_nb.graphs.grants import Grants, Need
from ironflow_nb.graphs.host_auth import HostAuth
from ironflow_nb.graphs.language.templates import Template, expressions_of

CompileTemplate = Callable[[Any, DataPath, NameScope], Template]


def compiled_auth(
    data: Any, findings: CompilerFindings, template: CompileTemplate, secrets: frozenset[str], grants: Grants
) -> tuple[HostAuth, ...]:
    """Return the credentials of a graph. What does not fit the schema is reported by it."""
    scope = NameScope(frozenset(), secrets=secrets)
    found: dict[str, HostAuth] = {}
    for name, given in data.items() if isinstance(data, Mapping) else ():
        host, path = given.get("host") if isinstance(given, Mapping) else None, ("auth", name)
        if not isinstance(host, str):
            continue
        if has_expression(host):
            findings.add((*path, "host"), "a host is known before anything runs; an expression can't stand here")
            continue
        if host.lower() in found:
            first = found[host.lower()].name
            findings.add((*path, "host"), f"{first} is for {host}, too; give one of them to the nodes that need it")
        if (refusal := grants.refusal(Need("http", f"https://{host}"))) and grants.refusal(
            Need("http", f"http://{host}")
        ):
            findings.add((*path, "host"), refusal)
        made = template(given, path, scope)
        for place, part in _credentials(given):
            compiled = template(part, (*path, *place), scope) if isinstance(part, str) else None
            if compiled is not None and not any(SECRETS in each.names for each in expressions_of(compiled)):
                advice = "every run stores the text of the graph; take it from a secret: {{ secrets.NAME }}"
                findings.add((*path, *place), f"a credential does not stand in a graph: {advice}")
        found[host.lower()] = HostAuth(name, host, made)
    return tuple(found.values())


def _credentials(given: Mapping[str, Any]) -> Iterator[tuple[DataPath, Any]]:
    """Yield what is secret in a credential, with its path in it."""
    yield ("bearer",), given.get("bearer")
    for kind, key in (("basic", "password"), ("header", "value")):
        if isinstance(given.get(kind), Mapping):
            yield (kind, key), given[kind].get(key)
