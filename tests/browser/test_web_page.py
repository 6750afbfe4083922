"""The web page of the server in a real browser: runs are watched, steered and answered, whatever they are called."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Service
from tests.waits.conftest import until

pytestmark = pytest.mark.browser
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

TOKEN = "0123456789abcdef"
EVIL = '<img src=x onerror="window.broken=1"><script>window.broken=1</script></title></svg>\'"`'
HOSTILE = f"""
import ironflow_nb as iron
from ironflow_nb import flow, step

EVIL = {EVIL!r}

@step(name="s " + EVIL)
def say(text):
    print(EVIL)
    return {{EVIL: text}}

@step(name="f " + EVIL)
def fail():
    raise ValueError(EVIL)

@flow(name="h " + EVIL)
def hostile(text: str):
    "<b>documented</b>"
    said = say(text)
    try:
        fail()
    except ValueError:
        pass
    iron.ask(EVIL, said, choices=[EVIL, "b"])
    return said
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.close()


@pytest.fixture
def opened(window: Any, service: Service) -> Callable[[str], Any]:
    """Open a page of the server; what goes wrong in its scripts fails the test."""

    def open_page(address: str) -> Any:
        page = window.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(f"{service.client.base_url}{address}")
        return page

    return open_page


def wait_for_rows(page: Any, n: int) -> None:
    until(lambda: page.locator("tbody tr").count() == n)


def cell(page: Any, text: str) -> Any:
    return page.locator("td", has_text=text).first


def test_a_run_is_begun_watched_paused_resumed_and_answered(service: Service, opened: Callable[[str], Any]) -> None:
    service.begin()
    page = opened("/#/flows")
    page.click("summary:has-text('gated(n: int)')")
    form = page.locator("details[open] form")
    form.locator("textarea").fill('{"n": "many"}')
    form.locator("button").click()
    form.locator("[role=alert]:has-text('Expected `int`')").wait_for()
    form.locator("textarea").fill('{"n": 2}')
    form.locator("button").click()
    page.wait_for_url("**/#/runs/*")
    page.wait_for_selector(".ironflow-card g[data-kind][data-status=running]")
    with page.expect_response("**/pause"):
        page.click("[data-action=pause]")
    service.open()
    page.click("[data-action=resume]")
    page.wait_for_selector("dl >> text=completed")
    page.wait_for_selector("main >> text=[")
    assert page.locator("tbody tr").count() == 3
    page.locator(".ironflow-card g[data-kind]", has_text="gate").click()
    page.wait_for_selector(".ironflow-details >> text=gate[0]: completed")
    page.click("summary:has-text('Moments')")
    slider = page.locator(".page-moments .ironflow-slider")
    slider.locator("text=run completed").first.wait_for()
    assert slider.locator(".ironflow-ghost").count() == 0
    slider.get_by_role("slider").first.press("Home")
    slider.locator("text=1 of").wait_for()
    slider.locator(".ironflow-ghost", has_text="gate").wait_for()
    slider.locator("button:has-text('Compare')").click()
    slider.locator("dt:has-text('gate[0]')").wait_for()
    page.click("summary:has-text('Moments')")
    until(lambda: slider.count() == 0)

    asking = service.start("asks", input={"question": "Shall it be?"})["run_id"]
    page.click("nav >> text=Inbox (1)")
    page.click(".page-question button:has-text('Approve')")
    page.wait_for_selector("text=Nothing is asked now")
    assert service.until_status(asking, "completed")["result"] is True
    assert page.errors == []


def test_a_signal_is_sent_and_a_run_cancelled_and_deleted(service: Service, opened: Callable[[str], Any]) -> None:
    service.begin()
    sent, dropped = (service.start("waits")["run_id"] for _ in range(2))
    page = opened(f"/#/runs/{sent}")
    page.fill(".ironflow-wait input", '{"a": 1}')
    page.click("button:has-text('Send go')")
    page.wait_for_selector("dl >> text=completed")
    assert service.run(sent)["result"] == [1, {"a": 1}, 4]
    page.goto(f"{service.client.base_url}/#/runs/{dropped}")
    page.click("[data-action=cancel]")
    page.click("[data-action=cancel]:has-text('Cancel for good?')")
    page.wait_for_selector("dl >> text=cancelled")
    page.click("button:has-text('Delete')")
    page.click("button:has-text('Delete for ever?')")
    page.wait_for_url(re.compile(r"#/runs$"))
    page.wait_for_selector(f"a:has-text('{sent}')")
    assert page.locator(f"a:has-text('{dropped}')").count() == 0
    assert page.errors == []


def test_runs_are_filtered_and_paged(service: Service, opened: Callable[[str], Any]) -> None:
    service.begin()
    for n in range(52):
        service.start("squares", input={"n": n % 3}, wait=True)
    service.start("bad", wait=True)
    page = opened("/")
    page.wait_for_selector("tbody tr >> nth=49")
    assert page.locator("tbody tr").count() == 50
    page.click("a:has-text('Older')")
    wait_for_rows(page, 3)
    page.click("a:has-text('Newest')")
    page.select_option("select >> nth=0", "failed")
    wait_for_rows(page, 1)
    assert "no such page" in page.inner_text("tbody")
    service.start("bad", wait=True)  # it comes by itself
    wait_for_rows(page, 2)
    assert page.url.endswith("status=failed")
    assert page.errors == []


