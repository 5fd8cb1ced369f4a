"""The program itself: help, wrong usage, how errors are told, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import flatstream
from flatstream.cli._app import COMMANDS, app
from flatstream.cli._status import STATUSES, combine
from support.cli import call_flatstream, environment, run_flatstream, script
from support.cli_samples import write_events
from support.extent import in_one_test

NAMES = [name for section in COMMANDS.values() for name in section]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_events(tmp_path_factory.mktemp("files") / "events.fs")


def test_help_lists_each_command_and_status_without_importing_a_command():
    code = "import sys; from flatstream.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    *lines, modules = done.stdout.splitlines()
    text = "\n".join(lines)
    for section in COMMANDS.values():
        for name, what in section.items():
            assert re.search(rf"^  {name} +{re.escape(what.split()[0])}", text, re.MULTILINE)
    for number in STATUSES:
        assert re.search(rf"^ +{number} ", text, re.MULTILINE)
    loaded = set(modules.split())
    assert not loaded & {f"flatstream.cli.{name}" for name in NAMES}
    assert not loaded & {"rich", "flatstream.schema", "flatstream.journal", "flatstream.columns", "numpy"}


def test_info_of_a_stream_imports_no_more_than_it_needs(path):
    code = f"import sys; from flatstream.cli import main; main(['info', {str(path)!r}]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"rich", "flatstream.schema", "flatstream.columns", "numpy", "asyncio", "importlib.metadata"}


@in_one_test
@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_says_the_same_in_one_line_as_the_list(name):
    result = call_flatstream(name, "--help")
    assert (result.status, result.errors) == (0, "")
    assert result.output.startswith(f"Usage: flatstream {name} ")
    short = next(section[name] for section in COMMANDS.values() if name in section)
    assert " ".join(short.split()) in " ".join(result.output.split())
    again = call_flatstream(name, "-h")
    assert (again.status, again.errors, again.output) == (0, "", result.output)


def test_version_and_module():
    done = subprocess.run(
        [sys.executable, "-m", "flatstream", "--version"], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout == f"flatstream {flatstream.__version__}\n" == run_flatstream("--version").output


@in_one_test
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inf"], "flatstream: there is no command 'inf'; did you mean info? (see flatstream --help)"),
        (["xyz"], "flatstream: there is no command 'xyz'; they are info, "),
        (["--nothing"], "flatstream: no such option '--nothing'"),
        (["info"], "flatstream info: missing argument 'PATH...' (see flatstream info --help)"),
        (["info", "--nothing", "x"], "flatstream info: no such option '--nothing'"),
        (["info", "x", "--checksum", "md5"], "flatstream info: invalid value for '--checksum': 'md5' is not one of"),
        (["verify", "-", "-"], "flatstream verify: '-' (standard input) can be read once only"),
        (["completion", "tcsh"], "flatstream completion: invalid value for "),
    ],
)
def test_wrong_usage_is_one_line(arguments, message, tmp_path):
    result = call_flatstream(*arguments, cwd=tmp_path)
    assert (result.status, result.output) == (2, "")
    assert result.errors.startswith(message)
    assert result.errors.count("\n") == 1


def test_without_a_command_the_help_goes_to_standard_error():
    result = call_flatstream()
    assert (result.status, result.output) == (2, "")
    assert result.errors.startswith("Usage: flatstream ")


def test_schema_file_that_cannot_be_read_is_one_error(path, tmp_path):
    result = call_flatstream("info", path, path, "--schema", tmp_path / "nothing.bfbs")
    assert (result.status, result.output) == (4, "")
    assert result.errors == f"flatstream info: {tmp_path / 'nothing.bfbs'}: No such file or directory\n"
    (tmp_path / "broken.bfbs").write_bytes(b"no schema")
    broken = call_flatstream("info", path, "--schema", tmp_path / "broken.bfbs")
    assert (broken.status, broken.errors.count("\n")) == (4, 1)


def test_without_click_one_sentence_says_what_to_install(path):
    code = (
        "import sys; sys.modules['click'] = None\n"
        "class Missing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] == 'click': raise ModuleNotFoundError('no click', name='click')\n"
        "del sys.modules['click']; sys.meta_path.insert(0, Missing())\n"
        "from flatstream.cli import main; sys.exit(main(['--help']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "flatstream: the command line needs the package click: pip install 'flatstream[cli]'\n"


def test_reader_of_the_output_that_goes_away_ends_the_program_quietly(tmp_path):
    # More is printed than a pipe holds.
    one = tmp_path / "one.fs"
    write_events(one, 1)
    for number in range(300):
        (tmp_path / f"{number:03}-{'x' * 150}.fs").hardlink_to(one)
    process = subprocess.Popen(
        [*script(), "info", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_full_disk_under_the_output_is_one_line(path):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*script(), "info", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
        )
    assert (done.returncode, done.stderr) == (4, b"flatstream info: standard output: No space left on device\n")


def test_interrupt_ends_the_program_with_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process = subprocess.Popen(
        [*script(), "info", "pipe"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=tmp_path,
    )
    # Opening it waits for the program, which waits in it for the first frame.
    with open(tmp_path / "pipe", "wb"):
        while not waits_in_read(process.pid):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert (process.returncode, output, errors) == (130, b"", b"flatstream info: interrupted\n")


def waits_in_read(pid: int) -> bool:
    """Whether a process waits for bytes of a pipe; where that is not told, whether it sleeps."""
    try:
        text = Path(f"/proc/{pid}/syscall").read_text()
    except OSError:
        time.sleep(1)
        return True
    # The number of read on x86-64 and on 64-bit ARM.
    return text.split()[0] in ("0", "63")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_and_its_answers(shell, monkeypatch):
    monkeypatch.setattr("click.shell_completion.BashComplete._check_version", lambda self: None)
    result = call_flatstream("completion", shell)
    assert result.status == 0
    assert f"_FLATSTREAM_COMPLETE={shell}_complete" in result.output


def test_commands_and_options_are_completed():
    for words, number, expected in (
        ("flatstream ver", 1, {"plain,verify"}),
        ("flatstream info --ch", 2, {"plain,--check", "plain,--checksum"}),
        ("flatstream info --checksum xx", 3, {"plain,xxhash64"}),
    ):
        variables = {"_FLATSTREAM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        done = run_flatstream(variables=variables)
        assert (set(done.lines), done.errors) == (expected, "")


def test_worst_status_counts():
    assert combine([]) == 0
    assert [combine(pair) for pair in [(0, 3), (3, 1), (1, 4), (4, 2), (0, 0)]] == [3, 1, 4, 2, 0]


def test_commands_of_the_list_are_those_of_the_program():
    context = app.make_context("flatstream", ["info"], resilient_parsing=True)
    assert app.list_commands(context) == NAMES
    assert app.get_command(context, "nothing") is None
