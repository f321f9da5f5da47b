"""Uses of a GPU besides training once: resuming, fine-tuning, scripts, estimates; emulated_runs.py calls them.

Each of USES takes a folder with the run of the case FINISHED in it, and gives what test_emulated_gpu.py asserts on.
"""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import emulated_runs

FINISHED = "LSTM with nout, AdamW, 32-true"
TEXT = "the of and a to in is was he for it with as his on be at by I this had not are but\n" * 3


def model(folder: Path) -> Path:
    return folder / emulated_runs.place(FINISHED) / "best-lm.pt"


def skipped_steps(folder: Path) -> dict:
    """float16 with a scale that is too large for many steps, which are skipped."""
    options = ("trainer.precision=16-mixed", "trainer.log_every_n_steps=1", "divergence.max_rollbacks=0")
    huge = "+callbacks.scale={_target_: emulated_uses.huge_scale}"
    results = emulated_runs.train(folder, "skipped", "", *options, huge)
    norms = emulated_runs.read_metrics(folder / "skipped", "grad_norm")
    return {"steps": results["steps"], "loss": results["val/loss"], "skipped": norms.count(float("inf"))}


def rollback(folder: Path) -> dict:
    poison = "+callbacks.poison={_target_: stopping.PoisonAt, step: 12, times: 1}"
    results = emulated_runs.train(folder, "rollback", "", "checkpoint.every_steps=5", poison)
    rates = emulated_runs.read_metrics(folder / "rollback", "lr")
    return {"rates": sorted({*rates}), "steps": results["steps"], "loss": results["val/loss"]}


def another_precision(folder: Path) -> dict:
    """A run goes on where `trainer.precision=auto` means something else."""
    import torch

    from lmtrain.program.signals import Interrupted

    newer, ends = torch.cuda.is_bf16_supported, {}

    def older(*_, **__) -> bool:
        return False

    for name, before, after, accelerator in (
        ("on an older GPU", newer, older, "gpu"),
        ("on a newer GPU", older, newer, "gpu"),
        ("on the CPU", newer, newer, "cpu"),
    ):
        run = f"precision-{name.replace(' ', '-')}"
        try:
            torch.cuda.is_bf16_supported = before
            emulated_runs.train(folder, run, "", f"+callbacks.stop={emulated_runs.STOPS['in training']}")
        except Interrupted:
            torch.cuda.is_bf16_supported = after
            ends[name] = emulated_runs.train(folder, run, "", f"trainer.accelerator={accelerator}")["steps"]
        finally:
            torch.cuda.is_bf16_supported = newer
    return ends


def fine_tuning(folder: Path) -> dict:
    losses = {
        accelerator: emulated_runs.train(
            *(folder, f"tuned-{accelerator}", FINISHED, f"init_from={model(folder)}"),
            *(f"trainer.accelerator={accelerator}", "compile=false"),
        )["val/loss"]
        for accelerator in ("gpu", "cpu")
    }
    return {**losses, "before": min(emulated_runs.losses(folder / emulated_runs.place(FINISHED)))}


