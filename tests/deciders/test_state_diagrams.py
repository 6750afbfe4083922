"""The diagram of a decider: what is in it, how it looks, and what is found wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from pygraphviz import AGraph

import ironflow_nb as iron
from ironflow_nb.diagram.model import NodeKind
from tests.conftest import Lab
from tests.deciders.orders import Charge, Expire, GiveUp, Order, Pay, Place, charging, orders
from tests.diagram.drawn import SVG, Drawn, laid_out, overlap, title, words

MERMAID = re.compile(r'state "[^"]+" as n\d+|class n\d+ \w+|(\[\*\]|n\d+) --> (\[\*\]|n\d+)( : [^:]+)?|classDef \w+ .+')
ODD = "<b>&\"'|;#`{}\\n[x] --> end\n文書 \x00\ud800"


def edges(svg: str | None) -> Iterator[ET.Element]:
    """Yield the transitions of a picture."""
    yield from (group for group in Drawn.of(svg).root.iter(f"{SVG}g") if "data-tone" in group.attrib)


def tones(svg: str | None) -> dict[str, str]:
    return {" ".join(words(group)): group.attrib["data-tone"] for group in edges(svg)}


def dashes(group: ET.Element) -> str | None:
    return next(group.iter(f"{SVG}path")).get("stroke-dasharray")


def thickness(group: ET.Element) -> float:
    return float(next(group.iter(f"{SVG}path")).attrib["stroke-width"])


def placed(name: str = "order", **options: Any) -> Any:
    """Return a decider with two instances, of which one is paid."""
    order = orders(name, **options)
    for instance in ("o-1", "o-2"):
        order.send(Place(instance, 5.0))
    order.send(Pay("o-1"))
    order.send(Pay("o-1"))
    return order


def test_before_the_first_command_the_source_tells(lab: Lab) -> None:
    diagram = orders().diagram()
    assert {edge.tone for edge in diagram.model.edges if edge.tone is not None} == {"hint"}
    assert diagram.text.splitlines()[:3] == [
        "order: no instance yet",
        "  ○ new (initial)",
        "      ⇢ placed: Place / Charge (in the source only)",
    ]
    assert {dashes(group) for group in edges(diagram.svg)} == {"1 4"}


def test_what_happened_is_solid_and_what_can_happen_is_dashed(lab: Lab) -> None:
    svg = placed().diagram().svg
    assert tones(svg) == {
        "Place / Charge, ◷ pay-by \u00d72": "seen", "Pay": "seen", "Expire": "possible", "GiveUp": "hint",
    }  # fmt: skip
    assert {group.attrib["data-tone"]: dashes(group) for group in edges(svg)} == {
        "seen": None, "possible": "5 4", "hint": "1 4",
    }  # fmt: skip
    often, once = (group for group in edges(svg) if group.attrib["data-tone"] == "seen")
    assert thickness(often) > thickness(once)
    assert "effects: Charge\ntimers: pay-by" in title(often)


def test_states_say_how_many_are_there_and_ends_have_two_rings(lab: Lab) -> None:
    diagram = placed().diagram()
    picture = Drawn.of(diagram.svg)
    kinds = {node.label: node.kind for node in diagram.model.nodes if node.label}
    assert kinds == {
        "new": NodeKind.STATE, "placed": NodeKind.STATE,
        "paid": NodeKind.FINAL, "expired": NodeKind.FINAL, "failed": NodeKind.FINAL,
    }  # fmt: skip
    assert words(picture.group("state_3a_paid", "iron-order")) == ["paid", "1 here"]
    rings = list(picture.group("state_3a_expired", "iron-order").iter(f"{SVG}path"))
    assert len(rings) == 2
    assert picture.group("initial", "iron-order").attrib["data-kind"] == "initial"
    assert picture.statuses()["iron-order-n-state_3a_placed"] == "running"  # its charge is still to be performed
    assert picture.statuses()["iron-order-n-state_3a_paid"] == "completed"


def test_a_dead_letter_is_seen_in_the_picture(lab: Lab) -> None:
    lab.simulate_time()
    order = orders()
    charging(order, [], lambda _: True, attempts=1)
    order.send(Place("o-1", 5.0))
    order.run_until_idle()
    diagram = order.diagram()
    assert Drawn.of(diagram.svg).statuses()["iron-order-n-state_3a_placed"] == "failed"
    assert diagram.text.startswith("order: 1 instance, 1 dead letter\n")


def test_an_instance_has_its_state_filled_its_fields_told_and_its_way_numbered(lab: Lab) -> None:
    order = placed()
    diagram = order.diagram("o-1")
    picture = Drawn.of(diagram.svg)
    statuses = {name: status for name, status in picture.statuses().items() if status not in {"none", ""}}
    assert statuses == {"iron-order-o-1-head": "completed", "iron-order-o-1-n-state_3a_paid": "completed"}
    assert words(picture.group("state_3a_paid", "iron-order-o-1")) == ["paid", "total=5"]
    taken = [words(group)[0] for group in edges(diagram.svg) if group.attrib["data-taken"] == "true"]
    assert taken == ["① Place / Charge, ◷ pay-by \u00d72", "② Pay"]
    assert words(Drawn.of(order.diagram("o-2", fields=()).svg).group("state_3a_placed", "iron-order-o-2")) == ["placed"]
    with pytest.raises(iron.errors.InstanceNotFound, match="there is no order 'nobody'; see"):
        order.diagram("nobody")


def test_what_happened_and_is_not_declared_is_marked(lab: Lab) -> None:
    table = [("new", Place, "placed", [Charge], ["pay-by"]), ("placed", Expire, "expired"), ("placed", "Ship", "sent")]
    order = placed(transitions=table)
    assert tones(order.diagram().svg) == {
        "Place / Charge, ◷ pay-by \u00d72": "seen", "! Pay": "drift", "Expire": "possible", "Ship": "possible",
        "GiveUp": "hint",
    }  # fmt: skip
    drift = order.drift()
    assert list(drift[["drift", "command", "n_seen"]].itertuples(index=False, name=None)) == [
        ("seen, not declared", "Pay", 1), ("declared, never seen", "Expire", 0), ("declared, never seen", "Ship", 0),
    ]  # fmt: skip
    assert list(drift["last_seen_at"].isna()) == [False, True, True]
    assert list(order.drift(samples=[GiveUp("x", "y")])["drift"])[1] == "possible, not declared"
    assert len(orders("free").drift()) == 0


def test_what_cannot_be_right_is_found(lab: Lab) -> None:
    table = [
        ("new", Place, "placed"),
        ("placed", Pay, "payed"),
        ("lost", Expire, "expired"),
        ("paid", "Refund", "placed"),
    ]
    order = orders(transitions=table)

    class Forget:
        pass

    order.command_names = (*order.command_names, "Forget")
    found = order.validate()
    assert list(found[["finding", "status", "command"]].fillna("").itertuples(index=False, name=None)) == [
        ("unknown state", "payed", ""),
        ("unknown state", "lost", ""),
        ("unreachable state", "lost", ""),
        ("unreachable state", "paid", ""),
        ("terminal state with an exit", "paid", "Refund"),
        ("dead end", "payed", ""),
        ("command never accepted", "", "Forget"),
    ]
    assert len(orders("sound").validate()) == 0


def test_odd_names_are_escaped_in_every_form(lab: Lab) -> None:
    odd: Any = iron.Decider(
        "odd <name>", initial=Order("new"), transitions=[("new", ODD, ODD), (ODD, ODD, ODD, [ODD], [ODD])]
    )
    diagram = odd.diagram()
    svg = Drawn.of(diagram.svg)
    assert len(list(edges(diagram.svg))) == 2
    assert any("<b>&" in word for group in svg.root.iter(f"{SVG}g") for word in words(group))
    assert AGraph(string=diagram.dot).number_of_edges() == 3
    first, *mermaid = [line.strip() for line in diagram.mermaid.splitlines()]
    assert first == "stateDiagram-v2"
    assert [line for line in mermaid if not MERMAID.fullmatch(line)] == []
    assert sum(" --> " in line for line in mermaid) == 3
    assert len(diagram.text.splitlines()) == 1 + 2 + 2


def test_several_transitions_between_two_states_and_to_themselves_stand_apart(lab: Lab) -> None:
    table = [("new", f"Command{n}", "placed") for n in range(3)] + [("new", f"Same{n}", "new") for n in range(4)]
    table += [("placed", f"Back{n}", "new") for n in range(2)]
    order: Any = iron.Decider("order", initial=Order(), transitions=table)
    model = order.diagram().model
    layout = laid_out(model)
    assert layout.engine_name == "layered"
    labels = [route.label for edge, route in zip(model.edges, layout.routes, strict=True) if edge.label]
    assert all(abs(a[0] - b[0]) > 20 or abs(a[1] - b[1]) >= 14 for n, a in enumerate(labels) for b in labels[:n])
    boxes = list(layout.boxes.values())
    assert not any(overlap(one, other) for n, one in enumerate(boxes) for other in boxes[:n])
    assert len({route.points for route in layout.routes}) == len(layout.routes)


def test_it_shows_itself_whatever_happens(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    order = placed()
    assert set(order._repr_mimebundle_()) == {"text/plain", "text/html", "image/svg+xml"}
    assert repr(order.diagram()) == order.diagram().text == order._repr_mimebundle_()["text/plain"]

    def fails() -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(lab.engine, "reading", fails)
    assert order._repr_mimebundle_() == {"text/plain": "decider order: the disk is gone"}


def test_a_decider_without_functions_shows_itself_too(lab: Lab) -> None:
    bare: Any = iron.Decider("bare", initial=Order(), samples=[Pay("x")])
    assert bare.diagram().text == "bare: no instance yet\n  ○ new (initial)"


def test_what_was_found_by_trying_is_remembered_until_the_code_is_another(lab: Lab) -> None:
    order, asked = orders(), []

    @order.decide
    def decide(state: Order, command: Any) -> Any:
        asked.append(command)
        return iron.reject("no")

    for _ in range(3):
        order.diagram(samples=[Pay("x")])
    assert asked == [Pay("x")]
    order.decide(lambda state, command: asked.append(command) or iron.reject("no"))
    order.diagram(samples=[Pay("x")])
    assert len(asked) == 2
