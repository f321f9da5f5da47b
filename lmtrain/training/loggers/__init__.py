"""Where the figures of a run go.

A logger is Lightning's, made by `make.py` for one run: `RunLogger` (`run_logger.py`) is lmtrain's kind, whose
constructor is told of the run by a `RunInfo` (folder, name, key, configuration, where it goes on from). Each of them is
one file here and one in `conf/logger/`. None can end a run: `guarded.py` makes warnings of what they raise. metrics.csv
has fixed columns and is what report and comparison read; other loggers take all figures.
"""
