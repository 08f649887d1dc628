"""The encapsulated proposal: a closed box that owns its loss, its update rule and its parameters.

``step`` and ``fit`` change the box. Inside they run the functional loop, and ``box.parameters`` is
one value, which can be kept, compared and put back. The box itself keeps only the latest value and
the first, for ``fit(restart=True)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.factory import Factory
from fnlib.parameters import Parameters
from fnlib.updates.rule import UpdateRule

_SMALL = {torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64}


class Sequential:
    """Layers that are called one after the other, with a loss and an update rule of their own.

    Each method takes tensors, NumPy arrays or lists, with the examples along the first dimension.

    Args:
        modules: layers, as for ``nn.Sequential``.
        loss: a function of (output, label) that returns a tensor with one element.
        optimizer: the update rule; by default ``fnlib.SGD(lr=0.01)``.
        seed: draw the initial weights as ``fnlib.Parameters(seed=seed)`` does.

    Attributes:
        parameters: all that training has changed so far, as one value.
        loss_curve_: the mean loss of each epoch of ``fit``.

    >>> import fnlib
    >>> rule = fnlib.SGD(lr=0.5)
    >>> box = Sequential(nn.Linear(4, 3), loss=nn.CrossEntropyLoss(), optimizer=rule, seed=0)
    >>> feature, label = torch.eye(4), torch.tensor([0, 1, 2, 0])
    >>> first, second = box.step(feature, label), box.step(feature, label)
    >>> bool(second < first)
    True
    >>> box.fit(feature, label, epochs=50, batch_size=2, seed=0).score(feature, label)
    1.0
    """

    def __init__(
        self,
        *modules: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        optimizer: UpdateRule | None = None,
        seed: int | None = None,
    ) -> None:
        self.loss = loss
        self.factory = Factory(nn.Sequential(*modules), optimizer=optimizer)
        self._start = self.factory(Parameters(seed=seed)).parameters
        self.parameters = self._start
        self.loss_curve_: list[float] = []

    def step(self, feature: Any, label: Any) -> Tensor:
        """Take one training step: forward, loss, backward, step, all inside.

        Args:
            feature: a batch.
            label: its labels.

        Returns:
            The loss before the step, without a graph (``float(loss)`` is the number).
        """
        feature, label = _tensor(feature), _tensor(label)
        model = self.factory(self.parameters)
        output, buffers = model.with_buffers(feature)
        loss = self.loss(output, label)
        self.parameters = model.step(model.backward(loss), buffers=buffers)
        return loss.detach()

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        seed: int | None = None,
        restart: bool = False,
    ) -> Sequential:  # noqa: N803
        """Train on all examples for some epochs.

        A second ``fit`` goes on from where the first ended, as scikit-learn's does with
        ``warm_start=True``. tqdm, if it's installed, shows a progress bar after two seconds.

        Args:
            X: examples.
            y: labels, as many.
            epochs: how often to go through all examples.
            batch_size: examples a step; the last batch of an epoch may be smaller.
            seed: of the order of the examples; without it PyTorch's generator draws the order.
            restart: begin with the weights that the box was made with.

        Returns:
            The box itself.

        Raises:
            WrongParameters: X and y do not have the same number of examples.

        >>> import fnlib
        >>> box = fnlib.encapsulated.Sequential(nn.Linear(2, 2), loss=nn.CrossEntropyLoss(), seed=0)
        >>> X, y = torch.randn(64, 2), torch.arange(64) % 2
        >>> box.fit(X, y, epochs=2, batch_size=16).parameters.step_count, len(box.loss_curve_)
        (8, 2)
        """
        feature, label = _tensor(X), _tensor(y)
        if len(feature) != len(label):
            raise errors.WrongParameters(
                "fit needs one label for each example",
                f"got {len(feature)} examples, {len(label)} labels",
                "box.fit(X, y)   # len(X) == len(y)",
            )
        if restart:
            self.parameters, self.loss_curve_ = self._start, []
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for _ in _progress(epochs):
            order = torch.randperm(len(feature), generator=generator)
            batches = order.split(batch_size)
            losses = [self.step(feature[b], label[b]) * len(b) for b in batches]
            mean = float(torch.stack(losses).sum() / len(feature)) if losses else float("nan")
            self.loss_curve_.append(mean)
        return self

    def __call__(self, feature: Any) -> Tensor:
        """Return the output of the network in evaluation, without a graph.

        Args:
            feature: a batch.
        """
        with torch.no_grad():
            return self.factory(self.parameters, training=False)(_tensor(feature))

    def predict(self, X: Any) -> Tensor:  # noqa: N803
        """Return the class with the greatest output, an integer for each example.

        For a network that does not classify, call the box.

        Args:
            X: examples.

        >>> import fnlib
        >>> box = fnlib.encapsulated.Sequential(nn.Identity(), loss=nn.CrossEntropyLoss())
        >>> box.predict([[0.1, 0.9], [0.8, 0.2]]), box.score([[0.1, 0.9], [0.8, 0.2]], [1, 1])
        (tensor([1, 0]), 0.5)
        """
        return self(X).argmax(dim=1)

    def score(self, X: Any, y: Any) -> float:  # noqa: N803
        """Return the share of examples whose label is predicted, from 0 to 1.

        Args:
            X: examples.
            y: their labels, as `predict` returns them: one class for each example.

        Raises:
            WrongParameters: y has another shape; a comparison would broadcast it.
        """
        predicted, label = self.predict(X), _tensor(y)
        if predicted.shape != label.shape:
            raise errors.WrongParameters(
                "score compares one class with one label for each example",
                f"got classes of shape {tuple(predicted.shape)}, labels of shape {tuple(label.shape)}",
                "box.score(X, y)   # a column of labels: y.squeeze(1); one-hot rows: y.argmax(1)",
            )
        return float((predicted == label).float().mean())

    def __repr__(self) -> str:
        return f"Closed box with {self.parameters.step_count} steps behind it, of {self.factory!r}"


def _progress(epochs: int) -> Iterable[int]:
    """Count epochs, with a progress bar where tqdm is installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return range(epochs)
    # A bar that is shown at once stays on an HTML page as "epochs: 0%".
    return tqdm(range(epochs), desc="epochs", leave=False, delay=2)


def _tensor(data: Any) -> Any:
    """Copy arrays and lists; numbers get the dtypes that PyTorch's layers and losses expect."""
    if isinstance(data, Tensor):
        return data
    tensor = torch.tensor(data)
    if tensor.dtype is torch.float64:
        return tensor.to(torch.get_default_dtype())
    return tensor.long() if tensor.dtype in _SMALL else tensor  # classes: int64 alone will do
