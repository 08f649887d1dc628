"""A Lightning module under test: what may `fit` change, and what may `validate`?

Run it with `pytest docs/examples/test_lightning.py`, where fnlib and lightning are installed.
"""

from pathlib import Path

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice about workers and loggers


class Classifier(lightning.LightningModule):
    """A network with BatchNorm and dropout, of which the encoder is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.head = nn.Sequential(nn.BatchNorm1d(16), nn.Dropout(0.1), nn.Linear(16, 3))
        self.encoder.requires_grad_(False)

    def training_step(self, batch, index):
        """Return the loss of a batch."""
        x, y = batch
        return nn.functional.cross_entropy(self.head(self.encoder(x)), y)

    def validation_step(self, batch, index):
        """Log the loss of a batch."""
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.head(self.encoder(x)), y))

    def configure_optimizers(self):
        """Train what isn't frozen."""
        return torch.optim.Adam((w for w in self.parameters() if w.requires_grad), lr=1e-2)


def batches() -> DataLoader:
    """Make a few batches of random inputs."""
    x = torch.randn(48, 8)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(dim=1)), batch_size=16)


@pytest.fixture
def trainer(tmp_path: Path) -> lightning.Trainer:
    """A trainer that takes three steps and writes nothing."""
    return lightning.Trainer(
        max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip


def test_fit_trains_the_head_only(trainer, ledger):
    """Three steps move each weight of the head, nothing of the encoder, and no bug shows."""
    model = Classifier()
    with ledger(model):
        trainer.fit(model, batches())
    ledger.assert_no_findings()
    assert len(ledger.changed("weight")) == 4
    assert ledger.changed("weight") == ledger.changed("weight", of="model.head")


def test_validation_leaves_no_trace(trainer, ledger):
    """`validate` moves no weight and no running statistic."""
    model = Classifier()
    with ledger(model):
        trainer.validate(model, batches(), verbose=False)
    assert ledger.changed("weight", "buffer", "gradient") == set()


class Careless(Classifier):
    """A module whose validation switches training mode on again."""

    def validation_step(self, batch, index):
        """Forget that Lightning has called `eval()`."""
        self.train()
        return super().validation_step(batch, index)


def test_a_planted_bug_is_found(trainer, ledger):
    """Validation runs in training mode, and the ledger says at which line."""
    model = Careless()
    with ledger(model):
        trainer.validate(model, batches(), verbose=False)
    with pytest.raises(AssertionError, match="training-mode-without-gradient"):
        ledger.assert_no_findings(strict=True)
