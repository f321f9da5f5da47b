#!/usr/bin/env python
"""`python scripts/score.py` in a checkout; see lmtrain/cli/score.py."""

import sys

from lmtrain.cli.score import command

if __name__ == "__main__":
    sys.exit(command())
