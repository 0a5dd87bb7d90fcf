"""``python -m mfac``: how a cluster and its runs stand, live and as plots (docs/python.md)."""

import sys

from ._command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
