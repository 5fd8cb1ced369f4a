"""The document's Python runs against a real server, and the command line says what is wrong."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from support.documents import sections
from support.nats_journals import SUBJECT, broker, mirror_in, numbers_in, start_program, write
from support.nats_server import needs_server, run, running_server
from support.processes import run_python
from support.schemas import ROOT

DOCUMENT = ROOT / "docs" / "nats.md"
SECTIONS = [name for name, blocks in sections(DOCUMENT).items() if any(one.language == "python" for one in blocks)]


@needs_server
@pytest.mark.parametrize("name", SECTIONS)
def test_python_of_the_document_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with running_server(tmp_path / "server") as server:
        namespace: dict[str, Any] = {"__name__": "document", "SERVER": server.url}
        for block in sections(DOCUMENT)[name]:
            if block.language == "python":
                exec(compile("\n" * (block.line - 1) + block.code, str(DOCUMENT), "exec"), namespace)


def test_sections_with_python_are_found() -> None:
    assert len(SECTIONS) == 2


@needs_server
def test_command_line_forwards_and_receives_once(tmp_path: Path) -> None:
    write(tmp_path / "source", range(30))
    with running_server(tmp_path / "server") as server:
        options = ["--server", server.url, "--create-stream", "TELEMETRY", "-q"]
        send = start_program("forward", str(tmp_path / "source"), SUBJECT, "--once", *options)
        output = send.communicate(timeout=60)[0].decode()
        assert send.returncode == 0, output
        assert "30 frames forwarded in" in output
        take = start_program("receive", SUBJECT, str(tmp_path / "mirrors"), "--idle-timeout", "0.3", *options)
        output = take.communicate(timeout=60)[0].decode()
        assert take.returncode == 0, output
        assert "30 frames of 1 journals received in" in output
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == list(range(30))


@needs_server
def test_command_line_has_a_status_for_missing_frames_and_for_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flatstream.journal import RotationPolicy
    from flatstream.nats import _cli

    # Its loop's handlers of signals stay in the program.
    monkeypatch.setattr("asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler", lambda *_: None)
    write(tmp_path / "source", range(30), rotate=RotationPolicy(max_frames=10))
    (tmp_path / "source" / f"{10:020d}.fs").unlink()
    with running_server(tmp_path / "server") as server:
        arguments = ["forward", str(tmp_path / "source"), SUBJECT, "--server", server.url, "--once", "-q"]
        assert _cli.main(arguments) == 4
        assert "error: FlatStreamError: the broker has no stream for the subject" in capsys.readouterr().err
        assert _cli.main([*arguments, "--create-stream", "TELEMETRY"]) == 1
        arguments = ["receive", SUBJECT, str(tmp_path / "mirrors"), "--server", server.url, "--idle-timeout", "0.3"]
        assert _cli.main([*arguments, "-q"]) == 1


def test_command_line_gives_up_if_there_is_no_broker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nats")
    from flatstream.nats import _cli

    write(tmp_path / "source", range(3))
    # Bound, and not listening: nobody else can have this port.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        server = f"nats://127.0.0.1:{nobody.getsockname()[1]}"
        for command in (
            ["forward", str(tmp_path / "source"), SUBJECT],
            ["receive", SUBJECT, str(tmp_path / "mirrors")],
        ):
            assert _cli.main([*command, "--server", server, "--give-up", "0.05", "-q"]) == 4
            assert "error: TimeoutError: no broker was reached within 0.05 s" in capsys.readouterr().err


def test_package_that_is_missing_is_named() -> None:
    code = (
        "import sys\nsys.modules['nats'] = None\nimport flatstream.nats\n"
        "for call in (lambda: flatstream.nats.Forwarder('x', 'y'), lambda: flatstream.nats.Receiver('x', 'y'),"
        " lambda: flatstream.nats.Subscription('x')):\n"
        "    try:\n        call()\n    except ImportError as error:\n        print(error)\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("pip install 'flatstream[nats]'" in line for line in lines)


@needs_server
def test_broker_is_a_real_one(tmp_path: Path) -> None:
    async def work() -> None:
        with running_server(tmp_path / "server") as server:
            async with broker(server) as connection:
                assert connection.connected_server_version.major >= 2

    run(work)
