"""A finding's code explained without a recording: what it says, why it matters, what to write."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from string import Formatter

from fnlib.ledger.errors import UnknownCode
from fnlib.ledger.findings.texts import TEXTS

# Where each code has a page. `python tools/kit.py links` fills in the repository.
PAGES = "https://OWNER.github.io/REPO/findings/"
# What a recording would fill in, as it reads for an ordinary training script.
_EXAMPLES = {
    "after": "0.001",
    "assigned": "= 0.01",
    "at": "line 12",
    "backward": "loss.backward()",
    "bare": "",
    "before": "0.1",
    "call": "train",
    "dead": "4 tensors",
    "earlier": "12",
    "kind": "torch.optim.Adam",
    "larger": "optimizer",
    "made": "made at line 12",
    "mode": "evaluation",
    "moved": "14",
    "model": "model",
    "module": "model.encoder",
    "modules": "model.encoder, model.decoder",
    "name": "best",
    "nodes": "600",
    "optimizer": "optimizer",
    "parameters": "model.parameters()",
    "other": "head_optimizer",
    "other_code": "model.decoder.weight",
    "place": "model.0.weight",
    "place_code": "model[0].weight",
    "rate": ", lr=0.1",
    "scheduler": "scheduler",
    "seed": "0",
    "since": "loaded",
    "smaller": "head_optimizer",
    "source": "model.step(gradient)",
    "through": "",
    "type": "Dropout",
    "used": "an earlier step has used",
    "value": "model.state_dict()",
    "weight": "model[0].weight",
    "way": "from 0.1 to 0.001",
    "where": "",
}
# Where one example doesn't suit every sentence.
_OF_A_CODE = {
    "frozen-after-backward": {"place": "model.encoder.weight"},
    "frozen-part-in-training-mode": {"place": "model.encoder"},
    "frozen-statistics-moved": {"place": "model.1.running_mean"},
    "frozen-weight-moved": {"place": "model.encoder.weight"},
    "gradient-never-arrives": {
        "place": "model.encoder",
        "said": "runs with gradients on and optimizer holds its weights, but no backward has "
        "reached them in 20 steps",
    },
    "graph-kept": {"name": "total"},
    "graph-used-twice": {
        "because": "State that is carried from batch to batch keeps the graph of the previous "
        "batch.",
        "cure": "loss.backward()\nhidden = hidden.detach()",
    },
    "modes-differ": {"place": "model.dropout"},
    "one-module-two-names": {
        "name": "target",
        "other": "network",
        "cure": "target = copy.deepcopy(network)",
    },
    "rate-set-on-a-copy": {
        "name": "lr",
        "source": 'optimizer.state_dict()["param_groups"][0]["lr"] = 0.01',
    },
    "rate-set-on-the-object": {
        "name": "lr",
        "source": "optimizer.lr = 0.01",
        "place": "optimizer.lr",
    },
    "saved-value-changed": {
        "place": "hidden",
        "cure": "shown = hidden.detach().clone()      # change the copy",
    },
    "scheduler-reset-rate": {
        "cure": "scheduler = StepLR(optimizer, 10)\n"
        'optimizer.load_state_dict(checkpoint["optimizer"])      # after the scheduler is built',
    },
    "snapshot-shares-memory": {"place": "best", "other": "model.0.weight"},
    "state-is-the-gradient": {"place": "optimizer.0.weight.average"},
    "state-shared": {
        "place": "optimizer.0.weight.exp_avg",
        "other": "old.0.weight.exp_avg",
        "source": "old",
    },
    "statistics-moved-before-backward": {"place": "model.1.running_mean"},
    "statistics-moved-without-gradient": {"place": "model.1.running_mean"},
    "tie-lost": {
        "place": "model.encoder.weight",
        "place_code": "model.encoder.weight",
        "other": "model.decoder.weight",
    },
    "trained-in-eval-mode": {
        "place": "model.dropout",
        "since": "At line 12 it was in training mode",
        "cure": "model.train()      # at the start of each epoch",
    },
    "training-mode-without-gradient": {"place": "model.dropout"},
    "weights-moved-before-backward": {
        "noticed": "PyTorch doesn't notice changes through .data or a fused step, so the gradient "
        "is wrong",
        "cure": "loss.backward()\nother_optimizer.step()      # line 12, moved here",
    },
    "update-is-the-average": {"place": "optimizer.0.weight.average"},
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding, said of an ordinary training script."""

    code: str
    what: str
    why: str
    fix: str
    link: str
    page: str


def rule(code: str) -> Rule:
    """Explain a code by its text, with the names of an ordinary script filled in.

    Args:
        code: such as "snapshot-moved".

    Raises:
        UnknownCode: no finding has it; the message names the nearest ones.

    Example:
        >>> rule("gradient-used-twice").what
        'optimizer.step() uses a gradient that an earlier step has used.'
    """
    if code not in TEXTS:
        raise UnknownCode(code, get_close_matches(code, TEXTS, 3, 0.4) or list(TEXTS))
    text = TEXTS[code]
    fields = _EXAMPLES | _OF_A_CODE.get(code, {})
    what, why, fix = (
        Formatter().vformat(sentence, (), _Named(fields))
        for sentence in (text.what or text.standing, text.why, text.fix)
    )
    return Rule(code, what, why, fix, text.link, f"{PAGES}{code}.html")


class _Named(dict[str, str]):
    """Example values; a field without one stands for itself, so that a new text can be explained."""

    def __missing__(self, field: str) -> str:
        return field
