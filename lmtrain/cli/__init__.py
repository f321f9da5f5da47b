"""The commands that a user types. No other package imports this one.

`main.py` is `lmtrain COMMAND`. A command is a module with three things: `Options`, a dataclass whose fields are its
arguments; `main(options)`, which does the work by calling other packages; and `command`, which joins the two
(`arguments.py`). `main` imports torch and everything else that is slow, so that --help and mistakes in arguments are
answered at once. `scripts/NAME.py` calls the same `command`.

`train.py` is the exception: `lmtrain train` and `python train.py` take Hydra's `KEY=VALUE`, and `sweep.py`,
`workers.py` and `interruption.py` belong to it. `gpu_measurements.py` has the measurements of `check_gpu.py`.
"""
