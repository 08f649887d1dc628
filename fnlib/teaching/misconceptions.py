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
        "result-not-needed",
        "a method changes the value that it is called on",
        "it returns a new value, and what no name takes is lost",
        "04",
    ),
    Misconception(
        "values-double-memory",
        "passing values on doubles the memory of training",
        "only weights and optimizer state are held twice, until the last name lets the old value go; activations are often the larger part",
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
    # Wider beliefs, which no single lesson is about; the question bank answers them by name.
    Misconception(
        "names-are-boxes",
        "a name is a box that holds its object",
        "a name points to an object; an assignment points it to another one and leaves the object as it is",
        "00",
    ),
    Misconception(
        "in-place-replaces",
        "an in-place method gives something new",
        "it changes what is there, all of it, and whoever holds the object sees it",
        "00",
    ),
    Misconception(
        "mistakes-are-loud",
        "PyTorch raises an error when state goes wrong",
        "names and shapes fit, so that the loop runs on; most bugs with state are silent",
        "09",
    ),
    Misconception(
        "gradient-is-value",
        "the gradient is the value of the function",
        "it is its slope: how the value changes when the input does",
        "01",
    ),
    Misconception(
        "gradient-per-example",
        "the gradient has the shape of the batch or of the output",
        "the loss is one number, so that each weight has one gradient, of the weight's own shape",
        "01",
    ),
    Misconception(
        "state-lives-in-module",
        "all state of the training is kept or returned by one object",
        "gradients stand on the weights, moments in the optimizer, randomness in a generator",
        "01",
    ),
    Misconception(
        "graph-is-network",
        "the graph is the network, and is always there",
        "it is the record of one forward pass, made anew each time, and one backward pass uses it up",
        "01",
    ),
    Misconception(
        "box-forbids-all",
        "a closed box makes every need hard",
        "what its author foresaw is one line; only what lies between its lines is out of reach",
        "03",
    ),
    Misconception(
        "box-is-open",
        "an object that owns its state also shows it, or does not change it",
        "the places inside the box are changed all the same, and are seen only by reaching inside",
        "03",
    ),
    Misconception(
        "trained-is-finished",
        "an object that was trained cannot be trained again",
        "it can; whether it goes on or starts afresh was chosen by its author",
        "03",
    ),
    Misconception(
        "same-name-same-meaning",
        "a method of the same name does the same everywhere",
        "whether a second fit goes on or starts afresh is its author's choice; only the documentation or a second call tells",
        "03",
    ),
    Misconception(
        "style-changes-numbers",
        "another style of loop gives other numbers",
        "the same operations in the same order give the same bits, wherever the results are put",
        "05",
    ),
    Misconception(
        "values-pile-up",
        "old values pile up until the garbage collector runs",
        "a value is freed the moment its last name lets go of it; what piles up is what you keep",
        "06",
    ),
    Misconception(
        "donation-is-unguarded",
        "memory that was given away can be read by accident",
        "a donated value is marked before a byte is written, and says so when it is used",
        "06",
    ),
    Misconception(
        "seed-is-position",
        "the seed is the state of the generator, or of one layer",
        "it is where the one generator starts; each draw moves it on, and every later draw with it",
        "07",
    ),
    Misconception(
        "detach-forgets",
        "detach clears or skips what came before",
        "the numbers go on; only the way back for the gradient is cut",
        "08",
    ),
    Misconception(
        "carrying-teaches",
        "a network learns from whatever state is carried on",
        "it learns only as far back as the gradient reaches",
        "08",
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
