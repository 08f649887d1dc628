"""The closed box against the stock loop, bit for bit, and against what scikit-learn does."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import numpy
import pytest
import torch
from torch import nn

import fnlib
from fnlib import encapsulated

RULES = [
    (fnlib.SGD(lr=0.1), lambda weights: torch.optim.SGD(weights, lr=0.1)),
    (
        fnlib.SGD(lr=0.1, momentum=0.9),
        lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
    ),
    (fnlib.Adam(lr=0.01), lambda weights: torch.optim.Adam(weights, lr=0.01)),
]


def layers() -> list[nn.Module]:
    return [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.25), nn.Linear(8, 3)]


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(40, 6, generator=generator), torch.randint(0, 3, (40,), generator=generator)


@pytest.mark.parametrize(("rule", "stock"), RULES, ids=["SGD", "momentum", "Adam"])
def test_fit_has_the_bits_of_the_stock_loop(rule: object, stock: object) -> None:
    feature, label = data()
    box = encapsulated.Sequential(*layers(), loss=nn.CrossEntropyLoss(), optimizer=rule, seed=0)
    torch.manual_seed(0)
    network = nn.Sequential(*layers())
    optimizer = stock(network.parameters())
    torch.manual_seed(5)
    box.fit(feature, label, epochs=3, batch_size=16, seed=2)
    torch.manual_seed(5)
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        for batch in torch.randperm(40, generator=generator).split(16):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(feature[batch]), label[batch]).backward()
            optimizer.step()
    state = box.parameters.state_dict()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    network.eval()
    assert torch.equal(box(feature), network(feature).detach())


def test_a_second_fit_goes_on_and_restart_begins_again() -> None:
    feature, label = data()
    boxes = [
        encapsulated.Sequential(*layers()[:1], loss=nn.CrossEntropyLoss(), seed=0) for _ in range(2)
    ]
    boxes[0].fit(feature, label, epochs=1, seed=1).fit(feature, label, epochs=1, seed=2)
    assert boxes[0].parameters.step_count == 4 and len(boxes[0].loss_curve_) == 2
    boxes[0].fit(feature, label, epochs=1, seed=1, restart=True)
    boxes[1].fit(feature, label, epochs=1, seed=1)
    assert boxes[0].parameters == boxes[1].parameters and len(boxes[0].loss_curve_) == 1


@pytest.mark.long
def test_scikit_learn_restarts_as_the_docstring_says() -> None:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    feature, label = (part.numpy() for part in data())

    def coefficients(**arguments: bool) -> list[list[numpy.ndarray]]:
        other = MLPClassifier(hidden_layer_sizes=(4,), max_iter=2, random_state=0, **arguments)
        with pytest.warns(ConvergenceWarning):
            return [[w.copy() for w in other.fit(feature, label).coefs_] for _ in range(2)]

    first, second = coefficients()
    assert all(numpy.array_equal(a, b) for a, b in zip(first, second, strict=True))
    first, second = coefficients(warm_start=True)
    assert not any(numpy.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_numpy_arrays_are_taken() -> None:
    feature, label = data()
    box = encapsulated.Sequential(nn.Linear(6, 3), loss=nn.CrossEntropyLoss(), seed=0)
    twin = encapsulated.Sequential(nn.Linear(6, 3), loss=nn.CrossEntropyLoss(), seed=0)
    box.fit(feature.double().numpy(), label.numpy(), epochs=1, seed=0)
    twin.fit(feature, label, epochs=1, seed=0)
    assert box.parameters == twin.parameters
    assert 0.0 <= box.score(feature.numpy(), label.numpy()) <= 1.0


def test_what_does_not_match_is_refused_and_changes_nothing() -> None:
    feature, label = data()
    box = encapsulated.Sequential(nn.Linear(6, 3), loss=nn.CrossEntropyLoss(), seed=0)
    before = box.parameters
    with pytest.raises(fnlib.WrongParameters, match="40 examples, 39 labels"):
        box.fit(feature, label[1:])
    with pytest.raises(IndexError, match="out of bounds"):  # PyTorch's own
        box.step(feature, label + 7)
    assert box.parameters is before


def test_arrays_read_only_or_written_to_later() -> None:
    """Accept arrays that can't be written to, and arrays that are written to later."""
    feature, label = (part.numpy().copy() for part in data())
    feature.flags.writeable = False
    box = encapsulated.Sequential(nn.Linear(6, 3), loss=nn.CrossEntropyLoss(), seed=0).fit(
        feature, label, epochs=1, seed=0
    )
    assert (box.predict(feature) == label).float().mean() == box.score(feature, label)
    owned = feature.copy()
    tensor = encapsulated._tensor(owned)
    owned[:] = 0
    assert tensor.any()


