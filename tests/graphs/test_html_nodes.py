"""The kinds html and markdown: what a reader sees, and what could harm one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ironflow_nb.errors import NodeFailed
from ironflow_nb.graphs.nodes import html_texts
from ironflow_nb.graphs.nodes.html_texts import HTML, MARKDOWN
from tests.graphs.asking import perform

PAGE = """
<!doctype html><html lang="de"><head><title> Tea &amp; cups </title><meta name="author" content="Ada">
<meta property="og:type" content="shop"><style>p {color: red}</style></head>
<body><h1>Tea</h1><p>Two <b>kinds</b>,
   fresh.</p><ul><li>green<li>black</ul><script>alert(1)</script><!-- hidden -->
<table><tr><th>name</th><th>price</th></tr><tr><td>green</td><td>2.50</td></tr></table>
a<br>b <a href="/cart" class="go">Buy</a><a href="https://a.test/">More</a></body></html>
"""


def html(text: str, **options: Any) -> Any:
    return perform(HTML, {"text": text, **options}, allow={})


def test_the_text_is_what_a_reader_sees_line_by_line() -> None:
    lines = html(PAGE).split("\n")
    assert lines[:4] == ["Tea", "Two kinds, fresh.", "green", "black"]
    assert [line.split() for line in lines[4:6]] == [["name", "price"], ["green", "2.50"]]
    assert lines[6:] == ["a", "b BuyMore"]


def test_the_markdown_keeps_structure_and_links() -> None:
    made = html(PAGE, to="markdown")
    for part in ("# Tea", "**kinds**", "- green\n- black", "| green | 2.50 |", "[Buy](/cart)"):
        assert part in made
    assert "alert" not in made
    assert "color" not in made


def test_the_metadata_of_a_page() -> None:
    assert html(PAGE, to="metadata") == {
        "title": "Tea & cups",
        "language": "de",
        "meta": {"author": "Ada", "og:type": "shop"},
        "links": ["/cart", "https://a.test/"],
    }
    assert html("<p>x", to="metadata") == {"title": None, "language": None, "meta": {}, "links": []}


def test_a_selector_gives_a_list() -> None:
    assert html(PAGE, select="li") == ["green", "black"]
    assert html(PAGE, select="a.go", attribute="href") == ["/cart"]
    assert html(PAGE, attribute="href") == ["/cart", "https://a.test/"]
    assert html(PAGE, select="h2") == []
    assert html(PAGE, select="p", to="markdown") == ["Two **kinds**,\nfresh."]


@pytest.mark.parametrize("selector", ["a[", "::", "li:nope"])
def test_a_selector_that_is_none_is_an_error_of_the_node(selector: str) -> None:
    with pytest.raises(NodeFailed, match="select") as caught:
        html(PAGE, select=selector)
    assert caught.value.is_retryable is False


HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<a href='javascript:alert(1)'>x</a>",
    "<svg><script>alert(1)</script></svg>", "<iframe src='https://a.test'></iframe>", "<style>*{}</style>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>", "<p style='x:expression(1)'>x</p>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>", "<object data='a'></object>", "<base href='//evil'>",
    "<form action='//evil'><input></form>", "<meta http-equiv=refresh content='0;url=//evil'>",
]  # fmt: skip
HARMFUL = re.compile(r"<(?!/?(?:a|p|img|b)\b)|\bon\w+=|javascript:|data:|style=", re.IGNORECASE)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_could_harm_is_not_in_safe_html_nor_in_the_html_of_markdown(text: str) -> None:
    assert not HARMFUL.search(html(text, to="safe"))
    made = perform(MARKDOWN, {"text": f"hello **you**\n\n{text}\n"}, allow={})
    assert not HARMFUL.search(made.replace("<strong>", "").replace("</strong>", ""))
    assert "<strong>you</strong>" in made


def test_safe_html_keeps_formatting_and_chosen_elements() -> None:
    assert html("<b>a</b><i>b</i><h1>c</h1>", to="safe") == "<b>a</b><i>b</i><h1>c</h1>"
    assert html("<b>a</b><i>b</i>", to="safe", tags=["b"]) == "<b>a</b>b"
    assert html("a<!-- b -->", to="safe") == "a"
    assert html("a<!-- b -->", to="safe", comments=True) == "a<!-- b -->"
    assert 'rel="noopener noreferrer"' in html("<a href='https://a.test'>a</a>", to="safe")
    assert "rel=" not in html("<a href='https://a.test'>a</a>", to="safe", rel="")


@pytest.mark.parametrize("tag", ["script", "style"])
def test_an_element_that_runs_code_can_not_be_kept(tag: str) -> None:
    with pytest.raises(NodeFailed, match=f"tags has {tag}"):
        html("a", to="safe", tags=["b", tag])


def test_options_that_do_not_go_together_are_told() -> None:
    with pytest.raises(NodeFailed, match="select and attribute are for reading"):
        html("a", to="safe", select="a")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "markdown", "metadata", "safe"])
def test_a_page_of_a_hundred_thousand_nested_elements_is_refused(form: str) -> None:
    with pytest.raises(NodeFailed, match="nested"):
        html("<div>" * 100_000, to=form)
    assert html("<br>" * 20_000 + "<p>a" * 20_000, to=form)


def test_a_page_may_not_be_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_texts, "MOST_CHARACTERS", 100)
    for kind in (HTML, MARKDOWN):
        with pytest.raises(NodeFailed, match="the text has 101 characters; at most 100 are taken"):
            perform(kind, {"text": "x" * 101})


def test_markdown_has_tables_listings_and_quotes() -> None:
    made = perform(MARKDOWN, {"text": "| a | b |\n|---|---|\n| 1 | 2 |\n\n> q\n\n```python\nx < 1\n```\n\n~~no~~"})
    assert "<td>1</td>" in made
    assert "<blockquote>" in made
    assert re.search(r'<code class="language-python">x &lt; 1\s*</code>', made)
    assert MARKDOWN.options_of("# x") == {"text": "# x"}


def test_html_in_a_trusted_markdown_stays() -> None:
    text = "a <video src='x'></video>"
    assert "<video" in perform(MARKDOWN, {"text": text, "sanitize": False})
    assert "<video" not in perform(MARKDOWN, {"text": text})


def test_a_page_becomes_a_text_in_a_graph_without_a_grant() -> None:
    from tests.graphs.playing import graph_of

    node = {"id": "text", "html": "{{ input.page }}"}
    assert graph_of(node, allow={}).test(page="<p>a <b>b</b></p>").output == "a b"
