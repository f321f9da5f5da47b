"""`python -m lmtrain COMMAND ...` is `lmtrain COMMAND ...`."""

import sys

from lmtrain.cli.main import main
from lmtrain.program.starting import watch_if_command

if __name__ == "__main__":
    watch_if_command()  # before this file `import lmtrain` could not know that the process is a command
    sys.exit(main())
