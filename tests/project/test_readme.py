"""The README tells the truth: its Python runs, and what it asserts holds. So do the documents it leads to.

The blocks of a section run in order, in one namespace and one empty folder.
"""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest

from flatstream import ChecksumType, StreamWriter
from support.cli import call_flatstream
from support.documents import sections, stable
from support.extent import in_one_test
from support.schemas import EXAMPLES, ROOT

README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "guide.md"
WIRE_FORMAT = ROOT / "docs" / "wire-format.md"
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_CODE = [document for document in DOCUMENTS if "```python" in document.read_text(encoding="utf-8")]

SCHEMA = EXAMPLES / "telemetry.bfbs"
SECTIONS = {document: sections(document) for document in WITH_CODE}
# test_tutorial.py runs it: its blocks depend on each other.
TUTORIAL = ROOT / "docs" / "tutorial.md"
# tests/broker/test_nats_docs.py runs it, with a server.
NATS = ROOT / "docs" / "nats.md"
WITH_PYTHON = [
    pytest.param(document, name, id=f"{document.stem}-{name}")
    for document in WITH_CODE
    if document not in (TUTORIAL, NATS)
    for name, blocks in SECTIONS[document].items()
    if any(block.language == "python" for block in blocks)
]


@in_one_test
@pytest.mark.parametrize(("document", "name"), WITH_PYTHON)
def test_python_of_section_runs(document: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # The schema that some of them load, under the name that it has in a clone.
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / SCHEMA.name).write_bytes(SCHEMA.read_bytes())
    namespace: dict[str, object] = {"__name__": "readme"}
    for block in SECTIONS[document][name]:
        if block.language == "python":
            # Empty lines in front, so that a traceback shows the document's own line numbers.
            exec(compile("\n" * (block.line - 1) + block.code, str(document), "exec"), namespace)


@pytest.mark.long
@pytest.mark.parametrize(
    "document", [one for one in WITH_CODE if one not in (TUTORIAL, NATS)], ids=lambda document: document.stem
)
def test_python_of_a_whole_document_runs_in_one_folder(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As it is typed by somebody who follows the page: files of one example must not be in the way of the next.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / SCHEMA.name).write_bytes(SCHEMA.read_bytes())
    namespace: dict[str, object] = {"__name__": "readme"}
    for blocks in SECTIONS[document].values():
        for block in blocks:
            if block.language == "python":
                exec(compile("\n" * (block.line - 1) + block.code, str(document), "exec"), namespace)


def test_commands_of_readme_run_and_print_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    printed: dict[str, str] = {}
    for block in SECTIONS[README]["Use"]:
        if block.language == "python":
            exec(block.code, namespace)
        elif block.language == "text":
            assert stable(printed["info"]) == stable(block.code)
        else:
            for line in block.code.splitlines():
                program, command, *arguments = shlex.split(line, comments=True)
                result = call_flatstream(command, *arguments)
                assert (program, result.status, result.errors) == ("flatstream", 0, ""), line
                printed[command] = result.output
    assert {"info", "tail", "cat", "verify", "convert", "plot"} <= set(printed)


@in_one_test
@pytest.mark.parametrize("document", WITH_CODE, ids=lambda document: document.stem)
def test_every_block_says_what_it_is(document: Path) -> None:
    # A block of another kind would not be run, nor would a fence that is indented or not closed.
    blocks = [block for blocks in SECTIONS[document].values() for block in blocks]
    assert {block.language for block in blocks} <= {"python", "sh", "text"}
    assert document.read_text(encoding="utf-8").count("```") == 2 * len(blocks)


def test_first_screen_of_readme_shows_the_package_in_five_lines_and_the_two_commands() -> None:
    first = README.read_text(encoding="utf-8").splitlines()[:30]
    code = next(block.code for block in SECTIONS[README]["flatstream"] if block.language == "python")
    assert len([line for line in code.splitlines() if line and not line.startswith("import ")]) == 5
    assert any(line.startswith("make demo ") for line in first)
    assert any(line.startswith("make test ") for line in first)


def test_links_in_readme_to_its_own_sections_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    anchors = {re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in SECTIONS[README]}
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links
    assert links <= anchors


@in_one_test
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.stem)
def test_links_to_files_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    assert links or document.stem != "README"
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


@in_one_test
@pytest.mark.parametrize("kind", ChecksumType, ids=lambda kind: kind.value)
def test_frames_shown_in_wire_format_are_those_that_are_written(kind: ChecksumType) -> None:
    text = WIRE_FORMAT.read_text(encoding="utf-8")
    sink = io.BytesIO()
    with StreamWriter(sink, kind) as writer:
        writer.write_payload(b"abc")
    shown = re.search(rf"^{kind.value} +((?:[0-9a-f]{{2}} ?)+)$", text, re.MULTILINE)
    assert shown
    assert sink.getvalue() == bytes.fromhex(shown[1])


@in_one_test
@pytest.mark.parametrize(
    "kind", [kind for kind in ChecksumType if kind is not ChecksumType.NONE], ids=lambda kind: kind.value
)
@pytest.mark.parametrize("document", [GUIDE, WIRE_FORMAT], ids=lambda document: document.stem)
def test_checksums_in_tables_are_those_that_are_calculated(document: Path, kind: ChecksumType) -> None:
    (row,) = (
        line for line in document.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{kind.value}` |")
    )
    checksum = kind.checksum()
    assert f"| {checksum.size} |" in row
    assert f"| `{checksum.calculate(memoryview(b'123456789')):X}` |" in row
    if document == WIRE_FORMAT:
        assert f"| `{checksum.calculate(memoryview(b'')):X}` |" in row
