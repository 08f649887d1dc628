"""Fine-tune a tiny GPT-2 with the Hugging Face Trainer: accumulation, clipping, warm-up, evaluation."""

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments


class Tokens(Dataset):
    """Random token sequences that are their own labels."""

    def __init__(self, count: int) -> None:
        self.tokens = torch.randint(0, 50, (count, 16))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


if __name__ == "__main__":
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config)
    arguments = TrainingArguments(
        output_dir="out",
        num_train_epochs=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        warmup_steps=2,
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=4,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=Tokens(64), eval_dataset=Tokens(16)
    )
    trainer.train()
    print(f"evaluation loss {trainer.evaluate()['eval_loss']:.6f}")
