"""The configuration: composed from conf/ by Hydra, checked once by pydantic, then one frozen `Config` for all code.

`compose.py` and `overrides.py` turn the command line into plain values. `schema.py` defines every key with its type,
its range and its relations to other keys; `check_config` reports all problems in one message (`messages.py`).
`keys.py` answers questions about keys by the marks on the schema's fields, `schedules.py` has the schedules of the
learning rate, and `saved.py` writes and reads a configuration. `trainer_arguments.py` is the table of the arguments of
Lightning's Trainer: each is obeyed whole or refused with a reason (`trainer_values.py` checks their values).
`shipped_callbacks.py` is the same table for Lightning's callbacks.
"""
