"""Code that runs in a process of its own: what is tested is that it survives, or its environment differs."""

from __future__ import annotations

import functools
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The frames of functions are several times as large then.
SANITIZED = os.environ.get("FLATSTREAM_SANITIZED") == "1"


# Names that the scripts use, and a function that prints which error came, if any.
PREAMBLE = f"""
import io, sys, warnings
sys.path[:0] = [{str(Path(__file__).parent.parent)!r}]
from flatstream import *
warnings.simplefilter("ignore")
TWO_FRAMES = b"\\x03\\x00\\x00\\x00abc\\x02\\x00\\x00\\x00de"

def attempt(function, *arguments):
    try:
        result = function(*arguments)
    except Exception as error:
        print(type(error).__name__, error)
        return None
    print("no error", type(result).__name__)
    return result

def write_with(framer):
    attempt(lambda: StreamWriter(io.BytesIO(), framer).write_payload(b"abc"))

def read_with(deframer):
    for source in (bytes, io.BytesIO):
        attempt(lambda: StreamReader(source(TWO_FRAMES), deframer).read_message())
        attempt(lambda: StreamReader(source(TWO_FRAMES), deframer).read_batch())
"""


# Imports the package once and then forks for each script that it is given (a line with its length, then its bytes and
# the paths of two files for what it prints). Most of the time of a small script would be the start of an interpreter.
# The child leaves the loop and ends as any interpreter does, with all that this collects.
SERVER = (
    PREAMBLE
    + """
import faulthandler, os
faulthandler.enable()
while header := sys.stdin.buffer.readline():
    code, output, errors = (sys.stdin.buffer.read(int(size)).decode() for size in header.split())
    child = os.fork()
    if child:
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(output, os.O_WRONLY), 1)
    os.dup2(os.open(errors, os.O_WRONLY), 2)
    del child, header, output, errors
    exec(compile(code, "<script>", "exec"))
    break
"""
)
SECONDS = 60


@functools.cache
def _server() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-c", SERVER]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def stop_server() -> None:
    """Ends the process that forks, if there is one (tests/conftest.py)."""
    if _server.cache_info().currsize:
        with _server() as server:
            assert server.stdin is not None
            server.stdin.close()
        _server.cache_clear()


def survives(code: str) -> list[str]:
    """The lines that `code` prints in a process of its own, which must come to its end and print no error."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.NamedTemporaryFile() as output, tempfile.NamedTemporaryFile() as errors:
        pieces = [text.encode() for text in (code, output.name, errors.name)]
        server.stdin.write(b"%d %d %d\n" % tuple(map(len, pieces)) + b"".join(pieces))
        server.stdin.flush()
        child = int(server.stdout.readline())
        timer = threading.Timer(SECONDS, os.kill, (child, signal.SIGKILL))
        timer.start()
        try:
            status = int(server.stdout.readline())
        finally:
            timer.cancel()
            timer.join()
        printed, told = output.read().decode(), errors.read().decode()
    assert status == 0, f"exit status {status}\n{printed[-500:]}\n{told[-3000:]}"
    assert told == ""
    return printed.splitlines()


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # -P: not the current folder, which may be a source tree.
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def import_with(settings: dict[str, str], script: str, plan: Any = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | settings,
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def forked(function: Callable[[], Any]) -> Any:
    """What `function` returns in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, pickle.dumps(function()))
        except BaseException as error:
            os.write(writing, pickle.dumps(repr(error)))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        answer = pickle.load(file)
    os.waitpid(child, 0)
    return answer
