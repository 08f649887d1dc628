"""Fit a network as a scikit-learn classifier with skorch."""

import numpy
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn


class Network(nn.Module):
    """Two layers with dropout."""

    def __init__(self, units: int = 10) -> None:
        super().__init__()
        self.dense = nn.Linear(20, units)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(units, 2)

    def forward(self, x):
        """Return the logits."""
        return self.output(self.dropout(torch.relu(self.dense(x))))


if __name__ == "__main__":
    torch.manual_seed(0)
    x = numpy.random.default_rng(0).standard_normal((200, 20)).astype(numpy.float32)
    y = (x[:, 0] > 0).astype(numpy.int64)
    net = NeuralNetClassifier(
        Network,
        criterion=nn.CrossEntropyLoss,
        max_epochs=3,
        lr=0.1,
        batch_size=20,
        callbacks=[LRScheduler(policy="StepLR", step_size=1, gamma=0.9)],
        verbose=0,
    )
    net.fit(x, y)
    print([round(loss, 6) for loss in net.history[:, "valid_loss"]])
