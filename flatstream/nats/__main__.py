"""``python -m flatstream.nats``."""

import sys

from flatstream.nats._cli import main

if __name__ == "__main__":
    sys.exit(main())
