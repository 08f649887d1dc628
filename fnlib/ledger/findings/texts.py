"""What each finding says: what happened, why it matters, the right line, and where it was met."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """The sentences of one code; ``what`` has fields that the finding fills in."""

    what: str
    why: str
    fix: str
    link: str = ""


_TORCH = "https://github.com/pytorch/pytorch/issues/"
_GITHUB = "https://github.com/"

TEXTS: dict[str, Text] = {
    # gradients that stay
    "gradient-used-twice": Text(
        "{optimizer}.step() uses a gradient that {used}.",
        "`.grad` adds up: each step then follows the sum of all gradients so far, not the last one.{bare}",
        "{optimizer}.zero_grad()      # once for each step, before backward",
        _TORCH + "47175",
    ),
    "gradient-thrown-away": Text(
        "{optimizer}.step() finds no gradient: it was cleared after the backward at line {earlier}.",
        "The step changes nothing, and nothing says so.",
        "{optimizer}.zero_grad()      # before backward, not between backward and step\nloss.backward()\n{optimizer}.step()",
        _GITHUB + "sacmehta/EdgeNets/issues/14",
    ),
    "gradient-of-another-loss": Text(
        "{optimizer}.step() also uses the gradient of the backward at line {earlier}, which {other}.step() uses.",
        "A backward leaves gradients in every weight that it reaches, also in those of another optimizer.",
        "{optimizer}.zero_grad()      # these three in a row\nloss.backward()\n{optimizer}.step()",
        _GITHUB + "Lightning-AI/pytorch-lightning/issues/591",
    ),
    # optimizers that look elsewhere
    "weight-not-in-optimizer": Text(
        "A backward leaves a gradient in {place}, which no optimizer holds, while {optimizer} holds {dead} that the loss does not reach.",
        "An optimizer keeps the tensors that it was given; a weight that took their place later is never trained.",
        "{optimizer} = ...(model.parameters(), ...)      # build it after the model is final",
        _GITHUB + "FasterAI-Labs/fasterai/pull/92",
    ),
    "weight-stepped-twice": Text(
        "{optimizer}.step() uses a gradient that {other}.step() at line {earlier} has used on the same weight.",
        "The weight is in both optimizers, and one backward moves it twice.",
        "{optimizer} = ...(head.parameters(), ...)      # each weight in one optimizer only",
    ),
    "update-is-the-average": Text(
        "The update that was applied, learning rate included, is what {optimizer} keeps in {place}.",
        "The rule scaled its average in place: the next step averages over scaled gradients.",
        "update = average.clone()      # then scale the copy",
        _GITHUB + "yangluo7/CAME/issues/2",
    ),
    "state-is-the-gradient": Text(
        "In {place} stands {other} itself, not a copy.",
        "The optimizer kept `.grad` itself; the next zero_grad or backward writes into its average.",
        'state["average"] = weight.grad.clone()',
        _GITHUB + "yangluo7/CAME/issues/2",
    ),
    "tie-lost": Text(
        "{place} and {other} were one weight and are two.",
        "Both are trained now, and they drift apart.",
        "copy.deepcopy(model)      # the whole model keeps its ties\nmodel.load_state_dict(checkpoint)      # without assign=True",
        _TORCH + "188346",
    ),
    # snapshots that move
    "snapshot-moved": Text(
        "`{name}` is used as it was at line {made}, but it shares memory with {place}, which has changed since.",
        "A state dict or a detached tensor is a second name for the same memory, not a copy.",
        "{name} = copy.deepcopy(...)      # for a tensor: .detach().clone()",
        _GITHUB + "pytorch/tutorials/pull/188",
    ),
    "state-shared": Text(
        "{place} and {other} are one tensor: a step of either optimizer changes both.",
        "load_state_dict keeps the tensors that it is given.",
        "{optimizer}.load_state_dict(copy.deepcopy({source}.state_dict()))",
        _TORCH + "196083",
    ),
    "one-module-two-names": Text(
        "`{name}` and `{other}` are one module, run with a gradient under one name and without under the other.",
        "A target that is the network itself moves with every step.",
        "{name} = copy.deepcopy({other})",
        _GITHUB + "andri27-ts/Reinforcement-Learning/issues/14",
    ),
    # modes and statistics
    "training-mode-without-gradient": Text(
        "A forward without gradient, in training mode: {place} ({type}).",
        "In this mode the output is random: predictions differ from call to call.",
        "{model}.eval()      # before; {model}.train() afterwards",
    ),
    "statistics-moved-without-gradient": Text(
        "A forward without gradient changes {place}.",
        "no_grad and inference_mode stop gradients, not running statistics: they now hold this data too.",
        "{model}.eval()      # before; {model}.train() afterwards",
        _GITHUB + "facebookresearch/unbiased-teacher/issues/47",
    ),
    "trained-in-eval-mode": Text(
        "Training, in evaluation mode: {place} ({type}). At line {earlier} it was training mode.",
        "eval() stays until somebody calls train(): dropout is off, statistics stand still.",
        "model.train()      # at the start of each epoch",
        _GITHUB + "fartashf/vsepp/issues/4",
    ),
    "frozen-statistics-moved": Text(
        "A forward changes {place}, though all weights of the layer are frozen.",
        "requires_grad_(False) freezes weights; running statistics follow the mode.",
        "{module}.eval()      # after every model.train()",
        _GITHUB + "isht7/pytorch-deeplab-resnet/issues/39",
    ),
    "statistics-moved-before-backward": Text(
        "The gradient of the forward at line {earlier} is taken after a change of {place}.",
        "The backward reads the changed values and gives a wrong gradient; the version counter misses this change.",
        "loss.backward()      # before the next forward in training mode",
        _TORCH + "13402",
    ),
    # frozen weights that thaw
    "frozen-weight-moved": Text(
        "{optimizer}.step() moves {place}, with requires_grad=False.",
        "Its gradient is not None but zero, so momentum and weight decay still apply.",
        "{optimizer}.zero_grad()      # set_to_none=True is the default: the optimizer then passes over the weight",
        _GITHUB + "facebookresearch/fairseq/issues/4702",
    ),
    "frozen-after-backward": Text(
        "{optimizer}.step() moves {place}, frozen after the gradient had been computed.",
        "A gradient that is already there is used; requires_grad matters for the next forward.",
        "module.requires_grad_(False)      # before the forward",
    ),
    "moved-without-gradient": Text(
        "{optimizer}.step() moves {place}, whose gradient is zero everywhere.",
        "Momentum and weight decay apply to every weight whose gradient is not None.",
        "weight.grad = None      # the optimizer then passes over it",
    ),
    # rates and schedulers
    "scheduler-before-optimizer": Text(
        "{scheduler}.step() comes before the first {optimizer}.step().",
        "The first rate of the schedule is never used.",
        "{optimizer}.step()\n{scheduler}.step()",
        _GITHUB + "huggingface/transformers/issues/2277",
    ),
    "scheduler-reset-rate": Text(
        "Building {scheduler} changes {optimizer}'s rate from {before} to {after}, after it had been {since}.",
        "A scheduler sets its first rate when it is built.",
        "scheduler = ...({optimizer}, ...)\n{optimizer}.load_state_dict(checkpoint)      # last",
        _TORCH + "119168",
    ),
    "load-changed-rate": Text(
        "load_state_dict changes {optimizer}'s rate from {before} to {after}.",
        "An optimizer's state dict brings its rates along; the one given when it was built is gone.",
        'for group in {optimizer}.param_groups:\n    group["lr"] = {before}',
        _TORCH + "156846",
    ),
    "rate-set-on-a-copy": Text(
        "`{source}` changes a copy: {optimizer}.state_dict() makes its groups anew each time.",
        "The optimizer's rate stays what it was.",
        'for group in {optimizer}.param_groups:\n    group["lr"] = rate',
        _GITHUB + "pytorch/examples/issues/64",
    ),
    "rate-set-on-the-object": Text(
        "`{source}` sets an attribute that {optimizer} never reads.",
        "torch's optimizers read their settings from param_groups alone.",
        'for group in {optimizer}.param_groups:\n    group["{name}"] = ...',
    ),
    # graphs
    "weights-moved-before-backward": Text(
        "The gradient of the forward at line {earlier} is taken after a change of {place}.",
        "The backward needs the values of the forward. Changes through .data or a fused step go unseen: the gradient is wrong.",
        "loss.backward()      # first\noptimizer.step()     # then change weights",
        _TORCH + "39141",
    ),
    "saved-value-changed": Text(
        "`{place}` has changed since the forward at line {earlier}, whose gradient is taken here.",
        "The backward reuses values that the forward saved; .data changes them without anyone noticing.",
        "shown = {place}.detach().clone()      # change the copy",
    ),
    "graph-kept": Text(
        "`{name}` grows by the graph of every loss ({nodes} nodes by now).",
        "A running total of losses keeps what their backward needed: memory grows with every batch.",
        "{name} += loss.item()",
        _GITHUB + "google/brax/pull/152",
    ),
    "graph-used-twice": Text(
        "A backward meets a graph that an earlier one has used up{through}.",
        "State that is carried from batch to batch brings the graph of the batch before.",
        "{name} = {name}.detach()      # at the start of each batch",
        "https://discuss.pytorch.org/t/6795",
    ),
    # randomness
    "draws-shifted": Text(
        "After the same seed, this statement leaves the generator elsewhere than line {earlier} did.",
        "All layers take their initial weights from one generator: one draw more shifts every later one.",
        "torch.manual_seed(...)      # before each part that is to start alike",
    ),
    "seed-repeated": Text(
        "The seed is set to the same state as at line {earlier}, and training draws from it.",
        "Every round then meets the same noise: the same dropout masks, the same order.",
        "generator = torch.Generator().manual_seed(...)      # a generator of its own for what must repeat",
        "https://tanelp.github.io/posts/a-bug-that-plagues-thousands-of-open-source-ml-projects/",
    ),
    # the functional wing
    "result-ignored": Text(
        "The result of `{source}` is not bound to a name.",
        "A functional step changes nothing; the new parameters are its result.",
        "parameters = {source}",
        _GITHUB + "google/flax/issues/233",
    ),
}
