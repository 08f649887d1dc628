"""What each finding on standing state says."""

from __future__ import annotations

from typing import Any, Literal

from fnlib.ledger.entries import Finding
from fnlib.ledger.findings.texts import TEXTS, Text

STANDING: dict[str, Text] = {
    "one-module-two-names": Text(
        "`{place}` and `{other}` are one module.",
        "What trains one trains the other: a target network, a teacher or a copy has to be a copy.",
        "{place} = copy.deepcopy({other})",
        TEXTS["one-module-two-names"].link,
    ),
    "weight-not-in-optimizer": Text(
        "No optimizer holds {place}, while {optimizer} holds {count} of no module given.",
        "An optimizer keeps the tensors that it was built with; a weight that took their place later is never trained.",
        "{optimizer} = ...(model.parameters(), ...)      # build it after the model is final",
        TEXTS["weight-not-in-optimizer"].link,
    ),
    "weight-in-two-optimizers": Text(
        "{optimizer} and {other} both hold {place}.",
        "If both step after one backward, it is stepped twice.",
        "{other} = ...(head.parameters(), ...)      # each weight in one optimizer only",
    ),
    "tie-lost": Text(
        "{place} and {other} hold the same numbers in different memory.",
        "If they were tied, the tie was lost in a copy or a load, and training will pull them apart.",
        TEXTS["tie-lost"].fix,
        TEXTS["tie-lost"].link,
    ),
    "state-is-the-gradient": TEXTS["state-is-the-gradient"],
    "state-shared": TEXTS["state-shared"],
    "snapshot-shares-memory": Text(
        "`{place}` shares memory with {other}: it changes whenever that is trained.",
        "A state dict or a detached tensor is a second name for the same memory, not a copy.",
        "{place} = copy.deepcopy({place})",
        TEXTS["snapshot-moved"].link,
    ),
    "frozen-weight-with-moments": Text(
        "{optimizer} has a gradient and moments for {place}, by now frozen.",
        "The next step moves it: an optimizer passes over a weight only if its gradient is None.",
        "{optimizer}.zero_grad()      # set_to_none=True is the default",
        TEXTS["frozen-weight-moved"].link,
    ),
    "frozen-part-in-training-mode": Text(
        "Frozen weights, in training mode: {place}.",
        "Running statistics move with every forward in training mode.",
        "{module}.eval()      # after every model.train()",
        TEXTS["frozen-statistics-moved"].link,
    ),
    "modes-differ": Text(
        "{module} is not in {mode} mode, and this part of it is: {place}.",
        "A part keeps the mode that it was given until somebody sets it again.",
        "{module}.{call}()      # sets all parts",
    ),
    "rate-set-on-the-object": Text(
        "`{place}` is an attribute that torch's optimizers never read.",
        "They read their settings from param_groups alone.",
        'for group in {optimizer}.param_groups:\n    group["{setting}"] = ...',
        TEXTS["rate-set-on-a-copy"].link,
    ),
    "rate-overwritten": Text(
        "{optimizer} was built with a rate of {before} and has {after}.",
        "If your code did not set it, load_state_dict did: it brings the rate of the checkpoint along.",
        'for group in {optimizer}.param_groups:\n    group["lr"] = {before}      # if that is what you want',
        TEXTS["load-changed-rate"].link,
    ),
}


def finding(
    code: str, severity: Literal["certain", "question"], place: str, **fields: Any
) -> Finding:
    """Make a finding on standing state from its text."""
    text = STANDING[code]
    fill = {"place": place, **fields}
    return Finding(
        code,
        severity,
        0,
        place,
        text.what.format(**fill),
        text.why,
        text.fix.format(**fill),
        text.link,
    )
