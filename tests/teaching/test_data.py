"""The data sets: deterministic, disjoint, of the promised shapes, and as learnable as the lessons say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fnlib import teaching
from fnlib.teaching import data


def _rows(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.reshape(-1, 64)}


def _halves(feature: Tensor) -> Tensor:
    return feature.reshape(-1, 8, 2, 8).permute(0, 2, 1, 3).reshape(-1, 64).contiguous()


def _stream_images(part: data.Stream) -> Tensor:
    return part.feature.reshape(-1, 64)


@pytest.mark.parametrize(
    ("parts", "images"),
    [
        (teaching.images(), lambda part: part.feature.reshape(-1, 64)),
        (teaching.twins(), lambda part: _halves(part.feature)),
        (teaching.stream(), _stream_images),
    ],
    ids=["images", "twins", "stream"],
)
def test_no_image_is_in_both_parts(parts: data.Data, images: object) -> None:
    train, test = _rows(images(parts.train)), _rows(images(parts.test))  # type: ignore[operator]
    assert train and test
    assert not train & test


def test_twins_are_two_images_of_the_digit_on_their_label() -> None:
    """Twins are two different images of the digit on their label."""
    singles = [
        pair for part in teaching.images() for pair in zip(part.feature, part.label, strict=True)
    ]
    known = {image.numpy().tobytes(): int(label) for image, label in singles}
    for part in teaching.twins(seed=3, pairs=500):
        for pair, label in zip(_halves(part.feature).reshape(-1, 2, 64), part.label, strict=True):
            left, right = (half.numpy().tobytes() for half in pair)
            assert left != right
            assert known[left] == known[right] == int(label)


def test_the_label_of_a_stream_is_the_digit_before() -> None:
    for part in teaching.stream(streams=3, digits=7):
        assert torch.equal(part.label[:, 1:], part.digit[:, :-1])
        assert torch.equal(part.label[:, 0], part.digit[:, -1])


def test_windows_put_together_are_the_stream() -> None:
    train = teaching.stream(streams=3, digits=7).train
    for digits in (1, 2, 7):
        windows = train.windows(digits)
        assert torch.equal(torch.cat([feature for feature, _ in windows], dim=1), train.feature)
        assert torch.equal(torch.cat([label for _, label in windows], dim=1), train.label)
        assert all(feature.shape[1] == 8 * label.shape[1] for feature, label in windows)


def test_a_seed_gives_the_same_bits_and_another_seed_other_ones() -> None:
    for make in (teaching.twins, teaching.stream):
        assert torch.equal(make(seed=1).train.feature, make(seed=1).train.feature)
        assert not torch.equal(make(seed=1).train.feature, make(seed=2).train.feature)


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    parts = teaching.twins(), teaching.images(), teaching.stream()
    parts[0].train.batches(32, seed=5)
    assert torch.equal(state, torch.get_rng_state())


def test_a_write_into_one_data_set_reaches_no_other() -> None:
    for make in (teaching.twins, teaching.images, teaching.stream):
        before = make().train.feature.clone()
        make().train.feature.zero_()
        assert torch.equal(make().train.feature, before)


def test_batches_hold_every_example_once() -> None:
    train = teaching.images().train
    for seed in (None, 0, 1):
        batches = train.batches(100, seed=seed)
        assert [len(label) for _, label in batches] == [100] * 13 + [47]
        assert torch.equal(
            torch.cat([label for _, label in batches]).bincount(), train.label.bincount()
        )
    assert torch.equal(train.batches(100)[0][1], train.label[:100])
    assert not torch.equal(train.batches(100, seed=0)[0][1], train.batches(100, seed=1)[0][1])


def test_the_hand_sized_run_gives_its_exact_numbers() -> None:
    small = teaching.hand_sized()
    rule = torch.optim.SGD([small.weight], lr=small.lr, momentum=small.momentum)
    steps = []
    for _ in range(4):
        rule.zero_grad()
        loss = small.loss(small.weight)
        loss.backward()
        rule.step()
        steps.append(
            (loss.item(), small.weight.item(), rule.state[small.weight]["momentum_buffer"].item())
        )
    assert steps == [(1, 1.5, -2), (0.25, 2, -2), (0, 2.25, -1), (0.0625, 2.25, 0)]
    assert teaching.hand_sized().weight.item() == 1, "each call gives a fresh weight"


def _train(lr: float, epochs: int, momentum: float = 0.0) -> list[float]:
    digits = teaching.twins()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    right = []
    for epoch in range(epochs):
        for feature, label in digits.train.batches(32, seed=epoch):
            optimizer.zero_grad()
            nn.functional.nll_loss(model(feature), label).backward()
            optimizer.step()
        right.append(teaching.accuracy(model, digits.test))
    return right


def test_twins_are_learnt_as_the_course_says() -> None:
    slow = _train(lr=0.01, epochs=5)
    assert slow[0] < 0.5 and slow[-1] > 0.8 and slow == sorted(slow), "a curve that one can watch"
    fast = _train(lr=0.1, epochs=5)
    assert fast[0] > 0.9 and fast[-1] > 0.97
    assert _train(lr=0.1, epochs=5, momentum=0.9)[-1] > 0.98


@pytest.mark.parametrize(("digits", "low", "high"), [(1, 0.05, 0.2), (2, 0.6, 1.0)])
def test_carried_state_needs_the_gradient_of_one_digit_back(
    digits: int, low: float, high: float
) -> None:
    """Carried state is learnt only if the gradient reaches the previous digit."""
    stream = teaching.stream()
    torch.manual_seed(0)
    rnn, head = nn.RNN(8, 64, batch_first=True), nn.Linear(64, 10)
    weights = [*rnn.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(weights, lr=0.005)
    for _ in range(12):
        hidden = None
        for feature, label in stream.train.windows(digits):
            optimizer.zero_grad()
            output, hidden = rnn(feature, hidden)
            nn.functional.cross_entropy(
                head(output[:, 7::8]).flatten(0, 1), label.flatten()
            ).backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            hidden = hidden.detach()
    with torch.no_grad():
        named = head(rnn(stream.test.feature)[0][:, 7::8]).argmax(dim=2)
    right = (named == stream.test.label)[:, 1:].float().mean().item()
    assert low < right < high


def test_accuracy_leaves_the_mode_and_the_gradients_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for training in (True, False):
        model.train(training)
        assert 0 <= teaching.accuracy(model, teaching.images().test) <= 1
        assert model.training is training
    assert all(weight.grad is None for weight in model.parameters())
