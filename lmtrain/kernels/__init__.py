"""What torch's recurrent layers, dropout and products compute, faster on CPUs and right under a GPU's autocast.

The network (`lmtrain.model`) takes its layers from here. Every kernel gives the results of PyTorch's own modules, which
it falls back to, so a reader of the training loop may take each for the torch module whose name it has.

- For training: `lstm.py` computes a layer of an LSTM, `dropout.py` draws masks by bytes, `malloc.py` keeps memory that
  was freed.
- For inference: `step_layers.py` reads one item at a time; `packed_product.py` multiplies with a weight that was
  rearranged once.
- `cuda.py` calls cuDNN's recurrent layers apart from autocast.
- `capabilities.py` says what the processor can do. That alone chooses a kernel: a measurement could be wrong by noise.
"""
