"""The optimizer Muon for the recurrent matrices, gate by gate, and AdamW for everything else."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from lmtrain.kernels.capabilities import gains_by_bfloat16

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration, from Jordan et al.
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Orthogonalises the momentum of every gate's matrix (Jordan et al., 2024, "Muon: An optimizer for hidden layers").

    `torch.optim.Muon` takes an LSTM's `(4H, H)` for one matrix. Its four gates are four functions, which learn faster
    if they are orthogonalised separately (docs/recipes.md). AdamW trains embedding, decoder, projection and biases.

    Args:
        params: names and parameters, as `named_parameters` gives them; recurrent matrices are those with `weight_ih_l`
            or `weight_hh_l` in their names.
        lr: of the recurrent matrices.
        adamw_lr: of all other parameters.
        momentum: of the recurrent matrices, in Nesterov's form.
        betas, weight_decay: of AdamW.
    """

    def __init__(
        self,
        params: Iterable[tuple[str, Tensor]],
        lr: float = 0.04,
        adamw_lr: float = 0.02,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        named = dict(params)
        matrices = {name: p for name, p in named.items() if "weight_ih_l" in name or "weight_hh_l" in name}
        adamw_params = [(name, p) for name, p in named.items() if name not in matrices]
        hidden_size = _hidden_size(named)
        self._adamw = torch.optim.AdamW(
            adamw_params, lr=adamw_lr, betas=(betas[0], betas[1]), weight_decay=weight_decay
        )
        recurrent = {"params": list(matrices.items()), "lr": lr, "momentum": momentum, "hidden_size": hidden_size}
        super().__init__([recurrent, {**self._adamw.param_groups[0], "params": adamw_params}], {})

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_adamw": self._adamw}  # torch's leaves out attributes of subclasses

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; `closure` computes the loss and the gradients, as everywhere in torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step_matrices(self.param_groups[0])
        self._adamw.state, self._adamw.param_groups = self.state, self.param_groups[1:]
        self._adamw.step()
        return loss

    @torch.no_grad()
    def _step_matrices(self, group: dict[str, Any]) -> None:
        for matrix in group["params"]:
            if matrix.grad is None:
                continue
            state = self.state[matrix]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(matrix)
            buffer = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
            update = matrix.grad.lerp(buffer, group["momentum"])
            gates = _gates(update, group["hidden_size"])
            rows, columns = gates.shape[1:]
            scale = max(1.0, rows / columns) ** 0.5  # a step then changes outputs equally much for all shapes
            matrix.add_(orthogonalized(gates).reshape(matrix.shape), alpha=-group["lr"] * scale)


def _hidden_size(named: dict[str, Tensor]) -> int:
    """H: the number of columns of a matrix that reads the hidden state; 0 if there is none.

    A cell without `weight_hh_l`, such as minGRU, is recognised by the projection or the decoder after it.
    """
    readers = ("weight_hh_l", "proj.weight", "decoder.weight")
    sizes = [p.shape[1] for reader in readers for name, p in named.items() if reader in name]
    return next(iter(sizes), 0)


def _gates(matrix: Tensor, hidden_size: int) -> Tensor:
    """`(gates·H, columns)` → `(gates, H, columns)`; with another number of rows, `(1, rows, columns)`."""
    rows = hidden_size if hidden_size and len(matrix) % hidden_size == 0 else len(matrix)
    return matrix.view(-1, rows, matrix.shape[1])


def orthogonalized(matrices: Tensor) -> Tensor:
    """Approximates the nearest matrices whose singular values are all one, by the Newton-Schulz iteration.

    The approximation is so rough that float32 is computed in bfloat16 where that is faster, as Jordan et al. do.

    Args:
        matrices: `(N, rows, columns)`.

    Returns:
        the same shape and dtype; singular values between about 0.7 and 1.2.
    """
    a, b, c = _COEFFICIENTS
    x = matrices / torch.linalg.matrix_norm(matrices, keepdim=True).clamp_min(1e-19)
    if matrices.dtype == torch.float32 and gains_by_bfloat16(matrices.device.type):
        x = x.bfloat16()
    if is_tall := x.shape[-2] > x.shape[-1]:
        x = x.mT
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    result: Tensor = x.mT if is_tall else x
    return result.to(matrices.dtype)
