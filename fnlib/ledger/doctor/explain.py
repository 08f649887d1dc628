"""A finding's code explained without a recording: what it says, why it matters, what to write."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from fnlib.ledger.errors import UnknownCode
from fnlib.ledger.findings.texts import SEVERAL, TEXTS

# Where each code has a page. `python tools/kit.py links` fills in the repository.
PAGES = "https://OWNER.github.io/REPO/findings/"
# What a recording would fill in, as it reads for an ordinary training script.
_EXAMPLES = {one: one for one in SEVERAL} | {
    "after": "0.001",
    "assigned": "= 0.01",
    "at": "line 12",
    "backward": "loss.backward()",
    "bare": "",
    "before": "0.1",
    "call": "train",
    "dead": "4 tensors",
    "earlier": "12",
    "here": "14",
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
    "through": "This backward runs through",
    "type": "Dropout",
    "used": "it has already used in an earlier step",
    "value": "model.state_dict()",
    "weight": "model[0].weight",
    "way": "from 0.1 to 0.001",
    "when": "once for each step, before backward",
    "where": "",
}
# Where one example doesn't suit every sentence.
_OF_A_CODE = {
    "buffers-left-behind": {
        "copy": "average",
        "other": "model",
        "place": "average.1.running_mean",
        "because": "parameters() has no buffers, so BatchNorm's statistics keep their initial values.",
        "cure": "for mine, theirs in zip(average.buffers(), model.buffers()):\n"
        "    mine.copy_(theirs)      # where the weights are averaged",
    },
    "data-changed-in-place": {
        "source": "image -= mean",
        "name": "image",
        "fixed": "image = image - mean",
    },
    "draws-repeated": {
        "source": "images, labels = next(iter(loader))",
        "said": "gives the same batch 20 times in a row, and each step trains on it",
        "because": "An iterator that is made anew gives its first batch; a generator that is set "
        "back in each round draws the same numbers.",
        "fixed": "batches = iter(loader)      # once an epoch, before the loop over steps\n"
        "images, labels = next(batches)",
    },
    "freeze-undone": {
        "place": "model.encoder.weight",
        "source": "model.encoder.requires_grad_(False)",
    },
    "frozen-after-backward": {"place": "model.encoder.weight"},
    "frozen-part-in-training-mode": {"place": "model.encoder"},
    "frozen-statistics-moved": {"place": "model.1.running_mean"},
    "frozen-weight-moved": {"place": "model.encoder.weight"},
    "gradient-never-arrives": {
        "place": "model.encoder",
        "said": "runs with gradients on and `optimizer` holds its weights, but no backward has "
        "reached them in 20 steps",
        "because": "Something on the way to the loss has no gradient or one of zero, as .item() "
        "and round() have; or the layer isn't called.",
        "cure": "logits = logits * self.scale      # not self.scale.item()",
    },
    "gradient-dropped": {
        "clearing": "10",
        "dropped": "3",
        "passes": "4",
        "cure": "if number % 4 == 0:\n    optimizer.zero_grad()      # after the step",
    },
    "gradient-edit-unused": {
        "source": "clip_grad_norm_(model.parameters(), 1.0)",
        "said": "too late: optimizer.step() has already used it",
        "cure": "clip_grad_norm_(model.parameters(), 1.0)      # between backward and step\n"
        "optimizer.step()",
    },
    "gradient-still-scaled": {
        "source": "clip_grad_norm_(model.parameters(), 1.0)",
        "verb": "clips",
        "scaler": "scaler",
        "cure": "scaler.unscale_(optimizer)\nclip_grad_norm_(model.parameters(), 1.0)",
    },
    "graph-kept": {"name": "total", "when": "in iteration 3", "fixed": "total += loss.item()"},
    "graph-used-twice": {
        "because": "State that is carried from batch to batch keeps the graph of the previous "
        "batch.",
        "cure": "loss.backward()\nhidden = hidden.detach()",
    },
    "kept-by-reference": {
        "changes": "training goes on changing",
        "fixed": "best = copy.deepcopy(model.state_dict())",
    },
    "load-overwritten": {
        "loaded": "12",
        "how": "builds another model under that name",
        "fixed": "model = Net()\nmodel.load_state_dict(checkpoint)      # load last",
    },
    "load-without-effect": {
        "said": "This load reaches 0 of 4 names of model: it has encoder.0.weight, the "
        "state dict has module.encoder.0.weight",
        "because": "strict=False skips names that don't match; and a load of the model's own "
        "values, or into a model that no name keeps, changes nothing.",
        "fixed": "model.load_state_dict(checkpoint)      # strict, so that it raises",
    },
    "mask-in-evaluation": {
        "source": "x = F.dropout(x, 0.5)",
        "place": "model",
        "fixed": "x = F.dropout(x, 0.5, self.training)",
    },
    "modes-differ": {"place": "model.dropout"},
    "moments-of-another-weight": {
        "goes": "model.0.weight",
        "other": "old.1.weight",
        "here": "old.0.weight",
        "more": "",
        "names": '"0.weight", "1.weight"',
        "source": 'optimizer.load_state_dict(checkpoint["optimizer"])',
    },
    "never-stepped": {"passes": "20", "cleared": ""},
    "moved-without-gradient": {
        "zero": "everywhere",
        "cure": "model[0].weight.grad = None      # the optimizer then skips it",
    },
    "one-layer-many-times": {
        "source": "layers = [nn.Linear(16, 16)] * 3",
        "name": "layers",
        "fixed": "layers = [nn.Linear(16, 16) for _ in range(3)]",
    },
    "one-module-two-names": {
        "name": "target",
        "other": "network",
        "cure": "target = copy.deepcopy(network)",
    },
    "optimizer-made-anew": {
        "number": "3",
        "source": "optimizer = torch.optim.Adam(model.parameters())",
        "said": "and each new one starts without the moments of the one before",
        "because": "Momentum and Adam need the moments of many steps.",
        "fixed": "optimizer = torch.optim.Adam(model.parameters())      # once, before the loop",
    },
    "rate-of-one-group": {
        "group": "0",
        "place": "optimizer.param_groups[1].lr",
        "rate": "0.1",
        "steps": "20",
        "cure": 'for group in optimizer.param_groups:\n    group["lr"] = rate',
    },
    "rate-out-of-range": {
        "said": "steps after every batch",
        "way": "from 0.1 to 1e-09",
        "steps": "200",
        "because": "Its settings are in epochs, and it is stepped in batches.",
        "cure": "scheduler.step()      # once an epoch",
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
    "result-ignored": {
        "source": "x.clamp(0, 1)",
        "because": "`clamp` returns a new tensor and leaves `x` as it is.",
        "bound": "x = x.clamp(0, 1)",
    },
    "saved-value-changed": {
        "place": "hidden",
        "cure": "shown = hidden.detach().clone()      # change the copy",
    },
    "scheduler-reset-rate": {
        "cure": "scheduler = StepLR(optimizer, 10)\n"
        'optimizer.load_state_dict(checkpoint["optimizer"])      # after the scheduler is built',
    },
    "scheduler-without-effect": {
        "place": "scheduler",
        "said": "has 200 steps and makes one for each 20 of optimizer's",
        "because": "The rates that train aren't those of the schedule: it belongs to an optimizer "
        "that was replaced, other code sets the rate, it begins at 0 after a load, it was counted "
        "in batches and steps once an epoch, or it waits for a metric to fall that should rise.",
        "cure": "scheduler.step()      # after each step of optimizer",
    },
    "set-without-effect": {
        "source": "weight.require_grad = False",
        "because": "Nothing reads that attribute; likewise a method that is named and not called, "
        "a new tensor that nobody reads, or a function that fits no part of the model.",
        "fixed": "weight.requires_grad = False",
    },
    "snapshot-shares-memory": {"place": "best", "other": "model.0.weight"},
    "state-is-the-gradient": {"place": "optimizer.0.weight.average"},
    "stale-weights": {
        "step": "14",
        "though": "though the model has run since",
        "cached": "Something keeps what the forward computed from the old weights",
        "cure": "logits = head(encoder(x))      # anew after each step",
    },
    "state-shared": {
        "place": "optimizer.0.weight.exp_avg",
        "other": "old.0.weight.exp_avg",
        "source": "old",
    },
    "statistics-moved-before-backward": {"place": "model.1.running_mean"},
    "statistics-moved-without-gradient": {"place": "model.1.running_mean"},
    "step-without-gradient": {
        "found": "has stepped 20 times and never found a gradient",
        "said": "its 4 weights are all frozen",
        "cure": "model.requires_grad_(True)      # before the forward",
    },
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
    "trained-on-validation-data": {
        "said": "This line binds `x` for the evaluation at line 20, and the next training step still "
        "uses it",
        "because": "Validation and training share a name or a data set, so validation data is "
        "trained on.",
        "fixed": "for x_val, y_val in validation:\n    loss = evaluate(model, x_val, y_val)",
    },
    "weight-trained-by-nobody": {
        "place": "model.head.weight",
        "cure": 'optimizer.add_param_group({"params": model.head.parameters()})'
        "      # where it is made",
    },
    "weights-moved-before-backward": {
        "noticed": "PyTorch doesn't notice changes through .data or a fused step, so the gradient "
        "is wrong",
        "cure": "loss.backward()\nother_optimizer.step()      # line 12, moved here",
    },
    "weights-stand-still": {
        "which": "any weight",
        "since": "since line 14",
        "rate": "1e-09",
        "cure": "scheduler.step()      # once an epoch",
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
        'optimizer.step() uses a gradient that it has already used in an earlier step.'
    """
    if code not in TEXTS:
        raise UnknownCode(code, get_close_matches(code, TEXTS, 3, 0.4) or list(TEXTS))
    text = TEXTS[code]
    fields = _EXAMPLES | _OF_A_CODE.get(code, {})
    what, why, fix = (
        sentence.format(**fields) for sentence in (text.what or text.standing, text.why, text.fix)
    )
    return Rule(code, what, why, fix, text.link, f"{PAGES}{code}.html")
