#!/usr/bin/env python
"""`python scripts/generate.py` in a checkout; see lmtrain/cli/generate.py."""

import sys

from lmtrain.cli.generate import command

if __name__ == "__main__":
    sys.exit(command())
