"""What a handler of a flow finds in a failure: the same the first time and after a restart."""

from __future__ import annotations

import json
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.values.failures import recorded_error, store_failure
from ironflow_nb.values.signed_pickles import Signer
from tests.cells import World, run_cell
from tests.conftest import Lab


class Refused(Exception):
    """Made with arguments that its text does not have, as many libraries do."""

    def __init__(self, code: int, *, url: str, given: Any = None) -> None:
        super().__init__(f"HTTP {code}")
        self.code, self.url, self.given = code, url, given


class Slotted(ValueError):
    """With a place of its own."""

    __slots__ = ("detail",)


@dataclass(frozen=True)
class Frozen(Exception):
    """Refuses every attribute that is set, also what Python sets on exceptions."""

    code: int


class Basket:
    """A value that only a pickle keeps."""

    def __init__(self, *items: int) -> None:
        self.items = items


def refused(*, given: Any = None) -> None:
    raise Refused(404, url="u", given=given)


def slotted() -> None:
    error = Slotted("s")
    error.detail = [1, {"a": (2, 3)}]
    raise error


def frozen() -> None:
    error = Frozen(7)
    error.__dict__["__notes__"] = ["look here"]
    raise error


def circular() -> None:
    outer, inner = Refused(1, url="o"), Refused(2, url="i")
    outer.given, inner.given = inner, outer
    inner.__cause__ = outer
    raise outer


def wrapped() -> None:
    try:
        refused(given={1})
    except Refused as error:
        raise OSError(error) from error


def noted() -> None:
    error = ValueError("outer")
    error.add_note("look here")
    raise error


def caused() -> None:
    try:
        refused()
    except Refused as error:
        error.add_note("inner")
        raise ValueError("outer") from error


def in_context(*, is_hidden: bool = False) -> None:
    try:
        refused()
    except Refused:
        if is_hidden:
            raise ValueError("outer") from None
        raise ValueError("outer")  # noqa: B904 -- that is what is tried


def grouped() -> None:
    inner = ExceptionGroup("inner", [Refused(3, url="v", given={1, 2})])
    raise ExceptionGroup("outer", [KeyError("k"), inner])


class Handler(BaseHTTPRequestHandler):
    """Answers everything with 418."""

    def do_GET(self) -> None:
        content = b'{"why": "teapot"}'
        self.send_response(418)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Id", "7")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/pot"
        server.shutdown()


def by_httpx(url: str) -> None:
    httpx.get(url, trust_env=False).raise_for_status()


def by_requests(url: str) -> None:
    requests = pytest.importorskip("requests")
    session = requests.Session()
    session.trust_env = False
    session.get(url).raise_for_status()


def by_urllib(url: str) -> None:
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url)


Look = Callable[[Any], Any]
RAISERS: list[tuple[Callable[..., None], Look]] = [
    (refused, lambda error: (error.code, error.url, str(error), error.args)),
    (lambda: refused(given=Path("p")), lambda error: error.given),
    (lambda: refused(given=Basket(1, 2)), lambda error: error.given.items),
    (lambda: refused(given=Refused(5, url="w")), lambda error: (error.given.code, error.given.url)),
    (wrapped, lambda error: (str(error), error.args[0].given, error.args[0] is error.__cause__)),
    (circular, lambda error: (error.url, error.given.url, error.given.__cause__ is error)),
    (slotted, lambda error: error.detail),
    (frozen, lambda error: (error.code, error.args)),
    (lambda: (5).nothing, lambda error: error.name),  # type: ignore[attr-defined]
    (noted, lambda error: error.__notes__[:1]),
    (caused, lambda error: (error.__cause__.code, error.__cause__.__notes__, error.__suppress_context__)),
    (in_context, lambda error: (error.__context__.url, error.__suppress_context__)),
    (lambda: in_context(is_hidden=True), lambda error: (error.__context__.url, error.__suppress_context__)),
    (grouped, lambda error: [str(error), error.exceptions[0].args, error.exceptions[1].exceptions[0].given]),
    (lambda: json.loads("{bad"), lambda error: (error.pos, error.doc, error.lineno, str(error))),
    (lambda: b"\xff".decode(), lambda error: (error.object, error.start, error.reason)),  # type: ignore[arg-type, return-value]
    (lambda: {}["k"], lambda error: (error.args, str(error))),
    (lambda: Path("/no/such").read_text(), lambda error: (error.errno, error.filename, error.strerror)),  # type: ignore[arg-type, return-value]
    (lambda: undefined, lambda error: error.name),  # type: ignore[name-defined] # noqa: F821
    (lambda: __import__("no_such_module"), lambda error: (error.name, error.msg)),  # type: ignore[arg-type, return-value]
]


