"""What a graph is granted: hosts with their ports, files with their links, modules, and what two grants share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.errors import GraphInvalid, NodeFailed, NotGranted
from ironflow_nb.graphs import grants
from ironflow_nb.graphs.grants import Grants, Need, host_of
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.graphs.nodes.files import FILE
from tests.graphs.asking import perform


def is_granted(url: str, *names: str) -> bool:
    return Grants.of({"http": list(names)}).refusal(Need("http", url)) is None


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("example.org", "http://example.org"),
        ("example.org", "https://example.org/a?b#c"),
        ("example.org", "HTTPS://EXAMPLE.org:443/"),
        ("example.org", "http://example.org:80?x"),
        ("example.org", "http://example.org./"),
        ("Example.ORG.", "http://example.org/"),
        ("example.org", "http://user:pass@example.org/"),
        ("example.org:8080", "http://example.org:8080/"),
        ("example.org:443", "https://example.org/"),
        ("example.org:80", "http://example.org/"),
        ("*.example.org", "https://a.example.org/"),
        ("*.example.org", "https://a.b.example.org/"),
        ("*.example.org:8080", "http://a.example.org:8080/"),
        ("127.0.0.1:9", "http://127.0.0.1:9/"),
        ("[::1]:8080", "http://[::1]:8080/"),
        ("[0:0::1]", "http://[::1]/"),
        ("münchen.example", "https://xn--mnchen-3ya.example/"),
        ("xn--mnchen-3ya.example", "https://MÜNCHEN.example/"),
    ],
)
def test_a_name_grants_the_host_that_it_means(name: str, url: str) -> None:
    assert is_granted(url, name)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        # another port, or the port of the other scheme
        ("example.org", "http://example.org:8080/"),
        ("example.org", "http://example.org:443/"),
        ("example.org:443", "http://example.org/"),
        ("example.org:8080", "http://example.org/"),
        ("*.example.org", "http://a.example.org:8080/"),
        # another host
        ("example.org", "http://a.example.org/"),
        ("*.example.org", "http://example.org/"),
        ("*.example.org", "http://badexample.org/"),
        ("*.example.org", "http://a.example.org.evil.test/"),
        ("example.org", "http://evil.test/?http://example.org/"),
        ("example.org", "http://evil.test/example.org"),
        ("example.org", "http://evil.test#@example.org/"),
        ("example.org", "http://evil.test?@example.org/"),
        ("*.0.0.1", "http://127.0.0.1/"),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]/"),
        ("127.0.0.1", "http://2130706433/"),
        ("127.0.0.1", "http://127.1/"),
        # userinfo
        ("example.org", "http://example.org@evil.test/"),
        ("example.org", "http://example.org:80@evil.test/"),
        ("example.org", "http://a@example.org@evil.test/"),
        ("example.org", "http://evil.test\\@example.org/"),
        ("example.org", "http://example.org\\@evil.test/"),
        ("example.org", "http://evil.test\\.example.org/"),
        # no plain URL
        ("example.org", "ftp://example.org/"),
        ("example.org", "file://example.org/etc/passwd"),
        ("example.org", "//example.org/"),
        ("example.org", "http:example.org"),
        ("example.org", "http:/example.org"),
        ("example.org", "example.org"),
        ("example.org", " http://example.org/"),
        ("example.org", "http://exa\tmple.org/"),
        ("example.org", "http://example.org\n.evil.test/"),
        ("example.org", "http://ex%61mple.org/"),
        ("example.org", "http://example.org%00.evil.test/"),
        ("example.org", "http://ｅxample.org/"),  # noqa: RUF001 -- a full-width letter
        ("example.org", "http://example.org..//"),
        ("example.org", "http://example.org:٨٠/"),
        ("example.org", "http://example.org:-1/"),
        ("example.org", "http://example.org:99999/"),
        ("example.org", "http://[::1/"),
        ("example.org", "http://[::1].example.org/"),
        ("example.org", "http:///example.org"),
        ("example.org", ""),
        # names that mean no host at all
        ("*", "http://example.org/"),
        ("*.", "http://example.org/"),
        ("http://example.org", "http://example.org/"),
        ("", "http:///"),
    ],
)
def test_a_name_grants_nothing_that_only_looks_like_its_host(name: str, url: str) -> None:
    assert not is_granted(url, name)


def test_a_host_with_ideographic_dots_is_the_host_that_is_connected_to() -> None:
    assert host_of("http://evil。example。org/") == "evil.example.org"
    assert httpx.URL("http://evil。example。org/").raw_host == b"evil.example.org"


AUTHORITIES = st.text(st.sampled_from("abé.:@1\\%/?# \t。ß-_0٣"), max_size=14)


@given(st.sampled_from(["http://", "https://", "HTTP://", "http:/", "ftp://", " http://"]), AUTHORITIES)
def test_what_is_checked_is_what_httpx_connects_to(scheme: str, rest: str) -> None:
    url = scheme + rest
    checked = host_of(url)
    if not checked:
        return
    try:
        asked = httpx.URL(url)
    except httpx.InvalidURL:
        return
    default = {"http": 80, "https": 443}[asked.scheme]
    host = asked.raw_host.decode().removesuffix(".")
    assert checked == (host if asked.port in {None, default} else f"{host}:{asked.port}")


def test_nothing_is_granted_where_allow_says_nothing_and_everything_where_there_is_no_allow() -> None:
    need = Need("http", "http://example.org/")
    assert Grants.of({}).refusal(need)
    assert Grants.of({"http": False}).refusal(need)
    assert Grants.of({"http": True}).refusal(need) is None
    assert Grants.of(None).refusal(need) is None


def test_a_refusal_says_what_would_grant_it_and_nothing_else_of_the_url() -> None:
    with pytest.raises(NotGranted) as caught:
        Grants.of({"http": ["a.test"]}).require(Need("http", "https://me:hunter2@b.test:81/p?token=s3cret"))
    assert (
        str(caught.value)
        == "http 'b.test:81' is not granted (granted are a.test); to grant it: allow: {http: [b.test:81]}"
    )
    assert caught.value.ids == {"grant": "http", "what": "b.test:81"}


def test_a_refusal_of_what_is_no_url_does_not_repeat_it() -> None:
    with pytest.raises(NotGranted, match="the URL has no valid host") as caught:
        Grants.of({"http": ["a.test"]}).require(Need("http", "http://me:hunter2@[b.test"))
    assert "hunter2" not in str(caught.value) + repr(caught.value.ids)


@pytest.mark.parametrize(
    "name", ["http://example.org", "example.org/path", "*", "a b", "me@example.org", "", "a.*.org"]
)
def test_an_allow_with_a_name_that_can_mean_no_host_is_a_mistake(name: str) -> None:
    assert not jsonschema_rs.Draft202012Validator(grants.GRANTS_SCHEMA).is_valid({"http": [name]})


@pytest.mark.parametrize("name", ["example.org", "*.example.org:8080", "[::1]:80", "127.0.0.1", "münchen.example"])
def test_an_allow_with_names_of_hosts_is_none(name: str) -> None:
    assert jsonschema_rs.Draft202012Validator(grants.GRANTS_SCHEMA).is_valid({"http": [name]})


# -- files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "database").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    (tmp_path / "secret.txt").write_text("s")
    return tmp_path


def granting(home: Path, *names: str) -> Grants:
    return Grants.of({"files": list(names)}, base=str(home))


@pytest.mark.parametrize("text", ["data", "data/a.txt", "data/deep/../a.txt", "./data//deep/new", "database/../data/x"])
def test_a_folder_grants_what_lies_in_it(home: Path, text: str) -> None:
    path = granting(home, "data").path(text)
    assert path == (home / text).resolve()
    assert path.is_relative_to(home / "data")


@pytest.mark.parametrize(
    "text",
    ["database", "data/../secret.txt", "data/../../x", "..", "/etc/passwd", "~/x", "~nobody_has_this/x", "secret.txt"],
)
def test_a_folder_grants_nothing_beside_it(home: Path, text: str) -> None:
    with pytest.raises(NotGranted, match="files"):
        granting(home, "data").path(text)
    assert granting(home, "data").refusal(Need("files", text))


def test_a_link_that_leads_out_is_not_granted(home: Path) -> None:
    (home / "data" / "out").symlink_to(home)
    with pytest.raises(NotGranted, match=r"'data/out/secret\.txt' is not granted"):
        granting(home, "data").path("data/out/secret.txt")
    (home / "data" / "dangling").symlink_to(home / "not_yet")
    with pytest.raises(NotGranted):
        granting(home, "data").path("data/dangling")


def test_a_folder_that_is_a_link_grants_what_it_leads_to(home: Path) -> None:
    (home / "link").symlink_to(home / "data")
    assert granting(home, "link").path("link/a.txt") == home / "data" / "a.txt"
    assert granting(home, "link").path("data/a.txt") == home / "data" / "a.txt"


@pytest.mark.parametrize("allow", [{"files": ["data"]}, {"files": True}])
def test_what_leads_nowhere_is_refused_in_words(home: Path, allow: dict[str, Any]) -> None:
    (home / "data" / "one").symlink_to(home / "data" / "two")
    (home / "data" / "two").symlink_to(home / "data" / "one")
    with pytest.raises(NotGranted, match="is not a valid path"):
        Grants.of(allow, base=str(home)).path("data/\0")
    if os.name == "posix" and allow["files"] is not True:
        # Where a loop can be resolved at all it stays within the folder.
        try:
            found = Grants.of(allow, base=str(home)).path("data/one")
        except NotGranted:
            return
        assert found.is_relative_to(home / "data")


def test_paths_start_from_the_folder_of_the_graph_and_not_from_the_working_directory(home: Path) -> None:
    assert granting(home, "data").path("data/a.txt").read_text() == "a"
    assert Path.cwd() != home / "data"
    assert Grants.of({"files": ["."]}, base=str(home / "data")).path("a.txt").read_text() == "a"


def test_one_file_is_granted_alone(home: Path) -> None:
    assert granting(home, "secret.txt").path("secret.txt") == home / "secret.txt"
    with pytest.raises(NotGranted):
        granting(home, "secret.txt").path("secret.txt.bak")


# -- the others --------------------------------------------------------------------------------------------------


def test_a_module_grants_its_functions_and_those_of_modules_in_it_but_no_other_that_begins_alike() -> None:
    granted = Grants.of({"python": ["tools"]})
    assert granted.refusal(Need("python", "tools.mail")) is None
    assert granted.refusal(Need("python", "tools.more.mail")) is None
    refusal = granted.refusal(Need("python", "toolshed.mail"))
    assert refusal is not None
    assert refusal.endswith("allow: {python: [toolshed]}")


@pytest.mark.parametrize("kind", ["env", "shell", "lambda"])
def test_other_names_are_granted_as_they_are_written(kind: Any) -> None:
    granted = Grants.of({kind: ["NAME"]})
    assert granted.refusal(Need(kind, "NAME")) is None
    assert granted.refusal(Need(kind, "name"))
    assert granted.refusal(Need(kind, "NAME2"))


# -- what two share ----------------------------------------------------------------------------------------------


def test_what_two_grant_is_what_each_of_them_grants() -> None:
    outer = Grants.of({"http": ["*.example.org", "a.test", "b.test:81"], "env": ["A", "B"], "python": ["tools"]})
    inner = Grants.of(
        {"http": ["x.example.org", "*.y.example.org", "b.test"], "env": ["B", "C"], "python": ["tools.a"]}
    )
    for shared in (outer.within(inner), inner.within(outer)):
        assert set(shared.allowed["http"]) == {"x.example.org", "*.y.example.org"}  # type: ignore[arg-type]
        assert shared.allowed["env"] == ("B",)
        assert shared.allowed["python"] == ("tools.a",)


def test_everything_and_something_is_something_and_nothing_stays_nothing() -> None:
    some = Grants.of({"http": ["a.test"], "env": True})
    assert Grants.of(None).within(some).allowed == {"http": ("a.test",), "env": True}
    assert some.within(Grants.of({"http": False})).allowed == {"http": False}
    assert some.within(Grants.of({})).allowed == {}


def test_the_same_path_in_two_folders_is_not_the_same_grant(home: Path) -> None:
    (home / "other" / "data").mkdir(parents=True)
    child = Grants.of({"files": ["data"]}, base=str(home / "other"))
    shared = child.within(granting(home, "data"))
    with pytest.raises(NotGranted):
        shared.path("data/x")


def test_a_file_within_a_granted_folder_is_shared_from_whichever_side_it_is_named(home: Path) -> None:
    everything = Grants.of(None, base=str(home / "database"))
    for shared in (
        granting(home, "data").within(granting(home, "data/deep")),
        everything.within(granting(home, "data/deep")),
    ):
        assert shared.path(str(home / "data" / "deep" / "x"))
        with pytest.raises(NotGranted):
            shared.path(str(home / "data" / "a.txt"))


HOSTS = st.sampled_from(["a.test", "x.a.test", "y.x.a.test", "b.test", "a.test:81", "x.a.test:81"])
NAMES = st.lists(st.one_of(HOSTS, HOSTS.map(lambda host: f"*.{host}")), max_size=4)


@given(NAMES, NAMES, HOSTS)
def test_what_both_grant_never_grants_what_one_of_them_does_not(ones: list[str], others: list[str], host: str) -> None:
    one, other = Grants.of({"http": ones}), Grants.of({"http": others})
    need = Need("http", f"http://{host}/")
    by_both = one.refusal(need) is None and other.refusal(need) is None
    assert (one.within(other).refusal(need) is None) == by_both


# -- programs and keyrings ---------------------------------------------------------------------------------------

CHANGES = [
    {"write": "safe.sh", "content": "x"},
    {"append": "safe.sh", "content": "x"},
    {"copy": "other", "to": "safe.sh"},
    {"move": "other", "to": "safe.sh"},
    {"move": "safe.sh", "to": "other"},
    {"delete": "safe.sh"},
    {"write": "in/../safe.sh", "content": "x"},
    {"write": "link", "content": "x"},
    {"write": "bin/tool", "content": "x"},
    {"move": "bin", "to": "elsewhere"},
    {"delete": "bin", "recursive": True},
]


@pytest.mark.parametrize("options", CHANGES, ids=str)
def test_a_file_node_changes_no_program_that_is_granted_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    for name in ("safe.sh", "other", "bin/x", "in/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("first")
    (tmp_path / "link").symlink_to("safe.sh")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NodeFailed, match="a program is there that this graph may run"):
        perform(FILE, options, allow={"files": ["."], "shell": ["./safe.sh", "tool"]})
    assert (tmp_path / "safe.sh").read_text() == "first"
    perform(FILE, {"write": "new", "content": "x"}, allow={"files": ["."], "shell": ["./safe.sh", "tool"]})
    perform(FILE, options, allow={"files": ["."], "shell": True})


def test_an_entry_of_the_keyring_is_granted_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    module: Any = ModuleType("keyring")
    module.get_password = lambda *what: asked.append(what) or "a-password"
    monkeypatch.setitem(sys.modules, "keyring", module)
    secrets = {"mine": {"keyring": "mail/me"}}
    data = {"graph": "g", "secrets": secrets, "nodes": [{"id": "a", "hash": "{{ secrets.mine }}"}]}
    for allow in ({}, {"keyring": ["mail/you"]}, {"env": True}):
        with pytest.raises(GraphInvalid, match="keyring 'mail/me' is not granted"):
            Graph.from_dict(data | {"allow": allow}).validate()
    with pytest.raises(GraphInvalid, match="keyring 'mail/me' is not granted"):
        Graph.from_dict(data | {"allow": True}, allow={"http": True}).validate()
    assert asked == []
    granted = Graph.from_dict(data | {"allow": {"keyring": ["mail/me"]}})
    granted._prepare()
    assert asked == [("mail", "me")]
