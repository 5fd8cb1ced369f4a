"""``python -m flatstream``: the same as the command ``flatstream``."""

import sys

from flatstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
