#!/usr/bin/env python
"""`python scripts/export.py` in a checkout; see lmtrain/cli/export.py."""

import sys

from lmtrain.cli.export import command

if __name__ == "__main__":
    sys.exit(command())
