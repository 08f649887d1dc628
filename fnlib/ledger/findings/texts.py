"""What each finding says: what happened, why it matters, the lines to write, a page about it.

The one table for recorded findings and for the doctor's look at objects without a recording.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

_TORCH = "https://github.com/pytorch/pytorch/issues/"
_GITHUB = "https://github.com/"


@dataclass(frozen=True, slots=True)
class Text:
    """The sentences of one code; a finding fills in the fields in braces.

    ``what`` is said of a recording, ``standing`` of objects as they are. ``fix`` is Python for one
    place, ``many`` for several of them, if that takes other lines. ``{has}`` and the other keys of
    `SEVERAL` agree with the number of places.
    """

    what: str
    why: str
    fix: str
    link: str = ""
    standing: str = ""
    many: str = ""


SEVERAL = {  # what a sentence says of one place, and of several
    "has": "have", "is": "are", "was": "were", "gets": "get", "trains": "train",
    "shares": "share", "it": "them", "its": "their",
}  # fmt: skip
_ONE_ONLY = (  # `larger` gives up the weights that `smaller` holds
    "held = {{id(w) for group in {smaller}.param_groups for w in group['params']}}\n"
    "for group in {larger}.param_groups:\n"
    "    group['params'] = [w for w in group['params'] if id(w) not in held]"
)
_EVAL_FROZEN = (
    "for part in {model}.modules():      # after every train()\n"
    "    flags = [weight.requires_grad for weight in part.parameters()]\n"
    "    if flags and not any(flags):\n        part.eval()"
)

TEXTS: dict[str, Text] = {
    # gradients that stay
    "gradient-used-twice": Text(
        "{optimizer}.step() uses a gradient that {used}.",
        "`.grad` adds up until zero_grad, so this step follows old gradients again.{bare}",
        "{optimizer}.zero_grad()      # {when}",
        _TORCH + "47175",
    ),
    "gradient-thrown-away": Text(
        "{optimizer}.step() finds no gradient: it was cleared after the backward at line {earlier}.",
        "The step changes nothing, and PyTorch doesn't warn.",
        "{optimizer}.zero_grad()      # before backward, not between backward and step\n"
        "{backward}\n{optimizer}.step()",
        _GITHUB + "sacmehta/EdgeNets/issues/14",
    ),
    "gradient-of-another-loss": Text(
        "{optimizer}.step() also uses what the backward at line {earlier} added to its gradients; "
        "that backward is there for {other}.step().",
        "Each backward adds to the gradient of every weight that it reaches, "
        "also to weights of another optimizer.",
        "{optimizer}.zero_grad()      # right before its own backward, and its step right after\n"
        "{backward}\n{optimizer}.step()",
        _GITHUB + "Lightning-AI/pytorch-lightning/issues/591",
    ),
    # optimizers that hold other tensors
    "weight-not-in-optimizer": Text(
        "No optimizer holds {place}, for which backward computes gradients; "
        "`{optimizer}` holds {dead} that the loss doesn't reach.",
        "An optimizer keeps the tensors that it was built with, so a weight that replaces one of "
        "them later isn't trained.",
        "{optimizer} = {kind}({parameters}{rate})      # after the last change of the model",
        _GITHUB + "FasterAI-Labs/fasterai/pull/92",
        "No optimizer holds {place}, and `{optimizer}` holds {dead} that belong to none of the models.",
    ),
    "weight-stepped-twice": Text(
        "{optimizer}.step() uses a gradient that {other}.step() at line {earlier} has already used "
        "on the same weight.",
        "The weight is in both optimizers, so one backward moves it twice.",
        _ONE_ONLY,
    ),
    "weight-in-two-optimizers": Text(
        "",
        "If both step after one backward, the weight moves twice.",
        _ONE_ONLY,
        standing="{optimizer} and {other} both hold {place}.",
    ),
    "update-is-the-average": Text(
        "{optimizer} keeps the applied update, learning rate included, as its average in {place}.",
        "The rule scaled its average in place, so at each step older gradients shrink by the rate too.",
        "update = average.clone()      # then scale the copy",
        _GITHUB + "yangluo7/CAME/issues/2",
    ),
    "state-is-the-gradient": Text(
        "{place} {shares} memory with a gradient.",
        "Whatever writes into this gradient, such as zero_grad(set_to_none=False) or a backward "
        "that adds to it, also writes into the optimizer's average.",
        'state["average"] = weight.grad.clone()',
        _GITHUB + "yangluo7/CAME/issues/2",
        "{place} {shares} memory with a gradient.",
    ),
    "state-shared": Text(
        "{place} and {other} are one tensor: a step of either optimizer changes both.",
        "load_state_dict keeps the tensors that it is given if their type and device fit.",
        "{optimizer}.load_state_dict(copy.deepcopy({source}.state_dict()))",
        _TORCH + "196083",
        "{place} and {other} are one tensor: a step of either optimizer changes both.",
    ),
    "tie-lost": Text(
        "One tied weight has become two: {place} and {other}.",
        "Both are trained, so they drift apart. Deep-copy the whole model, and load without "
        "assign=True, to keep ties.",
        "{other_code} = {place_code}      # ties them again",
        _TORCH + "188346",
        "{place} and {other} have equal values in different memory. Were they tied?",
    ),
    # snapshots that move
    "snapshot-moved": Text(
        "`{name}`, {made}, is used here, but it shares memory with {place}, "
        "which {has} changed since.",
        "A detached tensor or a tensor of a state dict is an alias of the same memory, not a copy.",
        "{name} = copy.deepcopy({value})      # {at}",
        _GITHUB + "pytorch/tutorials/pull/188",
    ),
    "snapshot-shares-memory": Text(
        "",
        "A detached tensor or a tensor of a state dict is an alias of the same memory, not a copy.",
        "{place} = copy.deepcopy({place})      # where it is kept",
        _GITHUB + "pytorch/tutorials/pull/188",
        "`{place}` shares memory with {other}, so it changes whenever that is trained.",
    ),
    "one-module-two-names": Text(
        "`{name}` and `{other}` are one module, which runs with gradients under one name and without "
        "under the other.",
        "A target that is the network itself moves with every step.",
        "{cure}",
        _GITHUB + "andri27-ts/Reinforcement-Learning/issues/14",
        "`{name}` and `{other}` are one module: training one trains the other.",
    ),
    # modes and statistics
    "training-mode-without-gradient": Text(
        "A forward pass without gradients runs in training mode: {place} ({type}).",
        "In training mode the output is random, so predictions differ from call to call.",
        "{model}.eval()      # {when}",
    ),
    "statistics-moved-without-gradient": Text(
        "A forward pass without gradients changes {place}.",
        "no_grad and inference_mode stop gradients, not running statistics, "
        "which now include this data.",
        "{model}.eval()      # {when}",
        _GITHUB + "facebookresearch/unbiased-teacher/issues/47",
    ),
    "trained-in-eval-mode": Text(
        "{place} ({type}) {trains} in evaluation mode. {since}.",
        "eval() lasts until train() is called: dropout is off, running statistics don't change.",
        "{cure}",
        _GITHUB + "fartashf/vsepp/issues/4",
    ),
    "modes-differ": Text(
        "",
        "A part keeps its mode until train() or eval() is called on it or on what contains it.",
        "{model}.{call}()      # sets all parts",
        standing="{place} {is} in {mode} mode, but {model} as a whole is not.",
    ),
    "frozen-statistics-moved": Text(
        "A forward pass changes {place}, though all weights of the layer are frozen.",
        "requires_grad_(False) freezes weights; running statistics follow the mode.",
        "{module}.eval()      # after every {model}.train()",
        _GITHUB + "isht7/pytorch-deeplab-resnet/issues/39",
        many=_EVAL_FROZEN,
    ),
    "frozen-part-in-training-mode": Text(
        "",
        "Every forward pass in training mode changes running statistics, also those of frozen layers.",
        "{module}.eval()      # after every {model}.train()",
        _GITHUB + "isht7/pytorch-deeplab-resnet/issues/39",
        "{place} {is} in training mode, with frozen weights.",
        _EVAL_FROZEN,
    ),
    "statistics-moved-before-backward": Text(
        "This backward goes back through the forward at line {earlier}, but {place} {has} changed "
        "since.",
        "The backward reads the changed statistics, so the gradient is wrong; "
        "PyTorch's version counter misses this change.",
        "{backward}      # before line {moved}",
        _TORCH + "13402",
    ),
    # frozen weights that move
    "frozen-weight-moved": Text(
        "{optimizer}.step() moves {place}, although requires_grad is False.",
        "A zero gradient isn't None, so momentum and weight decay still apply.",
        "{optimizer}.zero_grad(set_to_none=True)      # the optimizer skips weights without gradient",
        _GITHUB + "facebookresearch/fairseq/issues/4702",
    ),
    "frozen-weight-with-moments": Text(
        "",
        "The next step moves {it}: an optimizer skips a weight only if its gradient is None.",
        "{optimizer}.zero_grad(set_to_none=True)",
        _GITHUB + "facebookresearch/fairseq/issues/4702",
        "{optimizer} still has a gradient and moments for {place}, which {is} frozen.",
    ),
    "frozen-after-backward": Text(
        "{optimizer}.step() moves {place}, which {was} frozen only after the backward.",
        "The optimizer uses a gradient that is already there; requires_grad affects the next backward.",
        "{module}.requires_grad_(False)      # before the backward",
        many="for part in [{modules}]:\n    part.requires_grad_(False)      # before the backward",
    ),
    "moved-without-gradient": Text(
        "{optimizer}.step() moves {place}, whose gradient is zero {zero}.",
        "Momentum and weight decay apply to every weight whose gradient is not None.",
        "{cure}",
        many="for group in {optimizer}.param_groups:\n    for weight in group['params']:\n"
        "        if weight.grad is not None and not weight.grad.any():\n"
        "            weight.grad = None      # the optimizer then skips it",
    ),
    # rates and schedulers
    "scheduler-before-optimizer": Text(
        "{scheduler}.step() runs before the first {optimizer}.step().",
        "Every rate of the schedule comes one scheduler step early, and the first is never used.",
        "{optimizer}.step()\n{scheduler}.step()",
        _GITHUB + "huggingface/transformers/issues/2277",
    ),
    "scheduler-reset-rate": Text(
        "Building {scheduler} changes {optimizer}'s rate from {before} to {after}, after {optimizer} "
        "was {since}.",
        "Many schedulers set their first rate when they are built.",
        "{cure}",
        _TORCH + "119168",
    ),
    "load-changed-rate": Text(
        "load_state_dict changes {optimizer}'s rate from {before} to {after}.",
        "An optimizer's state dict contains its rates; they replace those it was built with.",
        'for group in {optimizer}.param_groups:\n    group["lr"] = {before}',
        _TORCH + "156846",
    ),
    "rate-overwritten": Text(
        "",
        "If your code didn't set it, load_state_dict did: the state dict contains the rate.",
        'for group in {optimizer}.param_groups:\n    group["lr"] = {before}      # if you want that',
        _TORCH + "156846",
        "{optimizer} was built with a rate of {before} and has {after}.",
    ),
    "rate-set-on-a-copy": Text(
        "`{source}` changes a copy: {optimizer}.state_dict() builds new groups at each call.",
        "The optimizer's rate stays what it was.",
        'for group in {optimizer}.param_groups:\n    group["{name}"] {assigned}',
        _GITHUB + "pytorch/examples/issues/64",
    ),
    "rate-set-on-the-object": Text(
        "`{source}` sets an attribute that {optimizer} never reads.",
        "torch's optimizers read `{name}` from param_groups only.",
        'for group in {optimizer}.param_groups:\n    group["{name}"] {assigned}',
        _GITHUB + "pytorch/examples/issues/64",
        "`{place}` is an attribute that torch's optimizers never read.",
    ),
    # graphs
    "weights-moved-before-backward": Text(
        "This backward goes back through the forward at line {earlier}, but {place} {has} changed "
        "since.",
        "The backward needs the weights of the forward. {noticed}.",
        "{cure}",
        _TORCH + "39141",
    ),
    "saved-value-changed": Text(
        "`{place}` {has} changed since the forward at line {earlier}, to which this backward belongs.",
        "The backward reuses values that the forward saved; PyTorch doesn't notice changes "
        "through .data.",
        "{cure}",
    ),
    "graph-kept": Text(
        "`{name}` grows by the graph of every loss (to {nodes} nodes {when}).",
        "A running total of losses keeps their graphs alive, so memory grows with every batch: by "
        "nodes and, if no backward has freed them, by the values that they saved.",
        "{fixed}",
        _GITHUB + "google/brax/pull/152",
    ),
    "graph-used-twice": Text(
        "{through} a graph that an earlier backward has freed.",
        "{because}",
        "{cure}",
        "https://discuss.pytorch.org/t/6795",
    ),
    # randomness
    "draws-shifted": Text(
        "Line {earlier} and this statement start from the same seed, but don't draw equally many "
        "random numbers.",
        "All layers draw their initial weights from one generator: "
        "one extra draw shifts all later ones.",
        "torch.manual_seed({seed})      # in both, before each part that must start alike",
    ),
    "seed-repeated": Text(
        "The seed is set again, so the numbers that line {earlier} drew before are drawn again.",
        "Every round then has the same noise: the same dropout masks, the same order.",
        "generator = torch.Generator().manual_seed({seed})      # for what must repeat, and for nothing else\n"
        "# if nothing must repeat: another seed each time, or none",
        "https://tanelp.github.io/posts/a-bug-that-plagues-thousands-of-open-source-ml-projects/",
    ),
    # evaluation: questions of evaluation.py
    "mask-in-evaluation": Text(
        "`{source}` draws a dropout mask while {place} {is} in evaluation mode.",
        "A functional dropout doesn't know the mode of the module around it, so predictions are "
        "random and each evaluation differs.",
        "{fixed}",
        _GITHUB + "delip/PyTorchNLPBook/issues/28",
    ),
    "changed-to-evaluate": Text(
        "{place} {is} overwritten here for the evaluation, and training goes on from these values.",
        "The weights that the optimizer was training are lost unless a copy of them is loaded back.",
        "kept = copy.deepcopy({model}.state_dict())\n{source}      # evaluate\n"
        "{model}.load_state_dict(kept)      # before training goes on",
        _GITHUB + "PKU-YuanGroup/Open-Sora-Plan/issues/186",
    ),
    "trained-on-validation-data": Text(
        "{said}.",
        "{because}",
        "{fixed}",
        _GITHUB + "karpathy/llm.c/pull/500",
    ),
    # effects: questions of effects.py
    "set-without-effect": Text(
        "`{source}` has no effect{where}.",
        "{because}",
        "{fixed}",
        _GITHUB + "CSCYQJ/MICCAI23-ProtoContra-SFDA/issues/18",
        "`{source}` has no effect on {place}.",
    ),
    "load-without-effect": Text(
        "{said}.",
        "{because}",
        "{fixed}",
        _GITHUB + "torchgeo/torchgeo/issues/4036",
    ),
    "load-overwritten": Text(
        "The values loaded at line {loaded} don't last: this line {how}.",
        "The checkpoint doesn't record that the model is already initialised, or the load came "
        "too early.",
        "{fixed}",
        _GITHUB + "bayesiains/nflows/issues/4",
    ),
    "freeze-undone": Text(
        "{place} {is} trainable again, though `{source}` froze {it} at line {earlier}.",
        "No step ran in between, so the freeze has no effect.",
        "{module}.requires_grad_(False)      # move it below line {here}",
        "",
        many="for part in [{modules}]:      # move it below line {here}\n    part.requires_grad_(False)",
    ),
    # copies: questions of copies.py
    "kept-by-reference": Text(
        "`{name}` keeps `{value}` itself, which {changes}.",
        "An assignment makes no copy: what is kept is always the latest.",
        "{fixed}",
        _GITHUB + "MedMNIST/experiments/issues/8",
    ),
    "one-layer-many-times": Text(
        "`{source}` makes one layer and puts it in every place of {name}.",
        "Every place has a reference to it, so all places share one set of weights.",
        "{fixed}",
        "",
    ),
    "data-changed-in-place": Text(
        "`{source}` changes `{name}` in place, and `{name}` is part of the stored data.",
        "The next epoch finds data that is already changed, and changes it again.",
        "{fixed}",
        _GITHUB + "pytorch/vision/issues/680",
    ),
    # checkpoints: questions of checkpoints.py
    "moments-of-another-weight": Text(
        "{goes} gets its values from {here} and its moments from {other}{more}.",
        "An optimizer's state dict is matched by position, a module's by name.",
        "weights = dict({model}.named_parameters())\n"
        "{optimizer} = type({optimizer})(      # in the order of the saved one\n"
        "    [weights[name] for name in ({names},)], **{optimizer}.defaults\n)\n{source}",
        _TORCH + "1489",
    ),
    "moments-not-saved": Text(
        "Steps change {place}, and `{source}` doesn't have it.",
        "An optimizer's state dict has `state` and `param_groups` only, so a resumed run starts "
        "with new moments.",
        'average = self.state[weight].setdefault("average", torch.zeros_like(weight))      # in the optimizer',
    ),
    # the functional style
    "result-ignored": Text(
        "The result of `{source}` is not bound to a name.",
        "{because}",
        "{bound}",
        _GITHUB + "google/flax/issues/233",
    ),
    # who is trained
    "step-without-gradient": Text(
        "{optimizer} {found}: {said}.",
        "A step skips every weight whose gradient is None, without a warning.",
        "{cure}",
        _GITHUB + "isayev/ReLeaSE/issues/39",
    ),
    "weight-trained-by-nobody": Text(
        "{place} {gets} a gradient, but no optimizer holds {it}; `{optimizer}` trains other weights.",
        "An optimizer trains the parameters that it is given. parameters() leaves out layers in a "
        "plain list, and what is added later needs add_param_group.",
        "{cure}",
        _TORCH + "59925",
    ),
    "gradient-never-arrives": Text(
        "{place} {said}.",
        "{because}",
        "{cure}",
    ),
    # each gradient once, as it was made
    "never-stepped": Text(
        "{passes} backward passes compute a gradient for {place}, and {optimizer} never steps{cleared}.",
        "A gradient moves no weight until a step uses it.",
        "{backward}\n{optimizer}.step()",
    ),
    "gradient-edit-unused": Text(
        "`{source}` changes the gradient of {place}, which is {said}.",
        "The edit has no effect: no step ever uses the changed gradient.",
        "{cure}",
        _GITHUB + "awslabs/graphstorm/issues/1366",
    ),
    "gradient-dropped": Text(
        "This line runs {passes} backward passes, and line {clearing} clears the gradients of {dropped} of them "
        "before {optimizer}.step() uses them.",
        "The gradients of these batches are computed and thrown away.",
        "{cure}",
    ),
    "gradient-still-scaled": Text(
        "`{source}` {verb} the gradient of {place} while it is still scaled by {scaler}.",
        "backward of a scaled loss makes gradients that are too large by the scale until they are "
        "unscaled.",
        "{cure}",
    ),
    "stale-weights": Text(
        "This backward uses the values that {place} had before the step at line {step}, {though}.",
        "{cached}, so later gradients are those of old weights.",
        "{cure}",
        _GITHUB + "X-GenGroup/Flow-Factory/pull/186",
    ),
    # the rhythm
    "weights-stand-still": Text(
        "{optimizer}.step() doesn't change a single bit of {which} {since}, though the gradients are "
        "as large as at the start. The last {optimizer}.step() used the rate {rate}.",
        "An update that is too small compared with the weight is rounded away.",
        "{cure}",
        _GITHUB + "ivadomed/ivadomed/pull/55",
    ),
    "rate-out-of-range": Text(
        "{scheduler} {said}: {optimizer}'s rate goes {way} in {steps} steps.",
        "{because}",
        "{cure}",
        _GITHUB + "ivadomed/ivadomed/pull/55",
    ),
    "rate-of-one-group": Text(
        "The rate of {optimizer}'s group {group} is set again and again, and the value of {place} stays "
        "at {rate} for all {steps} steps.",
        "Each group has a rate of its own.",
        "{cure}",
        _GITHUB + "yu-changqian/TorchSeg/issues/84",
    ),
    "scheduler-without-effect": Text(
        "{place} {said}.",
        "{because}",
        "{cure}",
    ),
    "draws-repeated": Text(
        "`{source}` {said}.",
        "{because}",
        "{fixed}",
        "https://tanelp.github.io/posts/a-bug-that-plagues-thousands-of-open-source-ml-projects/",
    ),
    "buffers-left-behind": Text(
        "The weights of {copy} follow those of {other}, but {place} {has} never changed.",
        "{because}",
        "{cure}",
    ),
    "optimizer-made-anew": Text(
        "`{source}` has built an optimizer for the same weights {number} times, {said}.",
        "{because}",
        "{fixed}",
        _GITHUB + "alan-turing-institute/deepsensor/issues/47",
    ),
}


def code_of(label: str) -> str:
    """Write a label as Python that can be typed.

    >>> code_of("model.conv1.1.weight"), code_of("net.my-layer"), code_of("model")
    ('model.conv1[1].weight', 'net.get_submodule("my-layer")', 'model')
    """
    first, *parts = re.split(r"\.(?![^\[]*\])", label)
    for part in parts:
        if part.isdigit():
            first += f"[{part}]"
        elif part.partition("[")[0].isidentifier():
            first += f".{part}"
        else:
            first += f'.get_submodule("{part}")'
    return first


def built(kind: str) -> str:
    """Write an optimizer's class, given with its module, as one that can be typed.

    >>> built("torch.optim.sgd.SGD"), built("__main__.Lion")
    ('torch.optim.SGD', 'Lion')
    """
    name = kind.rpartition(".")[2]
    return f"torch.optim.{name}" if kind.startswith("torch.optim.") else name


def assigned(source: str) -> list[tuple[str, ast.expr]]:
    """Return the targets of a statement, each with its value: ``a.x, b = value, other``."""
    try:
        node = ast.parse(source).body[0]
    except (SyntaxError, IndexError):
        return []
    if isinstance(node, ast.AnnAssign | ast.AugAssign) and node.value is not None:
        return [(ast.unparse(node.target), node.value)]
    found: list[tuple[str, ast.expr]] = []
    if not isinstance(node, ast.Assign):
        return []
    for one in node.targets:
        pairs = [(one, node.value)]
        if isinstance(one, ast.Tuple) and isinstance(node.value, ast.Tuple):
            if len(one.elts) == len(node.value.elts):
                pairs = list(zip(one.elts, node.value.elts, strict=True))
        found += [(ast.unparse(left), value) for left, value in pairs]
    return found


def right_side(source: str, target: str = "") -> str | None:
    """Return what a statement assigns to a target, or to its first one, as source text.

    >>> right_side("self.score, self.best = 0.5, model.state_dict()", "self.best")
    'model.state_dict()'
    """
    values = (value for name, value in assigned(source) if target in ("", name))
    return next(map(ast.unparse, values), None)


def argument(source: str, method: str) -> ast.expr | None:
    """Return the first argument that a statement gives to a method, as an expression.

    >>> ast.unparse(argument("self.scheduler.step(metrics=val_acc)", "step"))
    'val_acc'
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            values = [*node.args, *(one.value for one in node.keywords)]
            if node.func.attr == method and values:
                return values[0]
    return None
