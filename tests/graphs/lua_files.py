"""Flows of Lua for tests: files with them, and the graphs that they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.graph import Graph

STOCK = """
local flow = Flow.new("stock")

flow:step("shelf", function(ctx)
    local rows = {
        { name = "tea", price = 2.5, n = 4 },
        { name = "cup", price = 6, n = ctx.cups or 0 },
        { name = "pot", price = 30, n = 0 },
    }
    return { shelf = rows, currency = "EUR" }
end)

flow:step("sums", nodes.foreach({
    source_key = "shelf",
    output_key = "sums",
    transform = function(item, number)
        if item.n == 0 then return nil end
        return { line = number, name = string.upper(item.name), sum = item.price * item.n }
    end
})):depends_on("shelf")

flow:step("total", function(ctx)
    local total = 0
    for _, line in ipairs(ctx.sums) do total = total + line.sum end
    return { total = total }
end):depends_on("sums")

flow:step("size", nodes.if_node({
    condition = "ctx.total >= 20", true_route = "large", false_route = "small"
})):depends_on("total")

flow:step("large", nodes.template_render({
    template = "${ctx.sums_count} lines, ${ctx.total} ${ctx.currency}: large", output_key = "told"
})):depends_on("size"):route("large")

flow:step("small", nodes.template_render({
    template = "only ${ctx.total} ${ctx.currency}", output_key = "told"
})):depends_on("size"):route("small")

flow:step("end", nodes.log({ message = "${ctx.told}" })):depends_on("large", "small")

return flow
"""


def imported(tmp_path: Path, text: str, name: str = "flow.lua", **options: Any) -> Graph:
    file = tmp_path / name
    file.write_text(text)
    return Graph.from_file(file, **options)


def flow_of(tmp_path: Path, *lines: str, **options: Any) -> Graph:
    body = "\n".join(["local flow = Flow.new('f')", *lines, "return flow"])
    return imported(tmp_path, body, **options)


def refusals(tmp_path: Path, *lines: str) -> list[str]:
    with pytest.raises(GraphInvalid) as caught:
        flow_of(tmp_path, *lines)
    return [str(each) for each in caught.value.findings]


def node_of(graph: Graph, name: str) -> dict[str, Any]:
    [found] = [each for each in graph.data["nodes"] if each["id"] == name]
    return dict(found)
