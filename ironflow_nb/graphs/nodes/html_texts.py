"""The kinds ``html`` and ``markdown``: pages made harmless, or read as text and Markdown; and Markdown as HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, missing_extra, options_schema

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

MOST_CHARACTERS: Final = 10_000_000
EXTRA: Final = "html"

_UNSEEN: Final = ("script", "style", "template", "noscript", "head", "title")
"""Elements whose text no reader sees."""

_BLOCKS: Final = frozenset({
    "address", "article", "aside", "blockquote", "dd", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer",
    "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section",
    "table", "tr", "ul",
})  # fmt: skip
"""Elements that begin and end a line."""

_MOST_NESTED: Final = 5_000
"""The libraries need time that is quadratic in the depth."""

_TAG: Final = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
_UNCOUNTED: Final = frozenset({
    "area", "base", "br", "col", "dd", "dt", "embed", "hr", "img", "input", "li", "link", "meta", "option", "p",
    "source", "td", "th", "tr", "track", "wbr",
})  # fmt: skip
"""Elements that have no end, or whose end may be left out."""

_CODE: Final = frozenset({"script", "style"})
"""Elements that can't be kept: the library takes their content out."""


def _perform(options: Options, context: NodeContext) -> Any:
    text, form = options["text"], options.get("to", "text")
    _require_bounded(text, context)
    try:
        if form == "safe":
            return _sanitized(text, options, context)
        return _read(text, options, form)
    except ImportError:
        raise missing_extra(context, "html", EXTRA) from None
    except ValueError as error:
        raise failure(context, f"select is no selector of CSS: {error}") from None
    except RecursionError:
        raise failure(context, "the elements of the page are nested too deep") from None


def _require_bounded(text: str, context: NodeContext) -> None:
    if len(text) > MOST_CHARACTERS:
        message = f"the text has {len(text):,} characters; at most {MOST_CHARACTERS:,} are taken"
        raise failure(context, message)
    depth = 0
    for closing, name in _TAG.findall(text):
        if name.lower() not in _UNCOUNTED:
            depth = max(0, depth - 1) if closing else depth + 1
        if depth > _MOST_NESTED:
            raise failure(context, f"more than {_MOST_NESTED:,} elements are nested, or left open")


# -- sanitising --------------------------------------------------------------------------------------------------


def _sanitized(text: str, options: Options, context: NodeContext) -> str:
    if "select" in options or "attribute" in options:
        raise failure(context, "select and attribute are for reading; sanitise a whole text")
    refused = sorted(_CODE.intersection(options.get("tags", ())))
    if refused:
        raise failure(context, f"tags has {refused[0]}, which runs code or loads it; no sanitised text has that")
    tags = set(options["tags"]) if "tags" in options else None
    return sanitized(text, tags, is_commented=options.get("comments", False), rel=options.get("rel", LINK_REL))


LINK_REL: Final = "noopener noreferrer"


def sanitized(text: str, tags: set[str] | None = None, *, is_commented: bool = False, rel: str = LINK_REL) -> str:
    """Return HTML without scripts, handlers of events and all else that is not among the harmless or given tags."""
    import nh3

    # A class names the language of a listing.
    attributes = {**nh3.ALLOWED_ATTRIBUTES, "code": {"class"}}
    cleaned: str = nh3.clean(
        text, attributes=attributes, strip_comments=not is_commented, link_rel=rel or None, tags=tags
    )
    return cleaned


# -- reading -----------------------------------------------------------------------------------------------------


def _read(text: str, options: Options, form: str) -> Any:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(text, "lxml")  # that of Python itself puts an element in one that was left open
    convert: Callable[[Tag], Any] = _FORMS[form]
    if "attribute" in options:
        name = options["attribute"]
        found = _selected(soup, options.get("select", f"[{name}]"))
        return [each.get(name) for each in found if each.get(name) is not None]
    if "select" in options:
        return [convert(each) for each in _selected(soup, options["select"])]
    return convert(soup)


def _selected(soup: BeautifulSoup, selector: str) -> list[Tag]:
    from soupsieve import SelectorSyntaxError

    try:
        return list(soup.select(selector))
    except SelectorSyntaxError as error:
        raise ValueError(str(error).partition("\n")[0]) from None


