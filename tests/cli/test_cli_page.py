"""docs/cli.md is the page that tools/make_cli_page.py writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from flatstream.cli._app import COMMANDS

ROOT = Path(__file__).resolve().parent.parent.parent
TOOL = ROOT / "tools" / "make_cli_page.py"


def test_page_is_made_from_the_commands():
    if not TOOL.exists():
        pytest.skip("tools/ is not here: this is no clone")
    spec = importlib.util.spec_from_file_location("make_cli_page", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == module.page(), "run 'make cli-page'"
    for section in COMMANDS.values():
        assert all(f"### flatstream {name}\n" in page for name in section)
