"""The middle proposal: a closed box that owns its loss, its update rule and its parameters.

The box has places: ``step`` and ``fit`` change it. What it does inside is the functional loop, and what it
holds is one value, so that ``box.parameters`` can be kept, compared and put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.factory import Factory
from fnlib.optim import UpdateRule
from fnlib.parameters import Parameters


class Sequential:
    """Layers that are called one after the other, with a loss and an update rule of their own.

    Args:
        modules: layers, as for ``nn.Sequential``.
        loss: a function of (output, label) that returns a tensor with one element.
        optimizer: the update rule; by default ``fnlib.SGD(lr=0.01)``.
        seed: draw the initial weights that ``torch.manual_seed(seed)`` and building the network would give.

    >>> import fnlib
    >>> box = Sequential(nn.Linear(4, 3), loss=nn.CrossEntropyLoss(), optimizer=fnlib.SGD(lr=0.5), seed=0)
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
        """Take one training step on a batch: forward, loss, backward, step, all inside.

        Args:
            feature: a batch, a tensor or a NumPy array.
            label: its labels.

        Returns:
            The loss before the step, a tensor without dimensions and without a graph (``float(loss)`` is the number).

        >>> import fnlib
        >>> box = fnlib.encapsulated.Sequential(nn.Linear(2, 1), loss=nn.MSELoss(), seed=0)
        >>> losses = [float(box.step([[1.0, 2.0]], [[3.0]])) for _ in range(100)]
        >>> losses[0] > 1, losses[-1] < 1e-3, box.parameters.step_count
        (True, True, 100)
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
        """Train on all examples, some epochs long, with a progress bar after two seconds
        if tqdm is installed.

        A second ``fit`` goes on from where the first ended. scikit-learn's ``MLPClassifier.fit`` does not: it starts
        from new weights each time, unless it was made with ``warm_start=True``. Say ``restart=True`` to begin again.

        Args:
            X: examples, first dimension first; a tensor or a NumPy array.
            y: labels, as many.
            epochs: how often all examples are gone through.
            batch_size: examples a step; the last batch of an epoch may be smaller.
            seed: the order of the examples; without it the order comes from PyTorch's generator.
            restart: begin with the weights that the box was made with.

        Returns:
            The box itself. ``loss_curve_`` holds the mean loss of each epoch. Interrupted, the box stands
            after its last whole step.

        Raises:
            WrongParameters: X and y do not have the same number of examples.

        >>> import fnlib
        >>> box = fnlib.encapsulated.Sequential(nn.Linear(2, 2), loss=nn.CrossEntropyLoss(), seed=0)
        >>> X, y = torch.randn(64, 2), torch.arange(64) % 2
        >>> box.fit(X, y, epochs=2, batch_size=16).parameters.step_count
        8
        >>> box.fit(X, y, epochs=1, batch_size=16).parameters.step_count, len(box.loss_curve_)
        (12, 3)
        >>> box.fit(X, y, epochs=1, batch_size=16, restart=True).parameters.step_count
        4
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
            losses = [
                self.step(feature[batch], label[batch]) * len(batch)
                for batch in order.split(batch_size)
            ]
            self.loss_curve_.append(
                float(torch.stack(losses).sum() / len(feature)) if losses else float("nan")
            )
        return self

    def __call__(self, feature: Any) -> Tensor:
        """Return the output of the network in evaluation, without a graph. Before any step, that of the initial weights.

        Args:
            feature: a batch, a tensor or a NumPy array.

        >>> import fnlib
        >>> fnlib.encapsulated.Sequential(nn.Linear(2, 1), nn.Dropout(), loss=nn.MSELoss())(torch.ones(4, 2)).shape
        torch.Size([4, 1])
        """
        with torch.no_grad():
            return self.factory(self.parameters, training=False)(_tensor(feature))

    def predict(self, X: Any) -> Tensor:  # noqa: N803
        """Return for each example the class with the greatest output. (For a network that does not classify, call the box.)

        Args:
            X: examples; a tensor or a NumPy array.

        Returns:
            A tensor of integers, one for each example.

        >>> import fnlib
        >>> fnlib.encapsulated.Sequential(nn.Identity(), loss=nn.CrossEntropyLoss()).predict([[0.1, 0.9], [0.8, 0.2]])
        tensor([1, 0])
        """
        return self(X).argmax(dim=1)

    def score(self, X: Any, y: Any) -> float:  # noqa: N803
        """Return the share of examples whose label is predicted, from 0 to 1.

        Args:
            X: examples; a tensor or a NumPy array.
            y: their labels.

        >>> import fnlib
        >>> fnlib.encapsulated.Sequential(nn.Identity(), loss=nn.CrossEntropyLoss()).score([[0.1, 0.9], [0.8, 0.2]], [1, 1])
        0.5
        """
        return float((self.predict(X) == _tensor(y)).float().mean())

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
    """Take NumPy arrays and lists too; floating numbers become PyTorch's default kind, as its layers expect."""
    if isinstance(data, Tensor):
        return data
    tensor = torch.tensor(data)  # a copy: what the array's owner writes later changes nothing here
    return tensor.to(torch.get_default_dtype()) if tensor.dtype is torch.float64 else tensor
