"""Check that this machine has what building needs, and say in one sentence what is missing.

The Makefile runs this before it installs anything. It is written for every version of Python, since it tells those
apart that are too old.
"""

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this file runs on older versions, to refuse them
    sys.exit(
        "flatstream needs Python 3.11 or later, and this is "
        + sys.version.split()[0]
        + ": install a later one (Debian: apt install python3) or name it (make PYTHON=python3.12)."
    )

import shlex
import shutil
import subprocess
import sysconfig

try:
    import ensurepip  # noqa: F401 - Debian has `venv` without it
    import venv  # noqa: F401
except ImportError:
    sys.exit("Python's module venv is missing: install it (Debian: apt install python3-venv).")

compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
if shutil.which(compiler) is None:
    sys.exit(
        "The C compiler "
        + compiler
        + " is missing: install it (Debian: apt install build-essential) or name another (make CC=clang)."
    )

headers = sysconfig.get_path("include")
if not os.path.exists(os.path.join(headers, "Python.h")):
    sys.exit("Python's headers are missing (" + headers + "/Python.h): install them (Debian: apt install python3-dev).")

command = [compiler, "-fsyntax-only", "-I" + headers, "-x", "c", "-"]
compiled = subprocess.run(command, input=b"#include <Python.h>\n", stderr=subprocess.PIPE)
if compiled.returncode != 0:
    lines = compiled.stderr.decode(errors="replace").splitlines() or ["no message"]
    sys.exit(
        "The C compiler " + compiler + " cannot compile Python's headers (" + lines[0] + "): "
        "install the headers of the C library (Debian: apt install build-essential)."
    )
