"""The cross entropy of a decoder's logits; where these are many, never all of them are in memory at once."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_LOGITS = 1 << 25  # 128 MiB in float32


def decoder_loss(decoder: nn.Linear, output: Tensor, targets: Tensor) -> Tensor:
    """The mean cross entropy of `decoder(output)`.

    For large vocabularies the logits are computed a chunk of rows at a time, and their gradients with them, so that
    the memory does not grow with N·V (as in Wijmans et al., 2024, "Cut Your Losses in Large-Vocabulary Language
    Models", in plain torch).

    Args:
        decoder: D → V.
        output: `(N, D)`.
        targets: int64 `(N,)`.

    Returns:
        a scalar in nats per item, at least float32.
    """
    most = most_logits(output.device)
    if len(output) * decoder.out_features <= most:
        logits = decoder(output)
        return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets)
    rows = rows_of_chunk(most, *decoder.weight.shape)
    return _ChunkedLoss.apply(output, decoder.weight, decoder.bias, targets, rows)


def most_logits(device: torch.device) -> int:
    """How many logits are computed at once: on a large GPU, float32 of 1/64 of its memory."""
    if device.type != "cuda":
        return MOST_LOGITS
    return max(MOST_LOGITS, torch.cuda.get_device_properties(device).total_memory // 64 // 4)


def rows_of_chunk(most: int, vocabulary_size: int, output_size: int) -> int:
    """The rows of a chunk: an eighth of `most` logits, but at least D / 2 rows.

    Each chunk adds to the gradient of the whole weight `(V, D)`, which with fewer rows takes longer than the product.
    """
    return max(1, most // 8 // vocabulary_size, output_size // 2)


class _ChunkedLoss(torch.autograd.Function):
    """Computes the gradients of the summed losses in forward, and scales them in backward.

    The division by N comes last, so that float16 does not lose small gradients.
    """

    @staticmethod
    def forward(ctx, output: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, rows: int) -> Tensor:
        device = output.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else output.dtype
        exact = torch.promote_types(dtype, torch.float32)
        needs_gradient = any(ctx.needs_input_grad)
        with torch.autocast(device, enabled=False):
            low_weight, low_bias = weight.to(dtype), bias.to(dtype)
            total = torch.zeros((), dtype=exact, device=output.device)
            if needs_gradient:
                d_output = torch.empty_like(output)
                d_weight = torch.zeros_like(weight, dtype=exact)
                d_bias = torch.zeros_like(bias, dtype=exact)
            for start in range(0, len(output), rows):
                some, wanted = output[start : start + rows].to(dtype), targets[start : start + rows, None]
                log_probabilities = F.linear(some, low_weight, low_bias).to(exact).log_softmax(dim=1)
                total -= log_probabilities.gather(1, wanted).sum()
                if needs_gradient:
                    d_logits = log_probabilities.exp_()
                    d_logits.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=exact))
                    d_bias += d_logits.sum(dim=0)
                    d_logits = d_logits.to(dtype)
                    d_output[start : start + rows] = d_logits @ low_weight
                    d_weight += d_logits.T @ some
        if needs_gradient:
            ctx.save_for_backward(d_output, d_weight.to(weight.dtype), d_bias.to(bias.dtype))
        ctx.items = len(output)
        return total / len(output)

    @staticmethod
    def backward(ctx, d_loss: Tensor):
        scale = d_loss / ctx.items
        d_output, d_weight, d_bias = ctx.saved_tensors
        return (
            d_output * scale.to(d_output.dtype),
            d_weight * scale.to(d_weight.dtype),
            d_bias * scale.to(d_bias.dtype),
            None,
            None,
        )
