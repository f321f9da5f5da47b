#!/usr/bin/env python
"""`python scripts/check_gpu.py` in a checkout; see lmtrain/cli/check_gpu.py."""

import sys

from lmtrain.cli.check_gpu import command

if __name__ == "__main__":
    sys.exit(command())
