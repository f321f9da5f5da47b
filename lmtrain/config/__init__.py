"""The configuration: composed from conf/ by Hydra, checked at once by pydantic, then one `Config` for everybody.

`compose.py` and `overrides.py` are the way from the command line to plain values; `schema.py` is every key with its
type, its range and what it goes together with, and `check_config` gives all problems in one message (`messages.py`).
`keys.py` gives lists of keys by marks on the schema's fields, `schedules.py` are the schedules of the rate, and
`saved.py` is a configuration as it is written. `trainer_arguments.py` is the table of Lightning's Trainer arguments:
each is obeyed whole or refused with a reason (`trainer_values.py` has the checks of their values), and
`shipped_callbacks.py` the same of Lightning's callbacks.
"""
