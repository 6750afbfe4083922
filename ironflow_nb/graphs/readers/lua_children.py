"""The kinds of nodes of Lua flows that run other flows, as children of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ironflow_nb.graphs.readers.lua_context import field_name, quoted_text
from ironflow_nb.graphs.readers.lua_step import TRUE, LuaStepOptions, NodeKeys, Reader

_INDEX: Final = "{{ length(concat(range(index), `[0]`)) }}"
"""The number of an item counted from 1."""


def _inputs(options: LuaStepOptions, given: Any, *, allows_literals: bool) -> dict[str, Any]:
    """Return the input of a child: each value is that of a key, or the text itself if no key has that name."""
    made: dict[str, Any] = {}
    for name, value in dict(given or {}).items():
        is_key = isinstance(value, str) and (not allows_literals or options.context.knows(value))
        made[name] = f"{{{{ {options.context.strict(value)} }}}}" if is_key else options.context.text(value)
        if isinstance(value, str) and not is_key:
            options.note(f"{name} is the text {value!r}, for no step writes a key of that name")
    return made


def _is_ignoring(options: LuaStepOptions, otherwise: str) -> bool:
    policy = options.get("on_error", otherwise)
    if policy not in {"fail_fast", "ignore"}:
        raise ValueError(f"on_error is fail_fast or ignore, not {policy!r}")
    return bool(policy == "ignore")


def _subworkflow(options: LuaStepOptions) -> NodeKeys:
    if options.get("wait", True) is False:
        raise ValueError("a child that nobody waits for is not there; emit an event, and let a flow subscribe to it")
    step, name = options.step, options.flow.child(options.step, str(options.need("flow")))
    given = options.get("input")
    made: NodeKeys = {
        "workflow": name,
        "input": options.context.whole() if given is None else _inputs(options, given, allows_literals=False),
    }
    out = options.get("output_key")
    is_ignoring = _is_ignoring(options, "fail_fast" if out is None else "ignore")
    success = f"({step.id}.error == `null`)" if is_ignoring else TRUE
    options.writes(subworkflow_name=quoted_text(name), subworkflow_success=success)
    if is_ignoring:
        made["on_error"] = "continue"
        options.note("what a failed child had written by then is not there; only its error")
    if out is None:
        step.writes_more = True
    else:
        options.writes_keys({str(out): step.id, f"{out}_success": success})
        if is_ignoring:
            options.writes_keys({f"{out}_error": f"default({step.id}.error.message, `null`)"})
    return made


def _parallel_subworkflows(options: LuaStepOptions) -> NodeKeys:
    is_ignoring = _is_ignoring(options, "fail_fast")
    return _each_item(options, is_ignoring) if options.has("flow") else _each_flow(options, is_ignoring)


def _each_flow(options: LuaStepOptions, is_ignoring: bool) -> NodeKeys:  # noqa: FBT001 -- one flag
    listed = list(options.need("flows") or ())
    step, branches, results, oks = options.step, {}, [], []
    for number, entry in enumerate(listed, 1):
        name = options.flow.child(step, str(entry.get("flow")))
        inner = f"{step.id}_{number}"
        given = _inputs(options, entry.get("input"), allows_literals=True)
        node: NodeKeys = {"id": inner, "workflow": name, "input": given}
        branches[f"flow_{number}"] = {"do": [{**node, "on_error": "continue"} if is_ignoring else node]}
        child = f"{step.id}.flow_{number}.{inner}"
        ok = f"({child}.error == `null`)" if is_ignoring else TRUE
        oks.append(ok)
        results.append(_result(name, child, ok, entry.get("output_key")))
    all_ok = " && ".join(oks) if is_ignoring and oks else TRUE
    _write_results(options, f"[{', '.join(results)}]" if results else "`[]`", f"`{len(results)}`", all_ok)
    options.get("max_concurrent")
    return {"branch": branches}


def _each_item(options: LuaStepOptions, is_ignoring: bool) -> NodeKeys:  # noqa: FBT001 -- one flag
    step, name = options.step, options.flow.child(options.step, str(options.need("flow")))
    inner = f"{step.id}_child"
    given = _inputs(options, options.get("input"), allows_literals=True)
    given |= {str(options.get("item_key", "item")): "{{ item }}", str(options.get("index_key", "index")): _INDEX}
    node: NodeKeys = {"id": inner, "workflow": name, "input": given}
    result = _result(
        name, inner, f"({inner}.error == `null`)" if is_ignoring else TRUE, options.get("child_output_key")
    )
    all_ok = f"(length({step.id}[?{inner}.error != `null`]) == `0`)" if is_ignoring else TRUE
    _write_results(options, f"map(&{result}, {step.id})", f"length({step.id})", all_ok)
    return {
        "loop": f"{{{{ {options.source()} }}}}",
        "concurrency": int(options.get("max_concurrent", 4)),
        "do": [{**node, "on_error": "continue"} if is_ignoring else node],
    }


def _result(name: str, child: str, ok: str, key: Any) -> str:
    """Return the expression of the entry of one child in the list of results."""
    about = f"{{success: {ok}, flow: {quoted_text(name)}}}"
    return f"merge({about}, {child if key is None else f'{{{field_name(str(key))}: {child}}}'})"


def _write_results(options: LuaStepOptions, results: str, count: str, all_ok: str) -> None:
    out = options.out("parallel_results")
    options.writes_keys({out: results, f"{out}_count": count, f"{out}_all_succeeded": all_ok})


def _repeat_subworkflow(options: LuaStepOptions) -> NodeKeys:
    step, name = options.step, options.flow.child(options.step, str(options.need("flow")))
    inner, round_name = f"{step.id}_child", f"{step.id}_round"
    state, following, until, iteration = (
        str(options.get(f"{each}_key", f"repeat_{otherwise}"))
        for each, otherwise in (
            ("state", "state"),
            ("next_state", "next_state"),
            ("until", "done"),
            ("iteration", "iteration"),
        )
    )
    given = options.get("input")
    if given is None:
        raise ValueError('input is to be named: input = { child_key = "parent_key" }')
    inputs = _inputs(options, given, allows_literals=True)
    last = f"{round_name}.last.{inner}"
    first = str(inputs.get(state, "{{ `null` }}")).removeprefix("{{ ").removesuffix(" }}")
    inputs[state] = f"{{{{ coalesce({last}.{field_name(following)}, {first}) }}}}"
    inputs[iteration] = _INDEX
    loop: NodeKeys = {
        "while": f"{{{{ !{round_name}.last || {last}.{field_name(until)} == `false` }}}}",
        "max_rounds": int(options.need("max_iterations")),
    }
    if options.get("delay_seconds", 0):
        loop["pause"] = options.get("delay_seconds")
    if options.get("backoff_factor", 1) != 1:
        options.note("the pauses stay as long as the first one")
    options.get("max_delay_seconds")
    out, end = options.out("repeat_result"), f"{step.id}[-1].{inner}"
    options.writes_keys({
        out: end, f"{out}_state": f"coalesce({end}.{field_name(following)}, `null`)",
        f"{out}_iterations": f"length({step.id})", f"{out}_completed": TRUE, f"{out}_flow": quoted_text(name),
    })  # fmt: skip
    return {"loop": loop, "as": round_name, "do": [{"id": inner, "workflow": name, "input": inputs}]}


CHILD_READERS: Final[Mapping[str, Reader]] = {
    "subworkflow": _subworkflow, "parallel_subworkflows": _parallel_subworkflows,
    "repeat_subworkflow": _repeat_subworkflow,
}  # fmt: skip
"""The kinds that run other flows."""
