"""What every command needs: exit status, output files, messages, signals and worker processes.

`command.py` runs a command's `main` and turns what it raises into an exit status. `files.py` writes files that appear
whole (`atomic_write`), `locks.py` locks folders that several hosts share, `output.py` survives a closed pipe, `log.py`
writes train.log. `signals.py` handles SIGTERM, SIGINT and SIGUSR1, and `starting.py` does so while a command imports.
`shell.py` quotes commands for messages, `pool.py` starts worker processes, and `time_left.py` reports progress.
"""
