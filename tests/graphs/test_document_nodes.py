"""The kind document: texts of real PDFs, documents of Word and subtitles, and of hostile ones."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import docx
import pypdf
import pytest

from ironflow_nb.errors import NodeFailed, NotGranted
from ironflow_nb.graphs.nodes import archives
from ironflow_nb.graphs.nodes.documents import DOCUMENT
from tests.graphs.asking import perform


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def read(path: str, **options: Any) -> Any:
    return perform(DOCUMENT, {"read": path, **options}, allow={"files": ["data"]})


def pdf(*lines: str, title: str = "Tea") -> bytes:
    """Return a PDF with one page for each line, written by hand."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(lines)))
    objects += [
        f"<</Type/Pages/Count {len(lines)}/Kids[{kids}]>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, line in enumerate(lines):
        stream = f"BT /F1 24 Tf 72 700 Td ({line}) Tj ET".encode()
        place = f"/MediaBox[0 0 612 792]/Contents {5 + 2 * number} 0 R"
        page = f"<</Type/Page/Parent 2 0 R{place}/Resources<</Font<</F1 3 0 R>>>>>>"
        objects += [page.encode(), b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream)]
    objects.append(f"<</Title({title})>>".encode())
    made, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    n = len(objects) + 1
    trailer = b"trailer<</Size %d/Root 1 0 R/Info %d 0 R>>\nstartxref\n%d\n%%%%EOF" % (n, n - 1, len(made))
    return made + b"xref\n0 %d\n0000000000 65535 f \n" % n + table + trailer


def test_the_pages_of_a_pdf(data: Path) -> None:
    (data / "a.pdf").write_bytes(pdf("Green tea", "Black tea"))
    assert read("data/a.pdf") == {
        "format": "pdf", "text": "Green tea\n\nBlack tea", "pages": ["Green tea", "Black tea"], "n_pages": 2,
        "metadata": {"title": "Tea"},
    }  # fmt: skip
    content = (data / "a.pdf").read_bytes()
    assert perform(DOCUMENT, {"content": content, "format": "pdf"}, allow={})["n_pages"] == 2


def test_a_pdf_with_a_password_is_told(data: Path) -> None:
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.encrypt("word", algorithm="RC4-128")
    writer.write(data / "a.pdf")
    with pytest.raises(NodeFailed, match="it has a password"):
        read("data/a.pdf")


@pytest.mark.parametrize("seed", range(25))
def test_any_damage_of_a_pdf_is_an_error_of_the_node(data: Path, seed: int) -> None:
    content = bytearray(pdf("Green tea", "Black tea"))
    for at in range(seed, len(content), 25 + seed):
        content[at] = (content[at] * 7 + seed) % 256
    (data / "a.pdf").write_bytes(content)
    try:
        told = read("data/a.pdf")["format"]
    except NodeFailed as error:
        told = str(error)
    assert told == "pdf" or "a.pdf" in told


def test_a_document_of_word_in_its_order(data: Path) -> None:
    document = docx.Document()
    document.core_properties.title = "Tea"
    document.add_heading("Tea", 1)
    document.add_paragraph("Two kinds.")
    table = document.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "green", "2.50"
    document.add_paragraph("The end.")
    document.save(data / "a.docx")
    found = read("data/a.docx")
    assert found["text"] == "Tea\nTwo kinds.\ngreen\t2.50\nThe end."
    assert found["blocks"][0] == {"text": "Tea", "style": "Heading 1"}
    assert found["blocks"][2] == {"table": [["green", "2.50"]]}
    assert found["metadata"]["title"] == "Tea"


SRT = "1\n00:00:01,000 --> 00:00:02,500\nHello\n<i>you</i>\n\n2\n00:01:00,000 --> 00:01:01,000\nBye\n"


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_the_cues_of_subtitles(data: Path, form: str) -> None:
    text = SRT if form == "srt" else "WEBVTT\n\n" + SRT.replace(",", ".")
    (data / f"a.{form}").write_text(text, encoding="utf-8-sig")
    found = read(f"data/a.{form}")
    assert found["n_cues"] == 2
    assert found["cues"][0] == {"start_s": 1.0, "end_s": 2.5, "text": "Hello\nyou"}
    assert found["text"] == "Hello\nyou\nBye"
    assert perform(DOCUMENT, {"content": text, "format": form}, allow={})["cues"] == found["cues"]


def test_what_it_is_not_is_said(data: Path) -> None:
    for name in ("a.pdf", "a.docx", "a.srt"):
        (data / name).write_bytes(b"just some text")
        with pytest.raises(NodeFailed, match=r"it is no |it has no subtitles") as caught:
            read(f"data/{name}")
        assert caught.value.is_retryable is False
    (data / "a.txt").write_text("x")
    with pytest.raises(NodeFailed, match="give format: pdf, docx, srt or vtt"):
        read("data/a.txt")
    with pytest.raises(NotGranted):
        read("elsewhere.pdf")


def test_a_document_with_entities_or_too_much_in_it_is_harmless(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docx.Document().save(data / "a.docx")
    secret = data.parent / "secret.txt"
    secret.write_text("darjeeling")
    entity = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    body = f"{entity}<w:document {space}><w:body><w:p><w:r><w:t>&x;</w:t></w:r></w:p></w:body></w:document>"
    new = io.BytesIO()
    with zipfile.ZipFile(data / "a.docx") as old, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
        for info in old.filelist:
            archive.writestr(info.filename, body if info.filename == "word/document.xml" else old.read(info))
    (data / "b.docx").write_bytes(new.getvalue())
    try:
        told = str(read("data/b.docx"))
    except NodeFailed as error:
        told = str(error)
    assert "darjeeling" not in told
    monkeypatch.setattr(archives, "_PACKAGE_BYTES", 1000)
    with pytest.raises(NodeFailed, match="bytes unpacked; at most 1,000 are read"):
        read("data/a.docx")


def test_a_document_that_is_too_large_is_not_read(data: Path) -> None:
    (data / "a.pdf").write_bytes(pdf("x"))
    with pytest.raises(NodeFailed, match="more than 10 bytes; raise max_bytes"):
        read("data/a.pdf", max_bytes=10)
