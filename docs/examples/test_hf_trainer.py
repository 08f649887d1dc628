"""A Hugging Face Trainer under test: what may `train` change, and what may `evaluate`?

Run it with `pytest docs/examples/test_hf_trainer.py`, where fnlib, transformers and accelerate are
installed.
"""

from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

pytestmark = pytest.mark.filterwarnings("ignore")


class Tokens(Dataset):
    """Random token sequences that are their own labels."""

    def __init__(self, count: int) -> None:
        self.tokens = torch.randint(0, 50, (count, 16))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


@pytest.fixture
def model() -> GPT2LMHeadModel:
    """A tiny GPT-2, new."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    )


def trainer_of(model: GPT2LMHeadModel, folder: Path) -> Trainer:
    """Return a trainer of three steps, each of two accumulated batches."""
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=3, per_device_train_batch_size=4,
        gradient_accumulation_steps=2, save_strategy="no", report_to=[], use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip
    return Trainer(model=model, args=arguments, train_dataset=Tokens(32), eval_dataset=Tokens(8))


def test_training_moves_every_weight(model, ledger, tmp_path):
    """Three steps move all weights, the tied embedding once, and no bug shows."""
    trainer = trainer_of(model, tmp_path)
    with ledger(model):
        trainer.train()
    ledger.assert_no_findings()
    moved = ledger.changed("weight")
    assert {f"model.{name}" for name, _ in model.named_parameters()} == moved


def test_evaluation_leaves_no_trace(model, ledger, tmp_path):
    """`evaluate` moves no weight and makes no gradient."""
    trainer = trainer_of(model, tmp_path)
    with ledger(model):
        trainer.evaluate()
    assert ledger.changed("weight", "gradient", "buffer") == set()
