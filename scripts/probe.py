#!/usr/bin/env python
"""`python scripts/probe.py` in a checkout; see lmtrain/cli/probe.py."""

import sys

from lmtrain.cli.probe import command

if __name__ == "__main__":
    sys.exit(command())