def scripts(folder: Path) -> dict:
    """What the scripts print and write with --device=cuda and without; and what they did in float64 on the GPU."""
    import torch
    from numpy import load
    from script_calls import call
    from torch.utils._python_dispatch import TorchDispatchMode

    in_float64 = set()

    class LooksForFloat64(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            results = function(*arguments, **(named or {}))
            for one in results if isinstance(results, (list, tuple)) else [results]:
                if isinstance(one, torch.Tensor) and one.is_cuda and one.dtype == torch.float64:
                    in_float64.add(str(function))
            return results

    (folder / "text.txt").write_text(TEXT)
    (folder / "stories.txt").write_text("".join(f"{line} and {line}\n" for line in TEXT.splitlines()))
    outputs = {}
    for device in ("cuda", "cpu"):
        printed = io.StringIO()
        with redirect_stdout(printed), LooksForFloat64():
            statuses = [
                call(name, *arguments, "--device", device)
                for name, *arguments in (
                    ("score", model(folder), folder / "text.txt", folder / "stories.txt", "--json"),
                    ("generate", model(folder), "--temperature=0", "--length=30", "--json"),
                    ("generate", model(folder), "--samples=3", "--seed=5", "--length=30", "--json"),
                    ("embed", model(folder), folder / "text.txt", "--output", folder / f"{device}.npz"),
                )
            ]
        lines = [json.loads(line) for line in printed.getvalue().splitlines()]
        texts = [line for line in lines if "negative_log_probability" in line]
        scores = [line["loss"] for line in lines if "loss" in line]
        with load(folder / f"{device}.npz") as arrays:
            vectors = [float(arrays[name].astype(float).sum()) for name in sorted(arrays.files)]
        outputs[device] = {"statuses": statuses, "texts": texts, "scores": scores, "vectors": vectors}
    return {**outputs, "in float64": sorted(in_float64)}


def cpu_beside_a_gpu(folder: Path) -> dict:
    """`trainer.accelerator=cpu` where there is a GPU: nothing comes to it, not even pinned memory; no warning."""
    import warnings

    import emulated_cuda
    import torch

    pinned = []
    pin = torch.Tensor.pin_memory
    torch.Tensor.pin_memory = lambda self, *more: (pinned.append(self.shape), pin(self, *more))[1]
    emulated_cuda.device().seen()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            emulated_runs.train(folder, "cpu", "", "trainer.accelerator=cpu", "trainer.max_steps=3")
    finally:
        torch.Tensor.pin_memory = pin
    return {"pinned": len(pinned), "seen": emulated_cuda.device().seen().names}


def older_cudnn(folder: Path) -> dict:
    """cuDNN without recurrent layers in bfloat16."""
    import os

    import emulated_cuda
    import torch

    from lmtrain.kernels.cuda import takes_bfloat16

    os.environ["EMULATED_CUDA_BFLOAT16_RNN"] = "0"
    takes_bfloat16.cache_clear()
    emulated_cuda.device().seen()
    try:
        results = emulated_runs.train(folder, "older", "", "model.dropout=0.2", "model.nlayers=2")
    finally:
        os.environ["EMULATED_CUDA_BFLOAT16_RNN"] = "1"
        takes_bfloat16.cache_clear()
    state = torch.load(folder / "older/checkpoints/last.ckpt", weights_only=True, map_location="cpu")
    return {
        "halves": emulated_cuda.device().seen().halves,
        "loss": results["val/loss"],
        "hidden": [str(part.dtype) for part in state["lmtrain"]["hidden"]],
        "log": (folder / "older/train.log").read_text(),
    }


def small_gradients(folder: Path) -> dict:
    """Gradients of the weights of a loss that is scaled down until float16 would have none of them left; the cosine
    and the ratio of lengths to those that float32 has on the CPU."""
    import torch

    from lmtrain.model.language_model import RecurrentLM, Sizes

    results = {}
    for kind in ("LSTM", "GRU"):
        torch.manual_seed(1)
        model = RecurrentLM(Sizes(20, 32, recurrent_type=kind, dropout=0.0))
        ids = torch.randint(20, (31, 8))
        gradients = []
        for device in ("cpu", "cuda"):
            model.to(device).zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss, _ = model.loss(ids[:-1].to(device), ids[1:].to(device))
            (loss * 1e-7).backward()
            gradients.append(1e7 * torch.cat([parameter.grad.flatten().cpu() for parameter in model.rnn.parameters()]))
            assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
        exact, mixed = gradients
        cosine = torch.nn.functional.cosine_similarity(exact, mixed, dim=0).item()
        results[kind] = {"cosine": cosine, "ratio": (mixed.norm() / exact.norm()).item()}
    return results


def cost(folder: Path) -> dict:
    """What is estimated, and whether that was in float16, bfloat16 or on the CPU."""
    import emulated_cuda

    from lmtrain.config.compose import compose_config
    from lmtrain.prepare.cost import estimate_cost

    small = ("data=folder", "model=tiny", "data.batch_size=4", "data.sequence_length=10")
    devices = {}
    precisions = [f"trainer.precision={precision}" for precision in ("auto", "32-true", "16-mixed")]
    for more in (*precisions, "trainer.accelerator=cpu"):
        emulated_cuda.device().seen()
        estimated = estimate_cost(compose_config(*small, more), 20, 1000, 100)
        seen = emulated_cuda.device().seen()
        devices[more] = [estimated.device, estimated.precision, seen.halves > 0, seen.writes > 0]
    return devices


def huge_scale():
    from lightning.pytorch import Callback

    class HugeScale(Callback):
        def on_train_start(self, trainer, pl_module) -> None:
            trainer.precision_plugin.scaler._init_scale = 2.0**40

    return HugeScale()


ALL = (skipped_steps, rollback, another_precision, fine_tuning, scripts, cpu_beside_a_gpu)
USES = {use.__name__: use for use in (*ALL, older_cudnn, small_gradients, cost)}
