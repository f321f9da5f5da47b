"""Python imports this when it starts with this folder in PYTHONPATH: every such process has the emulated GPU."""

from emulated_cuda import install

install()
