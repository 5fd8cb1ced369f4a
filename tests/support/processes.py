"""Code that runs in a process of its own: what is tested is that it survives, or its environment differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
    writer = StreamWriter(io.BytesIO(), framer)
    attempt(writer.write_payload, b"abc")

def read_with(deframer):
    for source in (bytes, io.BytesIO):
        attempt(StreamReader(source(TWO_FRAMES), deframer).read_message)
        attempt(StreamReader(source(TWO_FRAMES), deframer).read_batch)
"""


def survives(code: str) -> list[str]:
    """The lines that `code` prints in a process that comes to its end."""
    command = [sys.executable, "-P", "-X", "faulthandler", "-c", PREAMBLE + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-500:]}\n{done.stderr[-3000:]}"
    assert done.stderr == ""
    return done.stdout.splitlines()


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
