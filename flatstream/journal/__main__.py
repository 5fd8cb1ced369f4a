"""The command line: ``python -m flatstream.journal --help``."""

import sys

from flatstream.journal._cli import main

if __name__ == "__main__":
    sys.exit(main())
