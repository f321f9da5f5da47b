"""A trained model in files: Flair's own, safetensors, ONNX; read without running what is in them.

`flair.py` reads and writes the file that Flair's `LanguageModel` loads. torch.load would run code that a file holds, so
`torch_file.py` takes torch's archive apart, and `safe_pickle.py` interprets an allow-list of pickle's instructions.
`export.py` writes and reads safetensors, and writes ONNX, whose graph `onnx_graph.py` builds; `load_model` reads any of
the forms that can be read. `settings.py` is what stands beside the weights in all of them: sizes, direction,
dictionary. `export_formats.py` lists the forms that `scripts/export.py` writes.
"""
