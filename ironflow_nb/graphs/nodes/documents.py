"""The kind ``document``: the text of a PDF, of a document of Word, or of subtitles."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from zipfile import BadZipFile

from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, missing_extra, options_schema
from ironflow_nb.graphs.language.data import coerce_deep, describe
from ironflow_nb.graphs.language.templates import OPENING
from ironflow_nb.graphs.nodes.archives import require_bounded_package
from ironflow_nb.graphs.nodes.files import NodeFiles

if TYPE_CHECKING:
    from pypdf import PdfReader

MAX_BYTES: Final = 50_000_000
_MOST_CHARACTERS: Final = 50_000_000
_MOST_PAGES: Final = 10_000

_ENDINGS: Final = {"pdf": "pdf", "docx": "docx", "srt": "srt", "vtt": "vtt", "ass": "ass", "ssa": "ssa"}


def _perform(options: Options, context: NodeContext) -> dict[str, Any]:
    __tracebackhide__ = True
    files, written = NodeFiles(context), options.get("read", "content")
    form = options.get("format") or _ENDINGS.get(written.rpartition(".")[2].lower())
    if form is None:
        raise failure(context, f"{written!r} does not say by its ending what it is; give format: pdf, docx, srt or vtt")
    with files.translated_errors("read", written):
        content = _content(options, files)
        try:
            made = _READERS[form](content, form)
        except ImportError:
            raise missing_extra(context, form, "documents") from None
        except RecursionError:
            raise ValueError("it is nested too deep") from None
    return {"format": form, **made}


def _content(options: Options, files: NodeFiles) -> bytes:
    most = options.get("max_bytes", MAX_BYTES)
    if "content" in options:
        given = options["content"]
        if not isinstance(given, str | bytes):
            raise TypeError(f"content is {describe(given)}, and not bytes or a text")
        content = given.encode() if isinstance(given, str) else given
    else:
        with files.opened(options["read"]) as file:
            content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes; raise max_bytes to read it")
    return content


class _Bounded:
    """Collects texts up to a bound."""

    def __init__(self) -> None:
        self._left = _MOST_CHARACTERS

    def take(self, text: str) -> str:
        self._left -= len(text)
        if self._left < 0:
            raise ValueError(f"it has more than {_MOST_CHARACTERS:,} characters")
        return text


def _read_pdf(content: bytes, _form: str) -> dict[str, Any]:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    bounded = _Bounded()
    try:
        reader = PdfReader(io.BytesIO(content))
        _require_readable(reader)
        pages = [bounded.take(page.extract_text()) for page in reader.pages]
        metadata = {str(name).lstrip("/").lower(): str(each) for name, each in (reader.metadata or {}).items()}
    except (ValueError, ImportError):
        raise
    except (PyPdfError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        raise ValueError(f"it is no PDF that can be read: {error}") from None
    return {"text": "\n\n".join(pages), "pages": pages, "n_pages": len(pages), "metadata": metadata}


def _require_readable(reader: PdfReader) -> None:
    if reader.is_encrypted and not reader.decrypt(""):
        raise ValueError("it has a password")
    if len(reader.pages) > _MOST_PAGES:
        raise ValueError(f"it has more than {_MOST_PAGES:,} pages")


def _read_word(content: bytes, _form: str) -> dict[str, Any]:
    from docx import Document
    from docx.opc.exceptions import OpcError
    from docx.table import Table

    file, bounded = io.BytesIO(content), _Bounded()
    require_bounded_package(file, "document of Word (docx)")
    try:
        document = Document(file)
        blocks: list[dict[str, Any]] = []
        for each in document.iter_inner_content():
            if isinstance(each, Table):
                rows = [[bounded.take(cell.text) for cell in row.cells] for row in each.rows]
                blocks.append({"table": rows})
            elif each.text.strip():
                style = each.style.name if each.style is not None else None
                blocks.append({"text": bounded.take(each.text), "style": style})
        found = document.core_properties
        metadata = coerce_deep({
            "title": found.title, "author": found.author, "subject": found.subject, "created": found.created,
            "modified": found.modified,
        })  # fmt: skip
    except (OpcError, LookupError, TypeError, AttributeError, SyntaxError, BadZipFile) as error:
        raise ValueError(f"it is no document of Word (docx): {error}") from None
    lines = (each["text"] if "text" in each else "\n".join("\t".join(row) for row in each["table"]) for each in blocks)
    return {"text": "\n".join(lines), "blocks": blocks, "metadata": metadata}


def _read_subtitles(content: bytes, form: str) -> dict[str, Any]:
    import pysubs2

    text = content.decode("utf-8-sig")
    try:
        found = pysubs2.SSAFile.from_string(text, format_=form)
    except (pysubs2.Pysubs2Error, LookupError, ArithmeticError) as error:
        raise ValueError(f"it is no text of subtitles ({form}): {error}") from None
    cues = [
        {"start_s": each.start / 1000, "end_s": each.end / 1000, "text": each.plaintext}
        for each in found
        if not each.is_comment
    ]
    if not cues and text.strip() not in {"", "WEBVTT"}:
        raise ValueError(f"it has no subtitles ({form})")
    return {"text": "\n".join(str(each["text"]) for each in cues), "cues": cues, "n_cues": len(cues)}


_READERS: Final[Mapping[str, Callable[[bytes, str], dict[str, Any]]]] = {
    "pdf": _read_pdf, "docx": _read_word, "srt": _read_subtitles, "vtt": _read_subtitles, "ass": _read_subtitles,
    "ssa": _read_subtitles,
}  # fmt: skip


def _needs(options: Options) -> Iterable[Need]:
    path = options.get("read")
    if isinstance(path, str) and OPENING not in path:
        yield Need("files", path)


DOCUMENT: Final = Kind(
    name="document",
    description="Gives the text of a PDF, of a document of Word or of subtitles, with its pages, blocks or cues.",
    schema=options_schema(
        {
            "read": {"type": "string", "minLength": 1, "description": "The file."},
            "content": {
                "not": {"type": ["object", "array", "number", "boolean", "null"]},
                "description": "The bytes of the document, or the text of subtitles, in place of a file.",
            },
            "format": {"enum": list(_READERS), "description": "What it is; by default the ending of the file says it."},
            "max_bytes": {
                "type": "integer",
                "minimum": 1,
                "maximum": 500_000_000,
                "default": MAX_BYTES,
                "description": "How large it may be.",
            },
        },
        oneOf=[{"required": ["read"]}, {"required": ["content"]}],
    ),
    perform=_perform,
    shorthand="read",
    needs=_needs,
    is_outside=True,
)