def handled(lab: Lab, world: World, raising: Callable[[], None], look: Look, kind: str) -> list[Any]:
    """Return what a flow finds that handles the failure: the first time, and when it is replayed."""

    @step
    def work(_n: int) -> None:
        world.did("worked")
        raising()

    @step
    def goes_on() -> None:
        """Prove that the flow lived with it."""

    ways: dict[str, Callable[[], Any]] = {
        "called": lambda: work(1),
        "submitted": lambda: work.submit(1).result(),
        "mapped": lambda: list(work.map([1])),
        "collected": lambda: work.map([1], on_error="collect")[0],
    }

    @flow
    def main() -> None:
        try:
            error = ways[kind]()
        except Exception as caught:
            error = caught
        world.plan.append((type(error).__name__, str(error), look(error), getattr(error, "__notes__", [])))
        goes_on()
        if world.is_broken:
            world.die()

    for function in (work, main):  # what is raised is no data of theirs
        function.spec.parameters._free_names = ()
    with pytest.raises(SystemExit):
        main()
    world.is_broken = False
    main()
    assert world.log == ["worked"]
    return world.plan


KINDS = ["called", "submitted", "mapped", "collected"]
# Each error in two of the four ways, which are the same for what an error is made of.
WAYS = [(*each, KINDS[(number + turn) % 4]) for number, each in enumerate(RAISERS) for turn in (0, 2)]


@pytest.mark.parametrize(("raising", "look", "kind"), WAYS)
def test_a_handler_finds_the_same_after_a_restart(
    lab: Lab, world: World, raising: Callable[[], None], look: Look, kind: str
) -> None:
    first, again = handled(lab, world, raising, look, kind)
    assert first == again
    with pytest.raises(Exception) as raised:  # noqa: PT011 -- which one is looked at
        raising()
    assert (type(raised.value).__name__, look(raised.value)) == (first[0], first[2])


@pytest.mark.parametrize(
    ("ask", "look"),
    [
        (by_httpx, lambda error: (error.response.status_code, error.response.json(), str(error.request.url))),
        (
            by_requests,
            lambda error: (error.response.status_code, error.response.json(), error.response.headers["X-Id"]),
        ),
        (by_urllib, lambda error: (error.code, error.reason, error.headers["X-Id"], error.read())),
    ],
)
def test_the_answer_of_a_server_is_there_after_a_restart(
    lab: Lab, world: World, url: str, ask: Callable[[str], None], look: Look
) -> None:
    first, again = handled(lab, world, lambda: ask(url), look, "called")
    assert first == again
    assert first[2][0] == 418
    assert ask is by_urllib or not first[3]


def test_what_nothing_keeps_is_gone_the_first_time_too_and_a_note_says_so(lab: Lab, world: World) -> None:
    given = threading.Lock()
    first, again = handled(
        lab, world, lambda: refused(given=given), lambda error: (error.url, hasattr(error, "given")), "called"
    )
    assert first == again
    assert first[2] == ("u", False)
    assert "(the journal could not store these parts of it: given)" in first[3]


def test_an_error_of_a_class_inside_of_a_function_is_its_nearest_base_at_once(lab: Lab, world: World) -> None:
    def raising() -> None:
        class Inner(Refused):
            pass

        raise Inner(9, url="z")

    first, again = handled(lab, world, raising, lambda error: (error.code, error.url), "called")
    assert first == again
    assert first[0] == "Refused"
    assert "be found by that name after a restart" in str(first[3])


@pytest.mark.parametrize("kind", ["called", "submitted"])
def test_an_error_of_a_class_inside_of_a_function_without_such_a_base_is_a_failed_step(
    lab: Lab, world: World, kind: str
) -> None:
    def raising() -> None:
        class Alone(Exception):
            pass

        raise Alone("hm")

    first, again = handled(lab, world, raising, lambda error: (error.kind, error.text), kind)
    assert first == again
    assert (first[0], first[2][1]) == ("StepFailed", "hm")


def test_an_error_that_can_not_be_taken_apart_is_kept_whole(lab: Lab, world: World) -> None:
    etree = pytest.importorskip("pydantic_core")

    def raising() -> None:
        etree.SchemaValidator({"type": "int"}).validate_python("x")

    first, again = handled(lab, world, raising, lambda error: error.errors(), "called")
    assert first == again


