"""Replaces torch's recurrent layers, dropout and products: faster on CPUs, and right under autocast on GPUs.

The network (`lmtrain.model`) takes its layers from here. Every kernel gives the results of the torch module whose name
it has, and falls back to that module where it is not faster.

- For training: `lstm.py` computes a layer of an LSTM, `dropout.py` draws masks by bytes, `malloc.py` keeps memory that
  was freed.
- For inference: `step_layers.py` reads one item at a time; `packed_product.py` multiplies with a weight that was
  rearranged once.
- `cuda.py` calls cuDNN's recurrent layers outside autocast.
- `capabilities.py` knows the kind of processor, which alone chooses a kernel: measuring could choose by noise.
"""
