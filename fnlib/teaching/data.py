"""The handwritten digits of the lessons: twins, images, a stream; and the network that is worked by hand.

Data: Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998; the
copy inside scikit-learn (1,797 images of 8 x 8, written by 13 people). Nothing is downloaded. A quarter of the
images is kept for testing and is never trained on; the same people wrote both parts, so these are *new images*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

CREDIT = "Digits: Alpaydin and Kaynak, UCI Machine Learning Repository, 1998"
TEST_IMAGES = 450


@dataclass(frozen=True)
class Split:
    """One part of a data set: features and labels of the same length.

    Attributes:
        name: what it holds, in words.
        feature: float32, first dimension = examples, values from 0 (paper) to 1 (ink).
        label: int64, shape (examples,), the digit from 0 to 9.
    """

    name: str
    feature: Tensor
    label: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        return f"{self.name}: feature {tuple(self.feature.shape)}, label {tuple(self.label.shape)}"

    def batches(self, size: int = 32, seed: int | None = None) -> list[tuple[Tensor, Tensor]]:
        """Cut the examples into (feature, label) pairs for one epoch.

        Args:
            size: examples a batch; the last batch may be smaller.
            seed: shuffles the examples, the same way each time; ``None`` keeps their order. PyTorch's global
                generator is not touched, so that a shuffle never changes what dropout draws.

        Returns:
            A list, so that it can be gone through again: feature (size, ...), label (size,).

        Example:
            >>> feature, label = images().train.batches(64, seed=0)[0]
            >>> feature.shape, label.shape
            (torch.Size([64, 1, 8, 8]), torch.Size([64]))
        """
        order = (
            torch.arange(len(self))
            if seed is None
            else torch.randperm(len(self), generator=_generator(seed))
        )
        return [(self.feature[part], self.label[part]) for part in order.split(size)]


@dataclass(frozen=True)
class Stream:
    """Digits one below the other, many streams side by side, read one row of 8 points at a time.

    The task at the last row of each digit: name the digit *before* it. Before the first digit of a stream comes its
    last one, as on a loop of film.

    Attributes:
        feature: float32, shape (streams, 8 * digits, 8): rows in reading order.
        label: int64, shape (streams, digits): the digit before each digit.
        digit: int64, shape (streams, digits): the digits themselves.
    """

    name: str
    feature: Tensor
    label: Tensor
    digit: Tensor

    def __len__(self) -> int:
        return self.digit.shape[1]

    def __repr__(self) -> str:
        return f"{self.name}: feature {tuple(self.feature.shape)}, label {tuple(self.label.shape)}"

    def windows(self, digits: int = 2) -> list[tuple[Tensor, Tensor]]:
        """Cut the streams into pieces that follow one another, for truncated training.

        Args:
            digits: how many digits a piece holds; the last piece may hold fewer.

        Returns:
            A list of feature (streams, 8 * digits, 8) and label (streams, digits), in reading order.

        Example:
            >>> feature, label = stream().train.windows(digits=2)[0]
            >>> feature.shape, label.shape
            (torch.Size([64, 16, 8]), torch.Size([64, 2]))
        """
        return list(
            zip(self.feature.split(8 * digits, dim=1), self.label.split(digits, dim=1), strict=True)
        )


class Data(NamedTuple):
    """A data set in two parts that share no image.

    Attributes:
        train: what a network learns from.
        test: new images, to measure on.
    """

    train: Any
    test: Any


def twins(seed: int = 0, pairs: int = 4000) -> Data:
    """Two different images of one digit side by side: 128 inputs, 10 classes.

    Args:
        seed: which pairs are drawn. Train and test images stay the same.
        pairs: how many pairs to train on; the test part has a quarter as many.

    Returns:
        ``train`` and ``test``: feature (pairs, 128), label (pairs,).

    Example:
        >>> digits = twins()
        >>> digits.train, digits.test
        (twins to train on: feature (4000, 128), label (4000,), twins to test on: feature (1000, 128), label (1000,))
    """
    generator = _generator(seed)
    (train_image, train_digit), (test_image, test_digit) = _digits()
    train = _pair_up(train_image, train_digit, pairs, generator)
    test = _pair_up(test_image, test_digit, max(1, pairs // 4), generator)
    return Data(Split("twins to train on", *train), Split("twins to test on", *test))


def images() -> Data:
    """The single digits, for convolutions.

    Returns:
        ``train``: feature (1347, 1, 8, 8), label (1347,); ``test``: feature (450, 1, 8, 8), label (450,).

    Example:
        >>> images().train.feature.shape
        torch.Size([1347, 1, 8, 8])
    """
    train, test = ((image[:, None].clone(), digit.clone()) for image, digit in _digits())
    return Data(Split("images to train on", *train), Split("images to test on", *test))


def stream(seed: int = 0, streams: int = 64, digits: int = 120) -> Data:
    """Digits one below the other; the task is to name the digit before, so that carried state matters.

    Args:
        seed: which digits are drawn. Train and test images stay the same.
        streams: how many streams run side by side; this is the batch.
        digits: how many digits a stream holds; the test streams hold 50.

    Returns:
        ``train`` and ``test``, each a ``Stream``: feature (streams, 8 * digits, 8), label (streams, digits).

    Example:
        >>> stream().test
        streams to test on: feature (64, 400, 8), label (64, 50)
    """
    generator = _generator(seed)
    parts = []
    for name, (image, digit), length in zip(
        ("train", "test"), _digits(), (digits, 50), strict=True
    ):
        chosen = torch.randint(len(image), (streams, length), generator=generator)
        before = digit[chosen].roll(1, dims=1)
        parts.append(
            Stream(f"streams to {name} on", image[chosen].flatten(1, 2), before, digit[chosen])
        )
    return Data(*parts)


class HandSized(NamedTuple):
    """A training run that fits on paper: one weight, exact in binary.

    The loss is ``(feature * weight - label) ** 2 / 4``. With lr 1/4 and momentum 1/2 the steps are

        loss before   weight after   buffer after
        1             1.5            -2
        0.25          2              -2
        0             2.25           -1           (the gradient is zero, and the weight still moves)
        0.0625        2.25            0
    """

    weight: Tensor
    feature: Tensor
    label: Tensor
    lr: float
    momentum: float

    def loss(self, weight: Tensor) -> Tensor:
        """Loss of a weight, a scalar."""
        return (self.feature * weight - self.label) ** 2 / 4


def hand_sized() -> HandSized:
    """One weight w = 1, loss = (2w - 4)^2 / 4, lr = 1/4, momentum = 1/2: every number is exact.

    Returns:
        A fresh ``weight`` (a scalar tensor that wants a gradient), ``feature``, ``label``, ``lr``, ``momentum``.

    Example:
        >>> small = hand_sized()
        >>> small.loss(small.weight).item()
        1.0
    """
    return HandSized(
        torch.tensor(1.0, requires_grad=True), torch.tensor(2.0), torch.tensor(4.0), 0.25, 0.5
    )


def accuracy(predict: Callable[[Tensor], Tensor], split: Split) -> float:
    """Share of a split that a model names right.

    No gradient is recorded. The mode of the model is left as it is: a model in training mode answers as it trains,
    dropout and running statistics included, so pass one in evaluation mode where that matters.

    Args:
        predict: a model, or any function from features to one score a class, (examples, 10).
        split: what to measure on.

    Returns:
        Between 0 and 1.

    Example:
        >>> accuracy(lambda feature: torch.nn.functional.one_hot(images().test.label, 10), images().test)
        1.0
    """
    with torch.no_grad():
        named = predict(split.feature).argmax(dim=1)
    return (named == split.label).float().mean().item()


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@lru_cache(maxsize=1)
def _digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(image (n, 8, 8) from 0 to 1, digit (n,)) to train on and to test on; the split never changes."""
    from sklearn.datasets import load_digits

    source = load_digits()
    image = torch.tensor(source.images, dtype=torch.float32) / 16
    digit = torch.tensor(source.target)
    order = torch.randperm(len(digit), generator=_generator(0))
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    return (image[train], digit[train]), (image[test], digit[test])


def _pair_up(
    image: Tensor, digit: Tensor, pairs: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw ``pairs`` digits, and for each two different images of it: (pairs, 128) and (pairs,)."""
    order = digit.argsort(stable=True)
    image, count = image[order], torch.bincount(digit, minlength=10)
    start = count.cumsum(0) - count
    label = torch.randint(10, (pairs,), generator=generator)
    left = (torch.rand(pairs, generator=generator) * count[label]).long()
    shift = (
        1 + (torch.rand(pairs, generator=generator) * (count[label] - 1)).long()
    )  # never 0: never the same image
    right = (left + shift) % count[label]
    both = torch.cat([image[start[label] + left], image[start[label] + right]], dim=2)
    return both.flatten(1), label
