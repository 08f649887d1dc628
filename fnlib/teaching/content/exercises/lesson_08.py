"""Lesson 08, "Does recurrence need a redesign?": its exercises."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words

Pair = tuple[Tensor, Tensor]


def _try(truncate: Any) -> Any:
    """Cut the hidden state of an LSTM, and see which numbers go on and which tensors keep a graph."""
    lstm = nn.LSTM(2, 3)
    _, hidden = lstm(torch.arange(8.0).reshape(4, 1, 2))
    wanted = [part.detach().clone() for part in hidden]
    result = truncate(hidden)
    if result is None or result is ...:
        return None
    if not (
        isinstance(result, (tuple, list))
        and len(result) == 2
        and all(isinstance(part, Tensor) for part in result)
    ):
        raise Unreadable(
            f"The next piece needs a pair of tensors, (h, c). You returned {in_words(result)}."
        )
    kept = [_same(part, old) for part, old in zip(result, wanted, strict=True)]
    return SimpleNamespace(
        numbers=all(kept),
        swapped=_same(result[0], wanted[1]) and _same(result[1], wanted[0]),
        changed=[name for name, same in zip("hc", kept, strict=True) if not same],
        zeros=not any(bool(part.detach().any()) for part in result),
        linked=[part.requires_grad for part in result],
    )


def _same(part: Tensor, old: Tensor) -> bool:
    return part.shape == old.shape and torch.equal(part.detach(), old)


def _what_changed(seen: Any) -> str:
    if not seen.changed:
        return ""
    which = "`h` and `c`" if len(seen.changed) == 2 else f"`{seen.changed[0]}`"
    return f"Wanted: the numbers as they were. Got other numbers in {which}."


# --- 08-reach: one step over several pieces ---------------------------------------------------------

PIECES, REACH = 6, 2


def _setting() -> tuple[nn.Module, torch.optim.Optimizer, list[Pair]]:
    """Build a small recurrent network, its optimizer and six pieces, the same each time."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    network = nn.RNN(2, 3)
    pieces = [(torch.randn(4, 2, 2), torch.randn(4, 2, 3)) for _ in range(PIECES)]
    torch.set_rng_state(torch_state)
    return network, torch.optim.SGD(network.parameters(), lr=0.5), pieces


def _reached(read: Any) -> Any:
    """Let ``read`` train over six pieces, two per step, and compare its weights with those of known loops."""
    network, optimizer, pieces = _setting()
    try:
        hidden = read(network, optimizer, nn.functional.mse_loss, pieces, REACH)
    except (AttributeError, RuntimeError) as problem:
        if "'float' object has no attribute 'backward'" in str(problem):
            raise Unreadable(
                "A plain number has no `backward`. Is there an `item()` in your sum? Add up the losses themselves."
            ) from problem
        if "second time" in str(problem):
            raise Unreadable(
                "A `backward` met a graph that was freed before. After each step, begin a new sum and detach the hidden state."
            ) from problem
        raise
    start = _weights(_setting()[0])
    if hidden is ...:
        return None
    if _near(_weights(network), start):
        raise Unreadable(
            "The network still has its first weights. Is `optimizer.step()` ever reached?"
        )
    known = {name: _weights_of(loop) for name, loop in _LOOPS.items()}
    return SimpleNamespace(
        like={name for name, weights in known.items() if _near(_weights(network), weights)},
        start=start,
    )


def _weights(network: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in network.parameters()]


def _weights_of(read: Any) -> list[Tensor]:
    network, optimizer, pieces = _setting()
    read(network, optimizer, nn.functional.mse_loss, pieces, REACH)
    return _weights(network)


def _near(weights: list[Tensor], others: list[Tensor]) -> bool:
    return all(
        torch.allclose(weight, other, atol=1e-6)
        for weight, other in zip(weights, others, strict=True)
    )


def _reading(
    *,
    carried: bool = True,
    cut_each: bool = False,
    step_each: bool = False,
    emptied: bool = True,
    last_only: bool = False,
    scale: float = 1.0,
    first: int = 1,
    once: bool = False,
) -> Any:
    """Make a loop over pieces: the defaults are right, and each argument is one thing that people change."""

    def read(
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        criterion: Any,
        pieces: list[Pair],
        reach: int,
    ) -> Any:
        hidden, total = None, torch.zeros(())
        for number, (feature, label) in enumerate(pieces, first):
            output, hidden = network(feature, hidden)
            loss = scale * criterion(output, label)
            total = loss if last_only else total + loss
            hidden = hidden.detach() if cut_each or step_each else hidden
            if step_each or number % (len(pieces) if once else reach) == 0:
                if emptied:
                    optimizer.zero_grad()
                total.backward()
                optimizer.step()
                hidden, total = hidden.detach() if carried else None, torch.zeros(())
        return hidden

    return read


_LOOPS = {
    "right": _reading(),
    "forgets": _reading(carried=False),
    "cuts each": _reading(cut_each=True),
    "steps each": _reading(step_each=True),
    "adds up": _reading(emptied=False),
    "last loss": _reading(last_only=True),
    "mean": _reading(scale=1 / REACH),
    "early": _reading(first=0),
    "once": _reading(once=True),
}


