"""Importing Lightning for a run leaves out what Flair's installation would add, and spoils nothing for Flair."""

import subprocess
import sys

CODE = """
import sys
from lmtrain.training.lightning_internals.importing import without_unused_packages
with without_unused_packages():
    import lmtrain.training.train
assert not {"transformers", "scipy", "matplotlib"} & set(sys.modules)
# nor what only other ways of use need, and an installation may not have
others = {"pyarrow", "lxml", "dask", "fontTools", "py3langid", "ftfy", "datasketch", "ijson", "onnx", "wandb"}
assert not others & set(sys.modules), others & set(sys.modules)
from flair.embeddings import FlairEmbeddings, TransformerWordEmbeddings
"""


def test_the_start_imports_no_packages_of_metrics_and_flair_still_finds_them():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