def test_the_traceback_of_the_first_run_shows_the_users_own_frames(lab: Lab) -> None:
    @step
    def work() -> None:
        caused()

    @flow
    def main() -> None:
        work()

    with pytest.raises(ValueError, match="outer") as raised:
        main()
    names = [entry.name for entry in raised.traceback]
    assert names[-2:] == ["work", "caused"]
    assert raised.value.__cause__ is not None
    inner = raised.value.__cause__.__traceback__
    assert inner is not None
    assert inner.tb_next is not None
    assert inner.tb_next.tb_frame.f_code.co_name == "refused"


def test_a_class_that_a_cell_defines_again_is_the_one_that_is_caught(lab: Lab, world: World) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "step": step, "flow": flow, "world": world}
    definition = "class Boom(Exception):\n    def __init__(self, code, *, url): self.code, self.url = code, url\n"
    program = """
@step
def work():
    raise Boom(1, url=2)

@step
def goes_on():
    return 1

@flow
def main():
    try:
        work()
    except Boom as error:
        world.plan.append((type(error) is Boom, error.code, error.url))
    goes_on()
    if world.is_broken:
        world.die()
"""
    for is_broken in (True, False):
        world.is_broken = is_broken
        run_cell(definition, namespace)
        run_cell(program, namespace)
        sys.modules["__main__"].Boom = namespace["Boom"]  # type: ignore[attr-defined]
        try:
            namespace["main"]()
        except SystemExit:
            assert is_broken
    del sys.modules["__main__"].Boom  # type: ignore[attr-defined]
    assert world.plan == [(True, 1, 2), (True, 1, 2)]


def test_pickled_parts_of_somebody_else_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused) as raised:
        refused(given=Basket(1, 2))
    stored = store_failure(raised.value, Signer(lambda n: b"x" * n))
    mine: Any = recorded_error(stored, Signer(lambda n: b"x" * n), where="here")
    assert mine.given.items == (1, 2)
    monkeypatch.setenv("IRONFLOW_KEY", "of somebody else")
    theirs: Any = recorded_error(stored, Signer(lambda n: b"x" * n), where="here")
    assert (theirs.code, theirs.url, hasattr(theirs, "given")) == (404, "u", False)
    assert "(the journal could not store these parts of it: given)" in theirs.__notes__


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_an_error_of_a_library_that_only_the_body_has_imported_is_of_its_class_after_a_restart(
    lab: Lab, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_async: bool
) -> None:
    (tmp_path / "a_late_library.py").write_text(
        "class Refused(OSError):\n    def __init__(self, code, *, url):\n        super().__init__(code, url)\n"
        "        self.code, self.url = code, url\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    @step
    def work() -> None:
        world.did("worked")
        import a_late_library  # type: ignore[import-not-found]

        raise a_late_library.Refused(404, url="u")

    @step
    def goes_on() -> None:
        """Prove that the flow lived with it."""

    def handle() -> None:
        try:
            work()
        except OSError as error:
            import a_late_library

            found: Any = error
            world.plan.append((type(found) is a_late_library.Refused, found.code, found.url))
        goes_on()
        if world.is_broken:
            raise RuntimeError("on the way")

    @flow
    def main() -> None:
        handle()

    @flow
    async def main_async() -> None:
        handle()

    for world.is_broken in (True, False):
        ran = (main_async if is_async else main).start()
        assert (ran.wait().status == "failed") is world.is_broken
        sys.modules.pop("a_late_library")
        lab.cell()
    assert world.log == ["worked"]
    assert world.plan == [(True, 404, "u")] * 2


def test_what_is_too_large_or_endless_is_left_out() -> None:
    error = Refused(1, url="u", given=bytearray(3_000_000))
    error.__cause__ = link = ValueError(0)
    for n in range(1, 200):
        link.__cause__ = link = ValueError(n)
    link.__cause__ = error
    signer = Signer(lambda n: b"x" * n)
    stored = store_failure(error, signer)
    assert stored.size < 100_000
    again: Any = recorded_error(stored, signer, where="here")
    assert not hasattr(again, "given")
    assert again.__cause__.args == (0,)


def test_trust_covers_the_pickled_parts_of_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @step
    def work() -> None:
        refused(given=Basket(1, 2))

    @flow(name="trusted")
    def main() -> None:
        work()

    with iron.open(tmp_path / "journal.db"):
        with pytest.raises(Refused):
            main()
        run_id = iron.runs()["run_id"][0]
    monkeypatch.setenv("IRONFLOW_KEY", "another one")
    with iron.open(tmp_path / "journal.db"):
        assert not hasattr(iron.get_run(run_id).error, "given")
    assert iron.trust(tmp_path / "journal.db") >= 1
    with iron.open(tmp_path / "journal.db"):
        error: Any = iron.get_run(run_id).error
        assert error.given.items == (1, 2)
