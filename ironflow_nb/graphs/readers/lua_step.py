"""One step of a Lua flow while it is read: its options, its context, and what is noted or refused of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from ironflow_nb.graphs.grants import host_of
from ironflow_nb.graphs.lua import lua_process
from ironflow_nb.graphs.lua.lua_source import facts_of
from ironflow_nb.graphs.readers.lua_context import LuaStep, StepContext, keys_of_path, path_text, quoted_text

_MISSING: Final = object()
_URL_START: Final = re.compile(r"https?://[^/?#{}\0]+(?=[/?#]|$)", re.IGNORECASE)

TRUE: Final = "`true`"
"""The expression of true."""

NodeKeys = dict[str, Any]
"""What a node of ours has beside its id: its kind with the options, and ``retry`` and such."""


class FlowNotes(Protocol):
    """What a step tells the reader of its flow."""

    def note(self, step: LuaStep, message: str) -> None:
        """Note what means something else here."""

    def grant(self, kind: str, name: str) -> None:
        """Add to what the graph allows itself."""

    def variable(self, name: str, *, is_optional: bool = False) -> str:
        """Return the template of a variable of the environment."""

    def child(self, step: LuaStep, file: str) -> str:
        """Return the name of the graph that another file becomes.

        Raises:
            ValueError: there is no such file, or it is no flow.
        """


class LuaStepOptions:
    """The options of a step. Those that nothing asked for are noted at the end.

    Raises:
        ValueError: an option is missing, or can't be kept; the message is for the user.
    """

    def __init__(self, step: LuaStep, context: StepContext, flow: FlowNotes) -> None:
        self.step = step
        self.context = context
        self.flow = flow
        if step.config is not None and not isinstance(step.config, Mapping):
            raise ValueError(f"nodes.{step.kind} takes a table of options")
        self._config: Mapping[str, Any] = step.config or {}
        self._asked = {"_step_name"}

    def note_unasked(self) -> None:
        """Note the options that nothing asked for."""
        for name in self._config:
            if name not in self._asked:
                self.note(f"{name} means nothing here, and is left out")

    def note(self, message: str) -> None:
        """Note what means something else here."""
        self.flow.note(self.step, message)

    # -- options -------------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Return True if the option is given."""
        return name in self._config

    def get(self, name: str, otherwise: Any = None) -> Any:
        """Return an option as it is written."""
        self._asked.add(name)
        return self._config.get(name, otherwise)

    def need(self, name: str) -> Any:
        """Return an option that must be given."""
        found = self.get(name, _MISSING)
        if found is _MISSING:
            raise ValueError(f"nodes.{self.step.kind} needs {name}")
        return found

    def text(self, name: str, *, is_text: bool = False) -> Any:
        """Return an option that must be given, with its ``${ctx...}`` as expressions."""
        return self.context.text(self.need(name), is_text=is_text)

    def texts(self, name: str, otherwise: Any) -> Any:
        """Return a list or an object of options with their ``${ctx...}`` as expressions; an empty table is either."""
        found = self.get(name, otherwise)
        return self.context.text(otherwise if found in ({}, []) else found)

    def out(self, otherwise: str | None = None) -> str:
        """Return the key that the step writes."""
        return str(self.need("output_key") if otherwise is None else self.get("output_key", otherwise))

    def writes(self, **keys: str) -> None:
        """Say which keys it writes, as expressions."""
        self.writes_keys(keys)

    def writes_keys(self, keys: Mapping[str, str]) -> None:
        """Say which keys it writes, as expressions by their names."""
        self.step.keys = {**self.step.keys, **keys}

    def loses(self, *names: str) -> None:
        """Say which keys it writes there, and not here."""
        self.step.lost = frozenset(names)

    # -- values of the context -----------------------------------------------------------------------------------

    def source(self, name: str = "source_key") -> str:
        """Return the expression of the value whose key an option names."""
        head, *path = keys_of_path(str(self.need(name)))
        return self.context.strict(str(head), tuple(path))

    def optional_source(self, name: str) -> str:
        """Return the expression of the value whose key an option names; null if it is missing."""
        head, *path = keys_of_path(str(self.need(name)))
        return self.context.optional(str(head), tuple(path))

    def input(self, name: str = "input") -> Any:
        """Return the template of a value that is written, or whose key is named."""
        return self.text(name, is_text=True) if self.has(name) else f"{{{{ {self.source()} }}}}"

    def input_expression(self, name: str = "input") -> str:
        """Return the expression of a text that is written, or whose key is named."""
        if not self.has(name):
            return self.source()
        template = self.text(name)
        parts = re.split(r"\{\{ (.*?) \}\}", template)
        made = [each if n % 2 else quoted_text(each) for n, each in enumerate(parts) if each]
        return made[0] if len(made) == 1 else f"join('', [{', '.join(f'to_string({each})' for each in made)}])"

    # -- what it may use -----------------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        """Return the path that an option has, and grant it."""
        written = str(self.text(name))
        self.grant_path(written)
        return written

    def grant_path(self, written: str) -> None:
        """Grant a path, or of one with expressions the folder that it begins with."""
        fixed = re.split(r"\{\{|\0", written)[0]
        folder = fixed if fixed == written else fixed.rpartition("/")[0]
        if not folder:
            self.note(
                f"the path {_shown(written)} is known only when it runs: add its folder to allow: {{files: [...]}}"
            )
            return
        if not re.match(r"[/~]|\w:", folder):
            self.note(f"{folder} is relative to the folder of this file; there, to that of the process")
        self.flow.grant("files", folder)

    def grant_host(self, url: str) -> str:
        """Grant the host of a URL and return it; empty if it is known only when the graph runs."""
        start = _URL_START.match(url)
        host = host_of(start.group()) if start else ""
        if host:
            self.flow.grant("http", host)
        else:
            self.note(f"the host of {_shown(url)} is known only when it runs: add it to allow: {{http: [...]}}")
        return host