def test_the_dashboard_of_the_notebook_is_a_page(service: Service, opened: Callable[[str], Any]) -> None:
    service.begin()
    failed = service.start("bad", wait=True)["run_id"]
    service.start("squares", input={"n": 2}, wait=True)
    page = opened("/#/dashboard")
    page.wait_for_selector(".ironflow-dashboard >> text=1 completed")
    page.click(".ironflow-chips button:has-text('failed')")
    page.wait_for_selector("summary:has-text('Runs (1)')")
    service.start("bad", wait=True)  # it comes by itself
    page.wait_for_selector("summary:has-text('Runs (2)')")
    page.click(f"button:has-text('{failed}')")
    page.wait_for_selector("dl >> text=no such page")
    assert page.errors == []


def test_what_is_hostile_stays_text(service: Service, opened: Callable[[str], Any]) -> None:
    (service.folder / "hostile.py").write_text(HOSTILE)
    service.begin(files=("hostile.py",))
    run_id = service.start("h " + EVIL, input={"text": EVIL})["run_id"]
    service.until_status(run_id, "waiting")
    page = opened("/")
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    cell(page, "onerror").wait_for()
    for address, place in {
        f"#/runs/{run_id}": ".ironflow-card g[data-kind]", "#/dashboard": ".ironflow-dashboard td",
        "#/inbox": ".page-question", "#/flows": ".page-flow",
        "#/schedules": "table", "#/limits": "table", "#/runs/<img src=x onerror=window.broken=1>": "[role=alert]",
    }.items():  # fmt: skip
        page.goto(f"{service.client.base_url}/{address}")
        page.wait_for_selector(place)
        for node in page.locator(".ironflow-card g[data-kind]").all():
            node.click()
        page.wait_for_timeout(300)
        assert page.evaluate("window.broken") is None
        assert page.locator("main img, main script, main b").count() == 0
    page.goto(f"{service.client.base_url}/#/inbox")
    assert EVIL in page.inner_text(".page-question strong")
    page.click("button:has-text('Answer')")
    assert service.until_status(run_id, "completed")["status"] == "completed"
    assert [text for text in refused if "404" not in text] == []
    assert page.errors == []


def test_a_page_goes_on_when_its_server_was_killed_and_begins_again(
    service: Service, opened: Callable[[str], Any]
) -> None:
    service.begin()
    port = str(service.client.base_url.port)
    run_id = service.start("waits")["run_id"]
    page = opened(f"/#/runs/{run_id}")
    page.fill(".ironflow-wait input", '"typed before"')
    service.end(signal.SIGKILL)
    page.wait_for_selector("[role=status]:has-text('No connection')")
    service.begin("--port", port)
    page.wait_for_selector("header [role=status]:empty", state="attached")
    assert page.input_value(".ironflow-wait input") == '"typed before"'
    page.click("button:has-text('Send go')")
    page.wait_for_selector("dl >> text=completed")
    assert service.run(run_id)["result"] == [1, "typed before", 4]
    assert page.errors == []


def test_many_tabs_are_told_at_once(service: Service, opened: Callable[[str], Any]) -> None:
    service.begin()
    runs = [service.start("gated", input={"n": n})["run_id"] for n in range(10)]
    pages = [opened(f"/#/runs/{run_id}") for run_id in runs]
    for page in pages:
        page.wait_for_selector("[data-action=pause]")
    service.open()
    for page in pages:
        page.wait_for_selector("dl >> text=completed")
        assert page.errors == []


def test_a_key_that_is_given_in_one_tab_is_known_in_others(service: Service, opened: Callable[[str], Any]) -> None:
    service.begin(IRONFLOW_TOKEN=TOKEN)
    page = opened("/")
    page.fill("input[type=password]", "wrong wrong wrong")
    page.click("button:has-text('Enter')")
    page.wait_for_selector("text=did not take the key")
    page.fill("input[type=password]", TOKEN)
    page.click("button:has-text('Enter')")
    page.wait_for_selector("text=No run is like that")
    other = opened("/#/flows")
    other.click("summary:has-text('squares(n: int)')")
    other.locator("details[open] textarea").fill('{"n": 2}')
    other.locator("details[open] form button").click()
    other.wait_for_selector("dl >> text=completed")
    cell(page, "completed").wait_for()
    other.click("button:has-text('Forget the key')")
    page.wait_for_selector("input[type=password]")
    assert TOKEN not in service.said()
    assert page.errors == other.errors == []


def test_the_page_is_reached_by_keys_and_has_names_for_all(service: Service, opened: Callable[[str], Any]) -> None:
    service.begin()
    run_id = service.start("waits")["run_id"]
    service.until_status(run_id, "waiting")
    page = opened("/")
    page.wait_for_selector("tbody a")
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent"))
    assert {"Inbox", "Flows", run_id} <= reached
    page.focus(f"a:has-text('{run_id}')")
    page.keyboard.press("Enter")
    page.wait_for_selector(".ironflow-wait input")
    fields = page.locator("input, select, textarea, button").all()
    names = "each => each.textContent || each.labels?.length || each.getAttribute('aria-label')"
    unnamed = [each.evaluate("each => each.outerHTML") for each in fields if not each.evaluate(names)]
    assert unnamed == []
    assert page.errors == []
