"""Lightning loggers: they write the figures of a run to files and services.

`make.py` makes those that the configuration names. lmtrain's own are subclasses of `RunLogger` (`run_logger.py`), whose
constructor takes a `RunInfo`: folder, name, key and configuration of the run, and the step it goes on from. Each is one
file here and one in `conf/logger/`. No logger can end a run: `guarded.py` turns their exceptions into warnings.
metrics.csv has fixed columns, which the report and `compare.py` read; the other loggers take all figures.
"""