def _shown(text: str) -> str:
    return repr(re.sub(r"\0\w+:(.*?)\0", r"${\1}", text))


def template_of(expression: str) -> str:
    """Return the template that gives the value of an expression."""
    return f"{{{{ {expression} }}}}"


def lua_keys(options: LuaStepOptions, source: Any, *, names: Iterable[str] | None = None) -> NodeKeys:
    """Return the ``lua`` options of a function, or of the text of a code, for what it reads of its context."""
    text, is_function = _code_of(source)
    is_item = options.step.kind == "foreach"
    facts = facts_of(text, takes_context=not is_item)
    if facts["env"] is None:
        raise ValueError("env(name) needs the name as a text in quotes")
    for name, line in facts["unknown"]:
        where = options.step.line if not is_function else source[lua_process.FUNCTION_KEY]["line"] + line - 1
        options.note(f"line {where}: nothing defines {name}, so it is nil")
    fields = facts["ctx"] if names is None else list(names)
    made: NodeKeys = {"source": text}
    seen = options.context.whole(fields)
    if seen:
        made["ctx"] = seen
    if facts["env"]:
        made["env"] = {name: options.flow.variable(name, is_optional=True) for name in facts["env"]}
    if not is_item:
        step = options.step
        known = facts["returned"]
        step.writes_more = known is None
        step.is_sure = step.is_sure and facts["is_sure"]
        options.writes_keys({name: f"{step.id}{path_text([name])}" for name in known or ()})
    return made


def _code_of(source: Any) -> tuple[str, bool]:
    """Return the text of a code, and whether it is a function of the file."""
    match source:
        case {lua_process.FUNCTION_KEY: {"source": str(text)}}:
            return text, True
        case str() if "\0" in source:
            raise ValueError('its code is put together with a variable; read that in the code: env("NAME")')
        case {lua_process.FUNCTION_KEY: {"problem": str(problem)}}:
            raise ValueError(problem)
        case str():
            return source, False
        case _:
            raise ValueError("code is a function, or a text of Lua")


Reader = Callable[[LuaStepOptions], NodeKeys]
