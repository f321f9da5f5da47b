"""Small untrained models, with weights large enough that their predictions differ."""

import torch

from lmtrain.data.dictionary import Dictionary
from lmtrain.model.language_model import LanguageModel, RecurrentLM, Sizes

CHARACTERS = ["<unk>", "\n", " ", *"abcdefghijklmnopqrstuvwxyzABC.,äöüжяんξ😀"]

# Tensors are so small here that threads only cost, many times over on a busy machine.
torch.set_num_threads(1)


def make_model(
    items=CHARACTERS,
    *,
    is_forward_lm=True,
    level="character",
    document_delimiter="\n",
    has_decoder=True,
    seed=0,
    **sizes,
):
    torch.manual_seed(seed)
    dictionary = Dictionary(items)
    model = RecurrentLM(Sizes(len(dictionary), **{"hidden_size": 32, "embedding_size": 9, **sizes}), has_decoder).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return LanguageModel(model, dictionary, is_forward_lm, document_delimiter, level)