def test_an_interrupted_fit_stands_after_its_last_whole_step() -> None:
    feature, label = data()
    calls = []

    def loss(output: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(output, wanted)

    box = encapsulated.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3), loss=loss, seed=0)
    with pytest.raises(KeyboardInterrupt):
        box.fit(feature, label, epochs=5, batch_size=16, seed=0)
    assert box.parameters.step_count == 2 and box.parameters.buffers["1.num_batches_tracked"] == 2
    assert box.fit(feature, label, epochs=1, batch_size=16).parameters.step_count == 5


@pytest.mark.long
def test_the_progress_bar_is_loaded_when_first_used() -> None:
    code = "import sys, fnlib.encapsulated; sys.exit('tqdm.auto' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_box_is_the_functional_loop_inside() -> None:
    """The same core: what a box holds goes on in an open loop, and back."""
    feature, label = data()
    box = encapsulated.Sequential(
        *layers(), loss=nn.CrossEntropyLoss(), optimizer=fnlib.Adam(lr=0.01), seed=0
    )
    box.step(feature, label)
    ModelFactory = fnlib.Sequential(*layers(), optimizer=fnlib.Adam(lr=0.01))
    torch.manual_seed(3)
    model = ModelFactory(box.parameters)
    output, buffers = model.with_buffers(feature)
    parameters = model.step(
        model.backward(nn.functional.cross_entropy(output, label)), buffers=buffers
    )
    torch.manual_seed(3)
    kept = box.parameters
    loss = box.step(feature, label)
    assert box.parameters == parameters and not loss.requires_grad and loss.shape == ()
    box.parameters = kept
    assert box.parameters.step_count == 1


def test_a_box_keeps_its_first_value_and_its_latest() -> None:
    """The values in between are freed; ``fit(restart=True)`` goes back to the first."""
    feature, label = data()
    box = encapsulated.Sequential(nn.Linear(6, 3), loss=nn.CrossEntropyLoss(), seed=0)
    first = box.parameters["0.weight"]
    values = [weakref.ref(box.parameters)]
    for _ in range(3):
        box.step(feature, label)
        values.append(weakref.ref(box.parameters))
    gc.collect()
    assert [value() is not None for value in values] == [True, False, False, True]
    assert not torch.equal(box.parameters["0.weight"], first)
    box.fit(feature, label, epochs=0, restart=True)
    assert torch.equal(box.parameters["0.weight"], first) and box.parameters.step_count == 0


def test_the_loss_curve_is_the_mean_over_examples() -> None:
    feature, label = data()
    box = encapsulated.Sequential(
        nn.Linear(6, 3), loss=nn.CrossEntropyLoss(), optimizer=fnlib.SGD(lr=0.0), seed=0
    )
    box.fit(feature, label, epochs=2, batch_size=16)  # batches of 16, 16 and 8
    assert box.loss_curve_ == pytest.approx(
        [float(nn.functional.cross_entropy(box(feature), label))] * 2, rel=1e-5
    )


def test_fit_needs_no_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The progress bar is a nicety: fnlib requires torch and safetensors only."""
    feature, label = data()
    boxes = []
    for _ in range(2):
        box = encapsulated.Sequential(nn.Linear(6, 3), loss=nn.CrossEntropyLoss(), seed=0)
        boxes.append(box.fit(feature, label, epochs=2, seed=1))
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        monkeypatch.setitem(sys.modules, "tqdm", None)
    assert boxes[0].parameters == boxes[1].parameters


def rows(labels: torch.Tensor) -> dict[str, object]:
    return {
        "a column": labels.unsqueeze(1),
        "a row": labels.unsqueeze(0),
        "too few": labels[:-1],
        "one": labels[:1],
        "a number": labels[0],
        "one-hot": nn.functional.one_hot(labels, 3),
        "a list of lists": [[int(label)] for label in labels],
    }


@pytest.mark.parametrize("shape", rows(torch.tensor([0, 1, 2])))
def test_score_takes_one_label_for_each_example(shape: str) -> None:
    box = encapsulated.Sequential(nn.Identity(), loss=nn.CrossEntropyLoss())
    labels = torch.tensor([0, 1, 2])
    assert box.score(torch.eye(3), labels) == 1.0
    with pytest.raises(fnlib.WrongParameters, match="one class with one label"):
        box.score(torch.eye(3), rows(labels)[shape])


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_may_be_numpy_integers_of_any_size(dtype: str) -> None:
    feature, label = data()
    boxes = [
        encapsulated.Sequential(nn.Linear(6, 3), loss=nn.CrossEntropyLoss(), seed=0)
        for _ in range(2)
    ]
    boxes[0].fit(feature, label, epochs=1, seed=1)
    boxes[1].fit(feature.numpy(), label.numpy().astype(dtype), epochs=1, seed=1)
    assert boxes[0].parameters == boxes[1].parameters
    scores = [box.score(feature, label.numpy().astype(dtype)) for box in boxes]
    assert scores[0] == boxes[0].score(feature, label) == scores[1]
