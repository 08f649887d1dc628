"""The network: two convolutions and a head."""

from torch import nn


def block(channels_in, channels_out):
    """One convolution, normalised."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class Reader(nn.Module):
    """Reads a digit: images (n, 1, 8, 8) in, scores (n, 10) out."""

    def __init__(self, width=8, hidden=32, dropout=0.2):
        super().__init__()
        self.features = nn.Sequential(block(1, width), nn.MaxPool2d(2), block(width, width))
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * width, hidden, bias=False),
            nn.BatchNorm1d(hidden, track_running_stats=False),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 10),
        )

    def forward(self, images):
        return self.head(self.features(images))
