"""Lesson 08, "Does recurrence need a redesign?": its exercises."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words, names_in

Pair = tuple[Tensor, Tensor]


def _try(truncate: Any) -> Any:
    """Truncate the hidden state that an LSTM has handed out, and see what goes on and what stops."""
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
            f"The next piece needs a pair of tensors, (h, c); you gave {in_words(result)}."
        )
    return SimpleNamespace(
        numbers=all(
            part.shape == old.shape and torch.equal(part.detach(), old)
            for part, old in zip(result, wanted, strict=True)
        ),
        zeros=not any(bool(part.detach().any()) for part in result),
        linked=[part.requires_grad for part in result],
    )


# --- 08-reach: one step over several pieces ---------------------------------------------------------

PIECES, REACH = 6, 2


def _setting() -> tuple[nn.Module, torch.optim.Optimizer, list[Pair]]:
    """A small recurrent network, its optimizer and six pieces; the same each time, whatever was drawn before."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    network = nn.RNN(2, 3)
    pieces = [(torch.randn(4, 2, 2), torch.randn(4, 2, 3)) for _ in range(PIECES)]
    torch.set_rng_state(torch_state)
    return network, torch.optim.SGD(network.parameters(), lr=0.5), pieces


def _reached(read: Any) -> Any:
    """Let ``read`` train over six pieces, two a step, and lay its weights beside those of loops that are known."""
    network, optimizer, pieces = _setting()
    try:
        hidden = read(network, optimizer, nn.functional.mse_loss, pieces, REACH)
    except (AttributeError, RuntimeError) as problem:
        if "'float' object has no attribute 'backward'" in str(problem) and "item" in names_in(
            read
        ):
            raise Unreadable(
                "item() gives a plain number, which leads back to no weight: add the losses themselves up."
            ) from problem
        if "second time" in str(problem):
            raise Unreadable(
                "A backward meets a graph that is used up: after each step begin a new sum, and detach the hidden state."
            ) from problem
        raise
    start = _weights(_setting()[0])
    if hidden is ...:
        return None
    if _near(_weights(network), start):
        raise Unreadable("The network has its first weights still: no optimizer.step() was taken.")
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
    """A loop over pieces; the defaults are right, each argument is one thing that people do otherwise."""

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
        objective="Given the hidden state of an LSTM, the learner truncates it: the numbers go on, the gradient stops.",
        expects="a function of hidden, a pair (h, c), that returns a pair",
        try_out=_try,
        passes=lambda seen: seen.numbers and seen.linked == [False, False],
        because="Both tensors keep their numbers, and neither leads back into the old graph.",
        hints=(
            "An LSTM hands on two tensors. Both lead back into the graph.",
            "A tuple has no detach(); its tensors have.",
            "h, c = hidden; return h.detach(), c.detach()",
        ),
        right=(
            lambda: _both,
            lambda: lambda hidden: tuple(part.detach().clone() for part in hidden),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.zeros,
                slug="detach-forgets",
                says="You gave zeros: the network starts afresh and remembers nothing.",
                examples=(lambda: lambda hidden: tuple(torch.zeros_like(part) for part in hidden),),
            ),
            Mistake(
                matches=lambda seen: seen.numbers and seen.linked in ([True, False], [False, True]),
                says="One of the two still leads back: the next backward meets the used graph through it.",
                examples=(lambda: _only_h, lambda: _only_c),
            ),
            Mistake(
                matches=lambda seen: seen.numbers and seen.linked == [True, True],
                says="Both still lead back. A copy made by clone() is part of the graph too; only detach() cuts.",
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
        expects="a function of (network, optimizer, criterion, pieces, reach) that trains the network",
        try_out=_reached,
        passes=lambda seen: "right" in seen.like,
        because="The gradient reaches back over all the pieces since the last cut, and the numbers go on.",
        hints=(
            "Add the losses of the pieces up. One backward of their sum goes through all of them, if nothing is cut between.",
            "number % reach == 0 is where a step belongs, and the cut with it.",
            "optimizer.zero_grad(); total.backward(); optimizer.step(); hidden, total = hidden.detach(), 0.0",
        ),
        right=(lambda: _reading(),),
        mistakes=(
            Mistake(
                matches=lambda seen: "forgets" in seen.like,
                slug="detach-forgets",
                says="You start afresh after each step; hidden.detach() would have carried the numbers on.",
                examples=(lambda: _reading(carried=False),),
            ),
            Mistake(
                matches=lambda seen: "cuts each" in seen.like,
                slug="carrying-teaches",
                says="You cut after each piece, so that no loss sends a gradient to the piece before. Cut only where you step.",
                examples=(lambda: _reading(cut_each=True),),
            ),
            Mistake(
                matches=lambda seen: "steps each" in seen.like,
                says="You step after each piece. Step only after every `reach` of them.",
                examples=(lambda: _reading(step_each=True),),
            ),
            Mistake(
                matches=lambda seen: "adds up" in seen.like,
                slug="backward-overwrites",
                says="Before each backward, zero_grad belongs.",
                examples=(lambda: _reading(emptied=False),),
            ),
            Mistake(
                matches=lambda seen: "last loss" in seen.like,
                says="Only the last of the losses was used. Add all of them up since the last cut.",
                examples=(lambda: _reading(last_only=True),),
            ),
            Mistake(
                matches=lambda seen: "mean" in seen.like,
                says="You step with the mean of the losses; their sum is asked for.",
                examples=(lambda: _reading(scale=1 / REACH),),
            ),
            Mistake(
                matches=lambda seen: "early" in seen.like,
                says="Your first step comes after one piece: count the pieces from 1, enumerate(pieces, 1).",
                examples=(lambda: _reading(first=0),),
            ),
            Mistake(
                matches=lambda seen: "once" in seen.like,
                says="You step once, after the whole stream. Step, and cut, after every `reach` pieces.",
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
