"""The recurrence, dropout and matrix products as they are fast on CPUs, with the results of PyTorch's own modules.

`capabilities.py` is what is known of the processor, which decides (no measurement does). `lstm.py` computes an LSTM's
layer for training, `packed_product.py` multiplies with a weight that is rearranged once, `dropout.py` draws its masks
by bytes, and `malloc.py` keeps freed memory. Everything has a fallback to PyTorch's own.
"""
