"""The digits: copies of each image, split, and served with a little noise."""

import torch
from sklearn.datasets import load_digits

TEST = 450  # images that nobody touches
COPIES = 4  # the noise makes each of them another image


class Digits:
    """Images (n, 1, 8, 8) with values from 0 to 1, and their digits (n,)."""

    def __init__(self, images, labels, noise=0.0):
        self.images, self.labels, self.noise = images, labels, noise

    def batches(self, size):
        """Yield all images once, in a new order each time."""
        order = torch.randperm(len(self.labels))
        self.images, self.labels = self.images[order], self.labels[order]
        for start in range(0, len(order), size):
            images = self.images[start : start + size]
            labels = self.labels[start : start + size]
            if self.noise:
                images += self.noise * torch.randn(images.shape)
            yield images, labels


def repeated(images, labels):
    """Return each image as often as `COPIES` says."""
    return images.repeat(COPIES, 1, 1, 1), labels.repeat(COPIES)


def load(use=200, share=0.25, noise=0.1, seed=0):
    """Return three sets of digits: to train on, to validate with, to test with."""
    generator = torch.Generator().manual_seed(seed)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=generator)
    test, rest = order[:TEST], order[TEST : TEST + use]
    held_out = Digits(images[test], labels[test])

    images, labels = repeated(images[rest], labels[rest])
    order = torch.randperm(len(labels), generator=generator)
    count = int(share * len(labels))
    valid, train = order[:count], order[count:]
    return (
        Digits(images[train], labels[train], noise=noise),
        Digits(images[valid], labels[valid]),
        held_out,
    )