EXERCISES = (
    Exercise(
        key="08-truncate",
        objective="Given the hidden state of an LSTM, the learner cuts it: the numbers go on, the gradient stops.",
        expects="a function of hidden, a pair (h, c), that returns a pair",
        try_out=_try,
        passes=lambda seen: seen.numbers and seen.linked == [False, False],
        so_far=_what_changed,
        because="Both tensors keep their numbers, and neither has a graph behind it.",
        hints=(
            "The loop of the lesson cuts one tensor. Here there are two of them, in a tuple.",
            "Take the tuple apart first: `h, c = hidden`. A tuple has no `detach`, but its tensors have.",
            "Print `requires_grad` of both tensors that you return. It should be False twice.",
        ),
        right=(
            lambda: _both,
            lambda: lambda hidden: tuple(part.detach().clone() for part in hidden),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.zeros,
                slug="detach-forgets",
                says="The next piece gets zeros, so the network has forgotten the piece before. Keep the numbers: print `hidden[0]` and what you return.",
                examples=(lambda: lambda hidden: tuple(torch.zeros_like(part) for part in hidden),),
            ),
            Mistake(
                matches=lambda seen: seen.swapped,
                says="The two tensors changed places. An LSTM wants them in the order `(h, c)`.",
                examples=(lambda: lambda hidden: (hidden[1].detach(), hidden[0].detach()),),
            ),
            Mistake(
                matches=lambda seen: seen.numbers and seen.linked in ([True, False], [False, True]),
                says="One of the two still has its graph. Print `requires_grad` of both tensors that you return.",
                examples=(lambda: _only_h, lambda: _only_c),
            ),
            Mistake(
                matches=lambda seen: seen.numbers and seen.linked == [True, True],
                says="The numbers go on, and so does the gradient: both tensors still have their graph. Print `requires_grad` of what you return.",
                examples=(
                    lambda: lambda hidden: hidden,
                    lambda: lambda hidden: tuple(part.clone() for part in hidden),
                ),
            ),
        ),
    ),
    Exercise(
        key="08-reach",
        objective="Given pieces of a stream, the learner takes a step over several of them, with the gradient through all.",
        expects="a network trained with one step per `reach` pieces, by the gradient of the sum of their losses",
        try_out=_reached,
        passes=lambda seen: "right" in seen.like,
        because="Each step's gradient went back through all the pieces since the last cut.",
        hints=(
            "Keep a running sum of the losses. One `backward` of that sum goes through all its pieces, if nothing was cut between them.",
            "`number % reach == 0` tells you when to step, if you count the pieces from 1.",
            "After a step two things begin afresh: the sum, and the graph behind the hidden state. The numbers in it go on.",
        ),
        right=(lambda: _reading(),),
        mistakes=(
            Mistake(
                matches=lambda seen: "forgets" in seen.like,
                slug="detach-forgets",
                says="The steps come at the right pieces. After each of them your network starts from an empty hidden state, though: cut it, and keep its numbers.",
                examples=(lambda: _reading(carried=False),),
            ),
            Mistake(
                matches=lambda seen: "cuts each" in seen.like,
                slug="carrying-teaches",
                says="The steps come at the right pieces. But the hidden state is cut after every piece, so no gradient reaches the piece before. Cut only after a step.",
                examples=(lambda: _reading(cut_each=True),),
            ),
            Mistake(
                matches=lambda seen: "steps each" in seen.like,
                says="Your loop steps after every piece. Print `number` where it steps: with `reach` 2, that should be 2, 4 and 6.",
                examples=(lambda: _reading(step_each=True),),
            ),
            Mistake(
                matches=lambda seen: "adds up" in seen.like,
                slug="backward-overwrites",
                says="The first step is right. In the second one, the gradient of the first is still in `.grad`. Which line of a stock loop removes it?",
                examples=(lambda: _reading(emptied=False),),
            ),
            Mistake(
                matches=lambda seen: "last loss" in seen.like,
                says="The steps come at the right pieces, with the loss of the last piece alone. Add up the losses since the last step.",
                examples=(lambda: _reading(last_only=True),),
            ),
            Mistake(
                matches=lambda seen: "mean" in seen.like,
                says="Nearly: your gradient is that of the mean of the losses. The task asks for their sum.",
                examples=(lambda: _reading(scale=1 / REACH),),
            ),
            Mistake(
                matches=lambda seen: "early" in seen.like,
                says="Your first step comes after one piece. `enumerate` counts from 0 unless you tell it otherwise: `enumerate(pieces, 1)`.",
                examples=(lambda: _reading(first=0),),
            ),
            Mistake(
                matches=lambda seen: "once" in seen.like,
                says="Your loop steps once, at the end of the stream. Print `number` where it steps: with `reach` 2, that should be 2, 4 and 6.",
                examples=(lambda: _reading(once=True),),
            ),
        ),
    ),
)


def _both(hidden: Pair) -> Pair:
    h, c = hidden
    return h.detach(), c.detach()


def _only_h(hidden: Pair) -> Pair:
    h, c = hidden
    return h.detach(), c


def _only_c(hidden: Pair) -> Pair:
    h, c = hidden
    return h, c.detach()
