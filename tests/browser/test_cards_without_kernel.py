"""Dashboard and slider in a plain page: what they need of a kernel is a model with get, set, on, off and send."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.notebook.static_modules import module_text, style_text
from tests.browser.frontend_tools import installed
from tests.browser.lab import shoot
from tests.conftest import Lab
from tests.deciders.orders import orders
from tests.waits.conftest import until

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("lab", ["sqlite"], indirect=True)]
pytest.importorskip("anywidget", reason="the cards are widgets")

OPEN = """async ([module, styles, frame]) => {
  document.body.innerHTML = '<main></main>';
  document.head.append(Object.assign(document.createElement('style'), {textContent: styles}));
  const address = URL.createObjectURL(new Blob([module], {type: 'text/javascript'}));
  const face = (await import(address)).default;
  const listeners = [];
  const values = {frame};
  window.sent = [];
  window.model = {
    get: (name) => values[name], set: (name, value) => (values[name] = value),
    on: (_, listener) => listeners.push(listener),
    off: (_, listener) => listeners.splice(listeners.indexOf(listener), 1),
    send: (content) => window.sent.push(content),
  };
  window.hear = (content) => [...listeners].forEach((listener) => listener(content));
  face.initialize({model: window.model});
  window.leave = face.render({model: window.model, el: document.querySelector('main')});
  window.count = () => listeners.length;
}"""


@step
def load(n: int) -> int:
    if n < 0:
        raise ValueError(f"<b>row {n}</b> is bad")
    return n


@flow
def ingest(n: int) -> int:
    return load(n)


@flow
def wide() -> int:
    return len(load.map(range(-3, 900), on_error="collect"))


@pytest.fixture
def opened(window: Any) -> Callable[..., Any]:
    """Render a card in an empty page."""

    def open_card(name: str, frame: Any, *styles: str) -> Any:
        page = window.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("about:blank")
        plain = json.loads(msgspec.json.encode(frame))
        page.evaluate(OPEN, [module_text(name), style_text("run_card.css", *styles), plain])
        page.errors = errors
        return page

    return open_card


def serious_faults(page: Any) -> list[str]:
    """Return what axe finds in the card that is serious or worse.

    The label of a node begins with its name and has more than there is room for; axe wants the shortened words, too.
    """
    page.add_script_tag(path=str(installed("axe-core") / "axe.min.js"))
    options = {"resultTypes": ["violations"], "rules": {"label-content-name-mismatch": {"enabled": False}}}
    found = page.evaluate("options => axe.run(document.querySelector('main'), options)", options)
    return [
        f"{each['id']}: {each['nodes'][0]['html']}"
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
    ]


def sent(page: Any, what: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate("window.sent")
    return [each for each in found if each["do"] == what]


def test_a_dashboard_changes_only_the_rows_that_differ(lab: Lab, opened: Callable[..., Any]) -> None:
    from ironflow_nb.notebook.dashboard_card import DashboardContent

    ingest(1)
    ingest.start(-1).wait()
    content = DashboardContent(*iron.dashboard().source)
    content.advance()
    page = opened("dashboard.js", content.frame(), "dashboard.css")
    rows = "[data-part=runs] tbody tr"
    assert page.locator(rows).count() == 2
    assert page.locator(f"{rows} b").count() == 0, "an error is text"
    page.focus(f"{rows} >> nth=1 >> button")
    ingest(2)
    page.evaluate("window.hear", content.advance())
    assert page.locator(rows).count() == 3
    assert page.evaluate("document.activeElement.closest('tr').rowIndex") == 3, (
        "the row that had the focus has it still"
    )
    page.keyboard.press("Enter")
    assert [each["run"] for each in sent(page, "open")] == [page.inner_text(f"{rows} >> nth=2 >> button")]
    page.select_option("select[name=status]", "failed")
    assert [each["status"] for each in sent(page, "filter")] == ["failed"]
    page.evaluate("window.leave()")
    assert page.evaluate("window.count()") == 1, "what keeps the frame stays, and nothing else hears"
    assert page.errors == []


def test_a_slider_asks_for_one_moment_at_a_time_and_then_for_the_last_one_wanted(
    lab: Lab, opened: Callable[..., Any]
) -> None:
    from ironflow_nb.notebook.slider_card import SliderContent

    ingest(1)
    content = SliderContent(ingest.last.slider().moments)
    content.advance()
    page = opened("slider.js", content.frame(), "slider.css")
    page.focus("input[type=range] >> nth=0")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    newest = ingest.last.at().version
    assert [each["at"] for each in sent(page, "move")] == [newest - 1]
    page.evaluate("window.hear", json.loads(msgspec.json.encode(content.act(sent(page, "move")[0]))))
    assert [each["at"] for each in sent(page, "move")] == [newest - 1, newest - 3]
    page.evaluate("window.hear", json.loads(msgspec.json.encode(content.act(sent(page, "move")[1]))))
    assert page.input_value("input[type=range] >> nth=0") == str(newest - 3)
    assert page.errors == []


def test_a_slider_dims_what_came_later(lab: Lab, opened: Callable[..., Any]) -> None:
    from ironflow_nb.notebook.slider_card import SliderContent

    ingest(1)
    content = SliderContent(ingest.last.slider().moments)
    content.advance()
    page = opened("slider.js", content.frame(), "slider.css")
    assert page.locator(".ironflow-ghost").count() == 0
    change = content.act({"do": "move", "at": 1, "other": ingest.last.at().version, "is_live": False})
    page.evaluate("window.hear", json.loads(msgspec.json.encode(change)))
    assert page.locator(".ironflow-ghost").count() == 1
    assert page.get_attribute(".ironflow-ghost", "aria-label").endswith("(later)")
    assert "not there yet → completed: 1" in page.inner_text(".ironflow-differences")
    assert page.get_attribute("button:has-text('Compare')", "aria-pressed") == "true"
    assert page.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_a_dashboard_and_a_slider(
    lab: Lab, opened: Callable[..., Any], scheme: str
) -> None:
    from ironflow_nb.notebook.dashboard_card import DashboardContent
    from ironflow_nb.notebook.slider_card import SliderContent

    for n in (1, -1, 2):
        ingest.start(n).wait()
    board, slider = DashboardContent(*iron.dashboard().source), SliderContent(ingest.last.slider().moments)
    for content, name in ((board, "dashboard"), (slider, "slider")):
        content.advance()
        page = opened(f"{name}.js", content.frame(), f"{name}.css")
        page.emulate_media(color_scheme=scheme)
        page.add_style_tag(content=":root { color-scheme: light dark; } body { background: Canvas; color: CanvasText }")
        assert serious_faults(page) == []
        shoot(page, f"{name}-alone-{scheme}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_decider_is_led_by_the_forms_of_its_card(lab: Lab, opened: Callable[..., Any], scheme: str) -> None:
    from ironflow_nb.notebook.decider_card import DeciderContent

    content = DeciderContent(lab.engine, orders())
    content.advance()
    page = opened("decider_card.js", content.frame(), "slider.css", "decider_card.css")
    page.emulate_media(color_scheme=scheme)
    page.add_style_tag(content=":root { color-scheme: light dark; } body { background: Canvas; color: CanvasText }")
    place = "form[data-command=Place]"
    assert page.get_attribute(place, "data-expected") == "true"
    page.fill(f"{place} input >> nth=0", "o-1")
    page.fill(f"{place} input >> nth=1", "5")
    page.keyboard.press("Enter")
    answered = content.act(sent(page, "send")[0])
    for each in (answered, content.advance()):
        page.evaluate("window.hear", json.loads(msgspec.json.encode(each)))
    assert page.inner_text("[role=status]") == "Place was accepted, with 1 event"
    assert page.input_value("select >> nth=0") == "o-1"
    assert page.locator(f"{place} input").count() == 1, "the instance is chosen, so its id is not asked for"
    assert "effect Charge" in page.inner_text(".ironflow-work")
    assert re.search(r"timer Expire .* due in (59 min|1 h)", page.inner_text(".ironflow-work"))
    assert serious_faults(page) == []
    shoot(page, f"decider-alone-{scheme}")
    page.select_option("select >> nth=0", "")
    assert sent(page, "choose") == [{"do": "choose", "instance": None}]
    assert page.errors == []


def test_the_strip_of_a_map_is_chosen_from_by_keyboard(lab: Lab, opened: Callable[..., Any]) -> None:
    from ironflow_nb.handles.node_details import details_of
    from ironflow_nb.handles.run_picture import view_of
    from ironflow_nb.handles.run_progress import progress_of
    from ironflow_nb.notebook.run_card import RunCard

    wide()
    view = view_of(wide.last.id, progress_of(lab.engine, wide.last.id))
    frames = []
    RunCard(lab.engine, view, lambda: None, lambda frame, heard: frames.append(frame) or Nobody())
    page = opened("run_card.js", frames[0])
    page.focus("g[data-kind=map]")
    page.keyboard.press("Enter")
    assert sent(page, "details")[0]["items"] is None
    node = next(each for each in view.nodes if each.state is not None and each.state.n_total > 100)
    details = details_of(lab.engine, wide.last.id, node)
    page.evaluate("window.hear", json.loads(msgspec.json.encode({"details": details})))
    assert "3 failed and handled" in page.inner_text(".ironflow-items")
    assert page.locator(".ironflow-strip span").count() == len(details.strip.cells) <= 400
    page.focus(".ironflow-items input")
    page.keyboard.press("ArrowRight")
    second = details.strip.cells[1]
    until(lambda: [each["items"] for each in sent(page, "details")][-1] == [second.first, second.n])
    assert serious_faults(page) == []
    shoot(page, "strip-alone")
    assert page.errors == []


class Nobody:
    """A channel to no front end."""

    model_id = ""

    def change(self, part: Any, elements: Any) -> None: ...
    def replace(self, frame: Any) -> None: ...
    def say(self, **content: Any) -> None: ...
    def repeat(self) -> None: ...
    def close(self) -> None: ...
