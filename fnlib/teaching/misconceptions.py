"""What people believe about state, what is so instead, and which lesson shows it.

One table. Checks, predictions, the question bank and the lessons' "You may think ..." paragraphs all name its rows,
so that a belief is always answered with the same words.
"""

from __future__ import annotations

from typing import NamedTuple


class Misconception(NamedTuple):
    """One belief and its refutation.

    Attributes:
        slug: its short name, used in tables and guides.
        think: completes "You may think that ...".
        fact: completes "It is not so: ...".
        lesson: where it is predicted and refuted.
    """

    slug: str
    think: str
    fact: str
    lesson: str

    def __str__(self) -> str:
        return f"You may think that {self.think}. It is not so: {self.fact}."


_ALL = (
    Misconception(
        "assignment-copies",
        "an assignment makes a copy",
        "it gives the same object one more name, and a change made through one name is seen through the other",
        "00",
    ),
    Misconception(
        "detach-copies",
        "detach() makes a copy",
        "the detached tensor shares its storage with the original; clone() makes a copy",
        "00",
    ),
    Misconception(
        "state-dict-is-snapshot",
        "state_dict() is a snapshot",
        "its tensors share storage with the model, so they follow the training; copy.deepcopy makes a snapshot",
        "00",
    ),
    Misconception(
        "rerun-is-safe",
        "functional code is safe to run again, whatever it rebinds",
        "a cell that rebinds a name goes on from where the name points now; only a function of its inputs repeats itself",
        "00",
    ),
    Misconception(
        "backward-updates",
        "backward updates the weights",
        "it writes gradients; the weights change in optimizer.step()",
        "01",
    ),
    Misconception(
        "backward-overwrites",
        "backward overwrites .grad",
        "it adds to what is there; that is why loops call zero_grad",
        "01",
    ),
    Misconception(
        "optimizer-computes-gradient",
        "the optimizer computes the gradient",
        "backward computes it and stores it on each parameter; the optimizer only reads it",
        "01",
    ),
    Misconception(
        "zero-grad-zeroes-weights",
        "zero_grad() sets the weights to zero",
        "it removes the gradients; no weight changes",
        "01",
    ),
    Misconception(
        "zero-gradient-no-movement",
        "a weight with a zero gradient stays where it is",
        "momentum and weight decay move it all the same",
        "01",
    ),
    Misconception(
        "optimizer-follows",
        "the optimizer follows when a layer is replaced",
        "it holds the tensors it was given when it was built; a new layer is never updated",
        "02",
    ),
    Misconception(
        "functional-is-f",
        'a "functional API" means torch.nn.functional',
        "here it means that state goes in as an argument and comes out as a result",
        "04",
    ),
    Misconception(
        "immutable-is-untrainable",
        "what cannot be changed cannot be trained",
        "training makes a new value from the old one; the name moves on, the value stays",
        "04",
    ),
    Misconception(
        "frozen-tuple-freezes",
        "a frozen tuple freezes the tensors in it",
        "it fixes which tensors it holds, not the numbers in them; an in-place write still reaches them",
        "04",
    ),
    Misconception(
        "values-double-memory",
        "passing values on doubles the memory of training",
        "only weights and optimizer state are held twice, and only during a step; activations are often the larger part",
        "06",
    ),
    Misconception(
        "eval-is-no-grad",
        "eval() is the same as no_grad()",
        "eval() changes how layers compute, no_grad() stops the recording of the graph; each works without the other",
        "07",
    ),
    Misconception(
        "random-layers-repeat",
        "a random layer repeats itself if the code does",
        "it draws from one global generator, whose state moved on at the last draw",
        "07",
    ),
)

TABLE: dict[str, Misconception] = {row.slug: row for row in _ALL}


def misconception(slug: str) -> Misconception:
    """Look a misconception up; shown in a notebook it reads as one paragraph.

    Args:
        slug: its short name.

    Returns:
        The row; ``str()`` of it is "You may think that ... It is not so: ...".

    Raises:
        KeyError: there is none of that name; the message lists all names.

    Example:
        >>> print(misconception("zero-grad-zeroes-weights"))
        You may think that zero_grad() sets the weights to zero. It is not so: it removes the gradients; no weight changes.
    """
    if slug not in TABLE:
        raise KeyError(f"No misconception is called {slug!r}. There are: {', '.join(TABLE)}.")
    return TABLE[slug]
