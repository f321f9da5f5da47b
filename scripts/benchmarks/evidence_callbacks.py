"""What docs/evidence.md tried beside the recipes and no key has."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class ForgetGateBias(Callback):
    """Adds `more` to the biases of the LSTM's forget gates before the first step.

    `+callbacks.forget={_target_:benchmarks.evidence_callbacks.ForgetGateBias,more:1.0}`
    """

    def __init__(self, more: float) -> None:
        self.more = more

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:
            with torch.no_grad():
                for name, bias in pl_module.named_parameters():
                    if "bias_ih" in name:  # i, f, g, o
                        hidden = len(bias) // 4
                        bias[hidden : 2 * hidden] += self.more
