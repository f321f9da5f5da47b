"""Trained models in files: Flair's own, safetensors, ONNX; read without running what is in them."""
