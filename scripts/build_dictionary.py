#!/usr/bin/env python
"""`python scripts/build_dictionary.py` in a checkout; see lmtrain/cli/build_dictionary.py."""

import sys

from lmtrain.cli.build_dictionary import command

if __name__ == "__main__":
    sys.exit(command())
