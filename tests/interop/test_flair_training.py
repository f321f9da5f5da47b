"""lmtrain trains as Flair's own LanguageModelTrainer does, number by number."""

import random

import pytest
import torch
from flair.data import Dictionary as FlairDictionary
from flair.models import LanguageModel
from flair.trainers.language_model_trainer import LanguageModelTrainer, TextCorpus
from lightning.pytorch.trainer.states import TrainerFn, TrainerState
from running import compose, explicit, read_metrics, train
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lmtrain.model_files.flair import load_language_model
from lmtrain.training.callbacks.anneal_on_plateau import AnnealOnPlateau

LANES, T = 5, 7
KINDS = {
    "lstm": {},
    "gru": {"recurrent_type": "GRU"},
    "two layers": {"nlayers": 2},
    "nout": {"nout": 9},
    "gru, two layers, nout": {"recurrent_type": "GRU", "nlayers": 2, "nout": 9},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two splits of about 40 windows each, with empty lines and a last line without an end."""
    folder = tmp_path_factory.mktemp("corpus")
    letters = random.Random(7)

    def text(lines: int) -> str:
        words = ["der", "Bär", "и", "мёд", "eats", "honey", "", "日本", "~"]
        return "\n".join(" ".join(letters.choices(words, k=letters.randrange(8))) for _ in range(lines))

    (folder / "train").mkdir()
    (folder / "train" / "a.txt").write_text(text(260), encoding="utf-8")
    (folder / "train" / "b.txt").write_text(text(240), encoding="utf-8")
    (folder / "valid.txt").write_text(text(60), encoding="utf-8")
    (folder / "test.txt").write_text(text(50), encoding="utf-8")
    return folder


class RecordingLoss(torch.nn.CrossEntropyLoss):
    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def forward(self, logits, targets):
        loss = super().forward(logits, targets)
        if loss.requires_grad:
            self.losses.append(loss.item())
        return loss


def train_with_flair(model, dictionary, corpus_folder, folder, forward: bool, **options):
    """Flair's training losses of every window, and its validation losses divided by what they are sums over."""
    corpus = TextCorpus(corpus_folder, dictionary, forward, character_level=True, random_case_flip=False)
    corpus.train.shuffle = False
    trainer = LanguageModelTrainer(model, corpus)
    recording = trainer.loss_function = RecordingLoss()
    validations, evaluate = [], trainer.evaluate

    def recording_evaluate(data, lanes, length):
        loss = evaluate(data, lanes, length)
        validations.append(loss * len(data) / (len(data) - 1))  # the last row is never scored
        return loss

    trainer.evaluate = recording_evaluate
    trainer.train(
        folder, sequence_length=T, mini_batch_size=LANES, max_epochs=1, num_workers=0, learning_rate=5, **options
    )
    return recording.losses, validations[:-1]  # the last one is the test


@pytest.mark.filterwarnings("ignore:.*GradScaler.*:FutureWarning")  # Flair's
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_losses_and_weights_are_those_of_flairs_trainer(kind, direction, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(LanguageModel, "generate_text", lambda _: "")  # slow, and draws random numbers
    dictionary = FlairDictionary()
    for item in "\n derBäимё atshony":
        dictionary.add_item(item)
    torch.manual_seed(1)
    is_forward = direction == "forward"
    flair_model = LanguageModel(dictionary, is_forward, hidden_size=16, dropout=0, **({"nlayers": 1} | KINDS[kind]))
    flair_model.save(tmp_path / "initial.pt")
    losses, validations = train_with_flair(flair_model, dictionary, corpus, tmp_path / "flair", is_forward)

    overrides = [
        "data=folder",
        f"data.path={corpus}",
        f"data.cache_dir={tmp_path}/cache",
        f"data.batch_size={LANES}",
        f"data.sequence_length={T}",
        "data.shuffle=false",
        "data.random_case_flip=false",
        "dictionary.max_unknown=0.2",
        f"init_from={tmp_path}/initial.pt",
        "name=run",
        f"runs_dir={tmp_path}",
        "optimizer.lr=5",
        "trainer.precision=32-true",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=1",
        "trainer.log_every_n_steps=1",
    ]
    train(compose(*overrides), explicit(*overrides))

    assert len(losses) >= 60
    assert read_metrics(tmp_path / "run", "train/loss") == pytest.approx(losses, rel=1e-5)
    assert read_metrics(tmp_path / "run", "val/loss")[1:] == pytest.approx(validations, rel=1e-5)
    before, *_, after = read_metrics(tmp_path / "run", "val/loss")
    assert after < before  # fine-tuning a model of Flair's, which Flair then loads
    assert LanguageModel.load_language_model(tmp_path / "run/best-lm.pt").is_forward_lm == is_forward
    weights = load_language_model(tmp_path / "run/checkpoints/last.ckpt").model.state_dict()
    for name, expected in flair_model.state_dict().items():
        difference = (weights[name] - expected).abs().max() / expected.abs().max()
        assert difference <= 1e-4, name


def test_the_rate_is_annealed_as_by_flairs_scheduler():
    """The same scripted losses, with patience 2: plateaus, tiny improvements, recoveries."""
    losses = [3.0, 2.5, 2.6, 2.5, 2.4999, 2.49, 2.6, 2.6, 2.6, 2.6, 2.4, 2.39999, 2.39998, 2.39997, 2.0] + [2.0] * 9
    weight = torch.nn.Parameter(torch.zeros(1))
    flairs = torch.optim.SGD([weight], lr=20)
    scheduler = ReduceLROnPlateau(flairs, factor=0.25, patience=2)  # as LanguageModelTrainer.train makes it
    ours = torch.optim.SGD([weight], lr=20)
    expected, rates = [], []
    callback = AnnealOnPlateau(factor=0.25, patience=2, min_lr=0)

    class Run:
        state = TrainerState(fn=TrainerFn.FITTING)
        should_stop = False
        val_check_batch = 1
        optimizers = (ours,)

    run = Run()
    callback.on_train_start(run, None)
    for loss in losses:
        scheduler.step(loss)
        expected.append(flairs.param_groups[0]["lr"])
        run.callback_metrics = {"val/loss": torch.tensor(loss, dtype=torch.float64)}
        callback.on_validation_end(run, None)
        rates.append(ours.param_groups[0]["lr"])
    assert rates == expected
    assert len(set(rates)) >= 4  # it did anneal
