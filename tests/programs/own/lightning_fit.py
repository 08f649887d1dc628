"""Train and validate with Lightning: a module, its data, `Trainer.fit`."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(lightning.LightningModule):
    """A small network that logs its losses and steps a schedule each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3)
        )

    def training_step(self, batch, index):
        """Return the loss of a batch."""
        x, y = batch
        loss = nn.functional.cross_entropy(self.network(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, index):
        """Log the loss of a validation batch."""
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.network(x), y))

    def configure_optimizers(self):
        """Return the optimizer and its schedule."""
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def data(count: int) -> DataLoader:
    """Make batches of random inputs with three classes."""
    x = torch.randn(count, 8)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(dim=1)), batch_size=16)


if __name__ == "__main__":
    lightning.seed_everything(0)
    model = Classifier()
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        default_root_dir="checkpoints",
    )
    trainer.fit(model, data(96), data(32))
    print(f"validation loss {trainer.callback_metrics['val_loss']:.6f}")
