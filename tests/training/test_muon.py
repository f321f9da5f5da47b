"""Muon, against arithmetic done another way."""

import copy

import pytest
import torch

from lmtrain.model.language_model import RecurrentLM, Sizes
from lmtrain.training.muon import Muon, orthogonalized


@pytest.fixture(params=["LSTM", "GRU", "MINGRU"])
def model(request):
    torch.manual_seed(2)
    return RecurrentLM(Sizes(11, 6, nlayers=2, embedding_size=4, nout=5, dropout=0.0, recurrent_type=request.param))


def a_step(model, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(11, (7, 3), generator=generator)
    optimizer.zero_grad()
    model.loss(ids[:-1], ids[1:])[0].backward()
    optimizer.step()


@pytest.mark.parametrize("shape", [(24, 24), (40, 12), (12, 40)])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-10), (torch.float32, 0.05)])
def test_orthogonalized_keeps_the_directions_and_makes_the_singular_values_nearly_one(shape, dtype, error):
    torch.manual_seed(1)
    matrices = torch.randn(3, *shape, dtype=dtype) * torch.tensor([1e-4, 1.0, 1e4]).view(3, 1, 1)
    result = orthogonalized(matrices)
    for matrix, made in zip(matrices.double(), result.double(), strict=True):
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        inner = left.T @ made @ right.T  # diagonal if the singular vectors are the same
        assert inner.diagonal().min() > 0.5
        assert inner.diagonal().max() < 1.3
        assert (inner - inner.diagonal().diag()).abs().max() < error


def test_every_gate_moves_by_its_own_orthogonal_matrix_and_the_rest_as_with_adamw(model):
    before = copy.deepcopy(model)
    twin = copy.deepcopy(model)
    a_step(model, Muon(model.named_parameters(), lr=0.1, adamw_lr=0.003), seed=1)
    a_step(twin, torch.optim.AdamW(twin.parameters(), lr=0.003, weight_decay=0), seed=1)
    old, adamw = dict(before.named_parameters()), dict(twin.named_parameters())
    for name, now in model.named_parameters():
        if "rnn.weight" not in name:
            assert torch.equal(now, adamw[name]), name
            continue
        moves = (now - old[name]).detach().split(6)  # H rows a gate
        for moved, gradient in zip(moves, now.grad.split(6), strict=True):
            scale = max(1, moved.shape[0] / moved.shape[1]) ** 0.5
            assert torch.allclose(moved, -0.1 * scale * orthogonalized(gradient[None])[0], atol=1e-5), name


def test_saved_and_loaded_it_goes_on_bit_for_bit(model):
    optimizer = Muon(model.named_parameters())
    for seed in range(3):
        a_step(model, optimizer, seed)
    twin = copy.deepcopy(model)
    loaded = Muon(twin.named_parameters())
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for seed in range(3, 6):
        a_step(model, optimizer, seed)
        a_step(twin, loaded, seed)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
