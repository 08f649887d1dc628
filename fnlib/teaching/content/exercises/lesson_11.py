"""Lesson 11, "Can one step train thirty-two networks?": its exercises."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import fnlib
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words

OwnBatches = Callable[[Any, Any, Any, Any], Any]
Suspects = Callable[[Any, Any, Any, Any, int], Any]

# --- 11-own-batches: a batch and a mask for each network -------------------------------------------

_NETWORKS, _EXAMPLES = 3, 5


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _factory(dropped: float) -> fnlib.Factory:
    return fnlib.Sequential(nn.Linear(4, 16), nn.Dropout(dropped), nn.Linear(16, 2))


def _with_own_batches(answer: OwnBatches) -> Any:
    """Let the answer map a step without dropout over three networks, then one with dropout over equal ones."""
    features = _random(_NETWORKS, _EXAMPLES, 4, seed=1)
    labels = _random(_NETWORKS, _EXAMPLES, 2, seed=2)
    factory = _factory(dropped=0.0)
    step = fnlib.train_step(factory, nn.MSELoss())
    members = [factory(fnlib.Parameters(seed=seed)).parameters for seed in range(_NETWORKS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a loss whose label has another shape
        given = answer(step, fnlib.stack(members), features, labels)
        if given is None or given is ...:
            return None
        later, losses = _pair(given)
        masks = _masks(answer, features, labels)
        batches: dict[str, tuple[Any, Any]] = {
            "own": (features, labels),
            "all": ([features] * _NETWORKS, [labels] * _NETWORKS),
            "all labels": (features, [labels] * _NETWORKS),
            "all features": ([features] * _NETWORKS, labels),
            "first": ([features[0]] * _NETWORKS, [labels[0]] * _NETWORKS),
        }
        steps = {
            name: [step(*one) for one in zip(members, x, y, strict=True)]
            for name, (x, y) in batches.items()
        }
    found = [name for name, pairs in steps.items() if _alike(later, [p for p, _ in pairs])]
    wanted = torch.stack([loss for _, loss in steps["own"]])
    return SimpleNamespace(
        given=given,
        batches=found[0] if found else "",
        moved=not _alike(later, members),
        losses=losses.shape == wanted.shape and torch.allclose(losses, wanted, atol=1e-5),
        masks=masks,
    )


def _pair(given: Any) -> tuple[fnlib.Parameters, Tensor]:
    if isinstance(given, fnlib.Parameters):
        raise Unreadable("The losses are missing: return both, as `step` does.")
    if not (
        isinstance(given, (tuple, list))
        and len(given) == 2
        and isinstance(given[0], fnlib.Parameters)
        and isinstance(given[1], Tensor)
    ):
        raise Unreadable(
            f"Return a pair: the stacked parameters, and a tensor of losses. You returned {in_words(given)}."
        )
    return given[0], given[1]


def _alike(stacked: fnlib.Parameters, members: list[fnlib.Parameters]) -> bool:
    try:
        mine = fnlib.unstack(stacked)
    except fnlib.FnlibError:  # it isn't stacked
        return False
    return len(mine) == len(members) and all(
        one[name].shape == other[name].shape and torch.allclose(one[name], other[name], atol=1e-5)
        for one, other in zip(mine, members, strict=True)
        for name in other
    )


def _masks(answer: OwnBatches, features: Tensor, labels: Tensor) -> str:
    """Say what equal networks on equal batches dropped: "own", "same", or "refused"."""
    factory = _factory(dropped=0.5)
    equal = [factory(fnlib.Parameters(seed=0)).parameters] * _NETWORKS
    step = fnlib.train_step(factory, nn.MSELoss())
    same = (features[:1].repeat(_NETWORKS, 1, 1), labels[:1].repeat(_NETWORKS, 1, 1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            _, losses = _pair(answer(step, fnlib.stack(equal), *same))
        except RuntimeError as problem:
            if "randomness" in str(problem):
                return "refused"
            raise
    return "same" if losses.numel() == _NETWORKS and len(losses.unique()) < _NETWORKS else "own"


def _mapped(dims: Any = (0, 0, 0), randomness: str = "different") -> OwnBatches:
    def own_batches(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
        return vmap(step, in_dims=dims, randomness=randomness)(stacked, features, labels)

    return own_batches


def _looped(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    pairs = [step(*one) for one in zip(fnlib.unstack(stacked), features, labels, strict=True)]
    return fnlib.stack([value for value, _ in pairs]), torch.stack([loss for _, loss in pairs])


def _first_batch(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    mapped = vmap(step, in_dims=(0, None, None), randomness="different")
    return mapped(stacked, features[0], labels[0])


def _not_passed_on(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    _, losses = vmap(step, randomness="different")(stacked, features, labels)
    return stacked, losses


def _mean_loss(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    later, losses = vmap(step, randomness="different")(stacked, features, labels)
    return later, losses.mean()


# --- 11-suspects: the examples that pull hardest ---------------------------------------------------

_KEPT = 3


class _Data:
    """A network and examples on which each way to rank them finds others."""

    def __init__(self, seed: int = 275) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        self.criterion = nn.CrossEntropyLoss()
        scale = torch.logspace(-1, 1, 12)[torch.tensor([5, 2, 9, 0, 11, 7, 3, 10, 1, 8, 4, 6])]
        self.feature = _random(12, 4, seed=seed) * scale[:, None]
        self.label = torch.randint(3, (12,), generator=torch.Generator().manual_seed(seed))
        self.loss = torch.stack([self.loss_of(i) for i in range(12)]).detach()
        slopes = [
            torch.autograd.grad(self.loss_of(i), list(self.network.parameters())) for i in range(12)
        ]
        self.parts = [torch.stack(each).flatten(1) for each in zip(*slopes, strict=True)]
        self.whole = torch.cat(self.parts, dim=1)  # (examples, weights)

    def loss_of(self, i: int) -> Tensor:
        loss: Tensor = self.criterion(self.network(self.feature[i : i + 1]), self.label[i : i + 1])
        return loss

    def rankings(self) -> dict[str, list[int]]:
        """Rank the examples in the ways that people try, largest first."""
        ways = {
            "gradient": self.whole.norm(dim=1),
            "smallest": -self.whole.norm(dim=1),
            "loss": self.loss,
            "sum of norms": sum(part.norm(dim=1) for part in self.parts),
            "first weight": self.parts[0].norm(dim=1),
            "last weight": self.parts[-1].norm(dim=1),
            "signed sum": self.whole.sum(dim=1),
            "accumulated": self.whole.cumsum(dim=0).norm(dim=1),
        }
        return {
            name: torch.as_tensor(way).argsort(descending=True).tolist()
            for name, way in ways.items()
        }


@lru_cache(maxsize=1)
def _data() -> _Data:
    return _Data()


def _suspected(answer: Suspects) -> Any:
    data = _data()
    data.network.zero_grad()
    given = answer(data.network, data.criterion, data.feature, data.label, _KEPT)
    data.network.zero_grad()
    if given is None or given is ...:
        return None
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Tensor):
        raise Unreadable("That's a pair, such as `topk` returns. Return the indices alone.")
    try:
        indices = torch.as_tensor(given).flatten()
    except (TypeError, ValueError, RuntimeError):
        raise Unreadable(f"Return a tensor of indices; you returned {in_words(given)}.") from None
    found = indices.tolist()
    if indices.is_floating_point() and found:
        return SimpleNamespace(given=given, sizes=True, found=found)
    ranked = _data().rankings()
    ways = [way for way, order in ranked.items() if order[: len(found)] == found]
    return SimpleNamespace(
        given=given,
        sizes=False,
        found=found,
        way=ways[0] if ways and len(found) == _KEPT else "",
        wanted=ranked["gradient"],
    )


def _by(way: str) -> Callable[[Any], bool]:
    return lambda seen: seen.way == way


def _so_far(seen: Any) -> str:
    right = len(set(seen.found) & set(seen.wanted[:_KEPT]))
    return f"{right} of the {_KEPT} examples with the largest gradients are among yours; you returned {seen.found}."


def _ranked(
    size: Callable[[dict[str, Tensor]], Tensor] | None = None,
    rank: Callable[[Tensor, int], Any] = lambda sizes, k: sizes.argsort(descending=True)[:k],
) -> Suspects:
    """The way of the lesson with another size, or another ranking."""

    def suspects(network: Any, criterion: Any, feature: Any, label: Any, k: int) -> Any:
        weights = {name: weight.detach() for name, weight in network.named_parameters()}

        def loss_of(weights: Any, feature: Any, label: Any) -> Any:
            return criterion(functional_call(network, weights, (feature[None],)), label[None])

        each = vmap(grad(loss_of), in_dims=(None, 0, 0))(weights, feature, label)
        return rank((size or _norm)(each), k)

    return suspects


def _norm(each: dict[str, Tensor]) -> Tensor:
    return torch.stack([part.flatten(1).square().sum(dim=1) for part in each.values()]).sum(dim=0)


def _in_a_loop(cleared: bool) -> Suspects:
    def suspects(network: Any, criterion: Any, feature: Any, label: Any, k: int) -> Any:
        sizes = []
        for x, y in zip(feature, label, strict=True):
            if cleared:
                network.zero_grad()
            criterion(network(x[None]), y[None]).backward()
            slopes = [weight.grad.flatten() for weight in network.parameters()]
            sizes.append(torch.cat(slopes).norm())
        return torch.stack(sizes).argsort(descending=True)[:k]

    return suspects


def _by_loss(network: Any, criterion: Any, feature: Any, label: Any, k: int) -> Any:
    losses = torch.stack(
        [criterion(network(x[None]), y[None]) for x, y in zip(feature, label, strict=True)]
    )
    return losses.argsort(descending=True)[:k]


EXERCISES = (
    Exercise(
        key="11-own-batches",
        objective="Given a pure step, the learner maps it over a stack: each network has its own batch and its own dropout.",
        expects="the stacked parameters, and a tensor of losses",
        try_out=_with_own_batches,
        passes=lambda seen: seen.batches == "own" and seen.losses and seen.masks == "own",
        so_far=lambda seen: (
            "The stack isn't what the networks reach one by one, each on its own batch."
        ),
        because="Each network took its step on its own batch, and dropped units of its own.",
        hints=(
            "`vmap` takes two settings here: `in_dims=` says what is split, `randomness=` what dropout draws.",
            "In `in_dims`, 0 splits an argument and `None` shares it. `randomness=` is `error`, `same` or `different`.",
            "Count the arguments of `step` that have a part for each network. Then ask whether the networks may share a mask.",
        ),
        right=(
            lambda: _mapped(),
            lambda: _mapped(dims=0),
            lambda: _looped,
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.batches == "all",
                slug="vmap-splits-all",
                says="Each network took a step, but on all the batches together. Look at the entries of `in_dims` for features and labels: what does `None` say?",
                examples=(lambda: _mapped(dims=(0, None, None)),),
            ),
            Mistake(
                matches=lambda seen: seen.batches in ("all labels", "all features"),
                slug="vmap-splits-all",
                says="The stack is split, and one of features and labels is, too. The other one goes to each network as a whole: count the entries of `in_dims` that are 0.",
                examples=(
                    lambda: _mapped(dims=(0, 0, None)),
                    lambda: _mapped(dims=(0, None, 0)),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.batches == "first",
                says="All networks took a step, all of them on batch 0. Pass `features` and `labels` as they are, and let `in_dims` split them.",
                examples=(lambda: _first_batch,),
            ),
            Mistake(
                matches=lambda seen: seen.batches == "own" and seen.masks == "refused",
                slug="vmap-splits-all",
                says='Each network gets its own batch. With dropout in the step, `vmap` stops: it doesn\'t know whether the networks share a mask. Its message, as under "Where it breaks", names two values of `randomness=`: which one gives each network its own?',
                examples=(lambda: _mapped(randomness="error"),),
            ),
            Mistake(
                matches=lambda seen: seen.batches == "own" and seen.masks == "same",
                slug="vmap-splits-all",
                says="Each network gets its own batch, but they all drop the same units: equal networks with equal batches got equal losses. Look at `randomness=`.",
                examples=(lambda: _mapped(randomness="same"),),
            ),
            Mistake(
                matches=lambda seen: not seen.moved,
                slug="result-not-needed",
                says="The losses come back, and the parameters are those that came in. A step returns new ones: which name do they have in your code?",
                examples=(lambda: _not_passed_on,),
            ),
            Mistake(
                matches=lambda seen: seen.batches == "own" and not seen.losses,
                says="The parameters are right. The losses should be as the mapped step returns them, one for each network: print their shape.",
                examples=(lambda: _mean_loss,),
            ),
        ),
    ),
    Exercise(
        key="11-suspects",
        objective="Given a stock network and data, the learner ranks the examples by the size of their gradients.",
        expects=f"the indices of {_KEPT} examples, in a tensor",
        try_out=_suspected,
        passes=lambda seen: not seen.sizes and seen.found == seen.wanted[:_KEPT],
        so_far=_so_far,
        because="These examples have the largest gradients, largest first.",
        hints=(
            "Write the loss of one example as a function of the weights. `feature[None]` and `label[None]` make it a batch of one.",
            "`grad` turns it into a function that returns the gradient, and `vmap` maps that: share the weights, split the data.",
            "You get one tensor for each weight, with the examples as first dimension. Square, and add up all but that one.",
        ),
        right=(
            lambda: _ranked(),
            lambda: _ranked(rank=lambda sizes, k: sizes.topk(k).indices),
            lambda: _ranked(rank=lambda sizes, k: sizes.argsort(descending=True)[:k].tolist()),
            lambda: _in_a_loop(cleared=True),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.sizes,
                says="These are sizes, and the task asks where they are. `argsort` returns indices.",
                examples=(
                    lambda: _ranked(rank=lambda sizes, k: sizes.sort(descending=True).values[:k]),
                    lambda: _ranked(rank=lambda sizes, k: sizes),
                ),
            ),
            Mistake(
                matches=_by("smallest"),
                says="Ranked by gradient, but these are the smallest. Print the sizes in the order that you return.",
                examples=(lambda: _ranked(rank=lambda sizes, k: sizes.argsort()[:k]),),
            ),
            Mistake(
                matches=_by("loss"),
                slug="gradient-is-value",
                says="This is the ranking by loss. Where does your code take a gradient?",
                examples=(lambda: _by_loss,),
            ),
            Mistake(
                matches=_by("accumulated"),
                slug="backward-overwrites",
                says="The loop takes the right gradients, but each is added to those before: print `network[0].weight.grad.norm()` after each `backward()`.",
                examples=(lambda: _in_a_loop(cleared=False),),
            ),
            Mistake(
                matches=lambda seen: seen.way in ("first weight", "last weight"),
                says="You have each example's gradient. The ranking uses one weight tensor of them only: the others pull, too.",
                examples=(
                    lambda: _ranked(lambda each: each["0.weight"].flatten(1).norm(dim=1)),
                    lambda: _ranked(lambda each: list(each.values())[-1].flatten(1).norm(dim=1)),
                ),
            ),
            Mistake(
                matches=_by("sum of norms"),
                says="You use all parts of each gradient. Add up their squares, not their norms: the norm of (3, 4) is 5, and not 7.",
                examples=(
                    lambda: _ranked(
                        lambda each: torch.stack(
                            [part.flatten(1).norm(dim=1) for part in each.values()]
                        ).sum(dim=0)
                    ),
                ),
            ),
            Mistake(
                matches=_by("signed sum"),
                says="You add up each gradient's entries with their signs, and they cancel. Square them first.",
                examples=(
                    lambda: _ranked(
                        lambda each: torch.stack(
                            [part.flatten(1).sum(dim=1) for part in each.values()]
                        ).sum(dim=0)
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.found == seen.wanted,
                says=f"All examples are ranked, and the order is right. Return the first `k`; here `k` is {_KEPT}.",
                examples=(lambda: _ranked(rank=lambda sizes, k: sizes.argsort(descending=True)),),
            ),
            Mistake(
                matches=lambda seen: sorted(seen.found) == sorted(seen.wanted[:_KEPT]),
                says="These are the right examples in another order. The largest gradient comes first.",
                examples=(
                    lambda: _ranked(rank=lambda sizes, k: sizes.argsort()[-k:]),
                    lambda: _ranked(rank=lambda sizes, k: sizes.topk(k).indices.sort().values),
                ),
            ),
        ),
    ),
)