def _as_text(element: Tag) -> str:
    """Return the text as a reader sees it: a line for each block, and blanks as one."""
    return "\n".join(line for part in "".join(_pieces(element)).split("\n") if (line := part.strip()))


def _pieces(element: Tag) -> Iterator[str]:
    from bs4.element import NavigableString, PageElement, PreformattedString, Tag

    pending: list[PageElement | str] = [element]
    while pending:
        each = pending.pop()
        if isinstance(each, Tag):
            if each.name in _UNSEEN and each is not element:
                continue
            around = "\n" if each.name in _BLOCKS else "\t" if each.name in {"td", "th"} else ""
            if each.name == "br":
                yield "\n"
            pending += [_Spacing(around), *reversed(list(each.children)), _Spacing(around)]
        elif isinstance(each, _Spacing):
            yield each
        elif isinstance(each, NavigableString) and not isinstance(each, PreformattedString):
            yield re.sub(r"[ \t\r\n\f]+", " ", each)


class _Spacing(str):
    """A text that is written as it is."""

    __slots__ = ()


def _as_markdown(element: Tag) -> str:
    from markdownify import MarkdownConverter

    for unseen in element.find_all(_UNSEEN):
        unseen.decompose()
    made: str = MarkdownConverter(heading_style="ATX", bullets="-").convert_soup(element)
    return re.sub(r"\n{3,}", "\n\n", made).strip()


def _as_metadata(soup: BeautifulSoup | Tag) -> dict[str, Any]:
    root = soup.find("html")
    language = None if root is None else root.get("lang")
    named = {
        str(name): str(each["content"])
        for each in soup.find_all("meta", content=True)
        if (name := each.get("name") or each.get("property"))
    }
    links = [str(each["href"]) for each in soup.find_all("a", href=True)]
    title = soup.find("title")
    return {
        "title": None if title is None else title.get_text(strip=True), "language": language, "meta": named,
        "links": links,
    }  # fmt: skip


_FORMS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "text": _as_text,
    "markdown": _as_markdown,
    "metadata": _as_metadata,
}

HTML: Final = Kind(
    name="html",
    description="Gives the text, the Markdown or the metadata of a page of HTML, or the page without what could harm.",
    schema=options_schema(
        {
            "text": {"type": "string", "description": "The HTML."},
            "to": {
                "enum": ["text", "markdown", "metadata", "safe"],
                "default": "text",
                "description": "What it becomes: its text, its Markdown, its title, language, meta and links, or HTML "
                "that can be shown.",
            },
            "select": {
                "type": "string",
                "minLength": 1,
                "description": "A CSS selector: a list with an item for each element that it finds.",
            },
            "attribute": {
                "type": "string",
                "minLength": 1,
                "pattern": "^[A-Za-z][A-Za-z0-9_:-]*$",
                "description": "The list has the values of this attribute.",
            },
            "tags": {
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "description": "Of safe: the elements that are kept; by default those of formatted text.",
            },
            "comments": {"type": "boolean", "default": False, "description": "Of safe: whether comments are kept."},
            "rel": {"type": "string", "default": LINK_REL, "description": "Of safe: the rel of each link."},
        },
        required=["text"],
    ),
    perform=_perform,
    shorthand="text",
)


# -- markdown ----------------------------------------------------------------------------------------------------


def _render(options: Options, context: NodeContext) -> str:
    text = options["text"]
    _require_bounded(text, context)
    try:
        from markdown_it import MarkdownIt

        made = str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))
        return sanitized(made) if options.get("sanitize", True) else made
    except ImportError:
        raise missing_extra(context, "markdown", EXTRA) from None


MARKDOWN: Final = Kind(
    name="markdown",
    description="Gives the HTML of a text of Markdown (CommonMark with tables).",
    schema=options_schema(
        {
            "text": {"type": "string", "description": "The Markdown."},
            "sanitize": {
                "type": "boolean",
                "default": True,
                "description": "Whether HTML in it that could harm is left out; false is for a text that you trust.",
            },
        },
        required=["text"],
    ),
    perform=_render,
    shorthand="text",
)
