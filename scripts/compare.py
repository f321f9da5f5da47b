#!/usr/bin/env python
"""`python scripts/compare.py` in a checkout; see lmtrain/cli/compare.py."""

import sys

from lmtrain.cli.compare import command

if __name__ == "__main__":
    sys.exit(command())
