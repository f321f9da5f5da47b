"""What every command needs, whatever it does: how it ends, where it writes, what it says, and its processes.

`command.py` runs a command's `main` and makes an exit status of what it raises. `files.py` writes files so that no
half-written one stands there (`atomic_write`), `locks.py` keeps processes of all hosts apart, `output.py` survives a
closed pipe, `log.py` writes train.log. `signals.py` follows SIGTERM, SIGINT and SIGUSR1, and `starting.py` does while a
command still imports. `shell.py` quotes what can be pasted, `pool.py` starts worker processes, and `time_left.py`
reports progress.
"""
