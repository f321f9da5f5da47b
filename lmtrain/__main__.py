"""`python -m lmtrain COMMAND ...` is `lmtrain COMMAND ...`."""

import sys

from lmtrain.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
