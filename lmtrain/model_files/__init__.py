"""Reads and writes trained models: Flair's files, safetensors, ONNX. Reading never runs code from a file.

`flair.py` reads and writes the file that Flair's `LanguageModel` loads. torch.load could run code from such a file, so
`torch_file.py` reads torch's archive itself, and `safe_pickle.py` interprets an allow-list of pickle's instructions.
`export.py` writes and reads safetensors, and writes ONNX, whose graph `onnx_graph.py` builds; `load_model` reads any of
these except ONNX. `settings.py` is what all formats store beside the weights: sizes, direction, dictionary.
`export_formats.py` lists the forms that `scripts/export.py` writes.
"""
