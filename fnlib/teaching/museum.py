"""The museum of silent bugs: one table that drives its tests, lesson 09 and the README.

Each `Exhibit` stands for one file of ``tests/loops/bugs`` or ``tests/loops/functional_bugs``, which holds the loop as
people write it (``bug``), its ``cure``, and ``harm``, the quantity that breaks. A new exhibit is one file and one row.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fnlib.teaching.museum_sources import SOURCES, address

Today = Literal["silent", "warns", "raises"]
InFnlib = Literal["cannot be written", "refused", "can still be written"]


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One bug: where it hangs, what PyTorch says today, who finds it, and what becomes of it in ``fnlib``.

    ``harm`` gives the measured quantity with the bug and with its cure; ``finding`` is the ledger's code and
    ``standing`` the code of `fnlib.doctor` on the objects as they stand, empty where it cannot be seen that way;
    ``sources`` are keys of `SOURCES`.
    """

    code: str
    room: str
    title: str
    today: Today
    harm: tuple[float, float] | None
    finding: str
    standing: str
    fnlib: InFnlib
    because: str
    sources: tuple[str, ...] = ()
    core: bool = False

    @property
    def functional(self) -> bool:
        """Whether it hangs in the functional wing."""
        return self.room == FUNCTIONAL

    @property
    def path(self) -> str:
        """Its file, from the root of the repository."""
        return f"tests/loops/{'functional_bugs' if self.functional else 'bugs'}/{self.code}.py"

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Where it was met: (address, what the page says)."""
        return tuple((address(name), SOURCES[name][1]) for name in self.sources)


GRADIENTS = "Gradients that stay"
ELSEWHERE = "Optimizers that look elsewhere"
SNAPSHOTS = "Snapshots that move"
MODES = "Modes and statistics"
FROZEN = "Frozen weights that thaw"
RATES = "Rates and schedulers"
GRAPHS = "Graphs"
RANDOM = "Randomness"
FUNCTIONAL = "The functional wing"
ROOMS = (GRADIENTS, ELSEWHERE, SNAPSHOTS, MODES, FROZEN, RATES, GRAPHS, RANDOM, FUNCTIONAL)

_NO_GRAD_FIELD = "A gradient is a value: there is no place in which it could stay."
_BOUND = "Weights and optimizer state are one value; a rule holds no weights that it could lose."
_IMMUTABLE = "`parameters` never changes; a name bound to it is a snapshot."
_BUFFERS = "`model(x)` raises when a forward changes statistics, and shows the two lines to write."
_SCHEDULE = "The rate is a function of the step count, which is part of the value."
_VALUES = "`step` changes no weight that a graph still needs."

# fmt: off
EXHIBITS: tuple[Exhibit, ...] = (
    # -- gradients that stay
    Exhibit("zero_grad_forgotten", GRADIENTS, "`zero_grad` is forgotten", "silent", (3, 1),
            "gradient-used-twice", "", "cannot be written", _NO_GRAD_FIELD,
            ("pytorch/pytorch#47175", "meta-pytorch/torchforge#71", "fchollet/deep-learning-with-python-notebooks#293"), core=True),
    Exhibit("zero_grad_once_an_epoch", GRADIENTS, "`zero_grad` once an epoch", "silent", (4, 1),
            "gradient-used-twice", "", "cannot be written", _NO_GRAD_FIELD, ("pytorch/pytorch#47175",)),
    Exhibit("zero_grad_before_step", GRADIENTS, "`zero_grad` between `backward` and `step`", "silent", (0, 4),
            "gradient-thrown-away", "", "cannot be written", _NO_GRAD_FIELD, ("sacmehta/EdgeNets#14",)),
    Exhibit("gan_generator_leaves_gradients", GRADIENTS, "The generator leaves gradients in the discriminator", "silent", (2, 1),
            "gradient-of-another-loss", "", "cannot be written", _NO_GRAD_FIELD,
            ("Lightning-AI/pytorch-lightning#591", "Lightning-AI/pytorch-lightning#557")),
    # -- optimizers that look elsewhere
    Exhibit("layer_replaced_after_optimizer", ELSEWHERE, "A layer is replaced after the optimizer was built", "silent", (0, 2),
            "weight-not-in-optimizer", "weight-not-in-optimizer", "cannot be written", _BOUND,
            ("microsoft/nni#4521", "FasterAI-Labs/fasterai#92"), core=True),
    Exhibit("assign_after_optimizer", ELSEWHERE, "`load_state_dict(assign=True)` after the optimizer was built", "silent", (0, 4),
            "weight-not-in-optimizer", "weight-not-in-optimizer", "cannot be written", _BOUND, ("pytorch/tutorials#2522",)),
    Exhibit("optimizer_before_conversion", ELSEWHERE, "The optimizer is built before the weights are moved", "silent", (0, 4),
            "weight-not-in-optimizer", "weight-not-in-optimizer", "cannot be written", _BOUND, ("pytorch/pytorch#7844",)),
    Exhibit("weight_norm_after_optimizer", ELSEWHERE, "Weight normalisation is added after the optimizer was built", "silent", (0, 1),
            "weight-not-in-optimizer", "weight-not-in-optimizer", "cannot be written", _BOUND),
    Exhibit("weight_in_two_optimizers", ELSEWHERE, "Two optimizers hold the same weight", "silent", (2, 1),
            "weight-stepped-twice", "weight-in-two-optimizers", "cannot be written", _BOUND),
    Exhibit("optimizer_aliases_its_buffer", ELSEWHERE, "An optimizer scales its own average", "silent", (0.1, 1),
            "update-is-the-average", "", "can still be written",
            "A rule of your own may compute what it likes; only what it was given is safe from it.", ("yangluo7/CAME#2",)),
    Exhibit("optimizer_keeps_the_gradient", ELSEWHERE, "An optimizer keeps the gradient as its average", "silent", (0, 2),
            "state-is-the-gradient", "state-is-the-gradient", "cannot be written",
            "What a rule is given is copy-on-write: keeping it and writing to it harms nobody.", ("yangluo7/CAME#2",)),
    Exhibit("tie_lost_in_deepcopy", ELSEWHERE, "Tied weights are copied one by one", "silent", (2, 1),
            "tie-lost", "", "cannot be written", "A tied weight is one entry, stored once.", ("pytorch/pytorch#79788",)),
    Exhibit("tie_lost_in_assign", ELSEWHERE, "`load_state_dict(assign=True)` unties weights", "silent", (2, 1),
            "tie-lost", "", "cannot be written", "A tied weight is one entry, stored once.", ("pytorch/pytorch#188346",)),
    # -- snapshots that move
    Exhibit("best_state_dict", SNAPSHOTS, "`best = model.state_dict()`", "silent", (0, 1),
            "snapshot-moved", "snapshot-shares-memory", "cannot be written", _IMMUTABLE,
            ("pytorch/tutorials#188", "WenjieDu/PyPOTS#667", "pytorch/pytorch#34765", "thunlp/OpenKE#131"), core=True),
    Exhibit("optimizer_state_dict", SNAPSHOTS, "`optimizer.state_dict()` kept to go back to", "silent", (4, 2),
            "snapshot-moved", "", "cannot be written", _IMMUTABLE, ("pytorch/pytorch#196083",)),
    Exhibit("optimizer_state_shared", SNAPSHOTS, "Two optimizers share their moments", "silent", (6, 3),
            "state-shared", "state-shared", "cannot be written", _IMMUTABLE, ("pytorch/pytorch#196083",)),
    Exhibit("detach_is_not_a_copy", SNAPSHOTS, "`before = weight.detach()`", "silent", (0, 1),
            "snapshot-moved", "", "cannot be written", _IMMUTABLE),
    Exhibit("target_network_is_the_network", SNAPSHOTS, "The target network is the network", "silent", (0, 4),
            "one-module-two-names", "one-module-two-names", "cannot be written", _IMMUTABLE,
            ("datawhalechina/easy-rl#140", "andri27-ts/Reinforcement-Learning#14")),
    # -- modes and statistics
    Exhibit("eval_forgotten", MODES, "`eval()` is forgotten", "silent", (0, 1),
            "training-mode-without-gradient", "", "can still be written",
            "The mode is an argument of the bind, seen where the model is made; its default is training."),
    Exhibit("train_forgotten", MODES, "`train()` is forgotten after validation", "silent", (2, 6),
            "trained-in-eval-mode", "", "cannot be written",
            "`model.eval()` is a new model; the training model stays as it is.", ("fartashf/vsepp#4",)),
    Exhibit("batchnorm_moves_under_no_grad", MODES, "BatchNorm moves under `no_grad`", "silent", (6, 3),
            "statistics-moved-without-gradient", "", "refused", _BUFFERS,
            ("facebookresearch/unbiased-teacher#47",), core=True),
    Exhibit("batchnorm_moves_under_inference_mode", MODES, "BatchNorm moves under `inference_mode`", "silent", (6, 3),
            "statistics-moved-without-gradient", "", "refused", _BUFFERS, ("facebookresearch/unbiased-teacher#47",)),
    Exhibit("frozen_batchnorm_moves", MODES, "A frozen BatchNorm still moves", "silent", (4, 7),
            "frozen-statistics-moved", "frozen-part-in-training-mode", "refused", _BUFFERS,
            ("isht7/pytorch-deeplab-resnet#39", "pytorch/pytorch#20967")),
    Exhibit("train_wakes_frozen_batchnorm", MODES, "`model.train()` wakes a frozen BatchNorm", "silent", (4, 0),
            "frozen-statistics-moved", "frozen-part-in-training-mode", "cannot be written",
            "Modes by submodule are an argument of the bind; nothing switches them later.", ("isht7/pytorch-deeplab-resnet#39",)),
    Exhibit("batchnorm_without_version", MODES, "Statistics move between a forward and its `backward`", "silent", (0, 1),
            "statistics-moved-before-backward", "", "cannot be written", "No forward changes the buffers of a model.",
            ("pytorch/pytorch#13402", "pytorch/pytorch#120622")),
    # -- frozen weights that thaw
    Exhibit("frozen_weight_keeps_momentum", FROZEN, "A frozen weight is carried on by momentum", "silent", (2, 0),
            "frozen-weight-moved", "frozen-weight-with-moments", "cannot be written",
            "A weight without an entry in the gradient is left as it is.", ("facebookresearch/fairseq#4702",)),
    Exhibit("zero_gradient_still_decays", FROZEN, "A gradient of zero, and the weight decays", "silent", (0, 2),
            "moved-without-gradient", "", "can still be written",
            "A gradient of zeros is a gradient; leave the entry out to leave the weight alone."),
    Exhibit("frozen_after_backward", FROZEN, "A weight is frozen after `backward`", "silent", (2, 1),
            "frozen-after-backward", "", "cannot be written", "What is in the gradient is stepped, and it can be read there."),
    # -- rates and schedulers
    Exhibit("scheduler_before_optimizer", RATES, "The scheduler steps first", "warns", (0.01, 0.1),
            "scheduler-before-optimizer", "", "cannot be written", _SCHEDULE,
            ("huggingface/transformers#2277", "huggingface/transformers#1136")),
    Exhibit("scheduler_changes_restored_rate", RATES, "Building a scheduler resets the restored rate", "silent", (0.001, 0.1),
            "scheduler-reset-rate", "", "cannot be written", _SCHEDULE, ("pytorch/pytorch#119168",)),
    Exhibit("load_brings_back_old_rate", RATES, "`load_state_dict` brings the old rate back", "silent", (0.1, 0.001),
            "load-changed-rate", "rate-overwritten", "cannot be written",
            "The rate is part of the factory's rule; parameters that were loaded do not bring another.",
            ("pytorch/pytorch#156846", "pytorch/examples#1118", "mapbox/robosat#169")),
    Exhibit("rate_set_on_a_copy", RATES, "The rate is set on a copy", "silent", (0.1, 0.025),
            "rate-set-on-a-copy", "", "cannot be written", _SCHEDULE, ("pytorch/examples#64",)),
    Exhibit("rate_set_on_the_object", RATES, "`optimizer.lr = 0.01`", "silent", (0.1, 0.01),
            "rate-set-on-the-object", "rate-set-on-the-object", "refused", "A rule's attributes cannot be assigned."),
    # -- graphs
    Exhibit("gan_step_between_backwards", GRAPHS, "A step between two backwards", "raises", None,
            "weights-moved-before-backward", "", "cannot be written", _VALUES,
            ("pytorch/pytorch#39141", "MorvanZhou/PyTorch-Tutorial#89")),
    Exhibit("gan_step_between_backwards_fused", GRAPHS, "A fused step between two backwards", "silent", (0, 1),
            "weights-moved-before-backward", "", "cannot be written", _VALUES, ("pytorch/pytorch#39141",), core=True),
    Exhibit("weight_clipped_before_backward", GRAPHS, "Weights are clipped through `.data` before `backward`", "silent", (0, 1),
            "weights-moved-before-backward", "", "cannot be written", _VALUES),
    Exhibit("data_edits_saved_activation", GRAPHS, "An activation is edited through `.data`", "silent", (0, 1),
            "saved-value-changed", "", "can still be written", "Activations are ordinary tensors; only state is protected."),
    Exhibit("total_loss_keeps_graphs", GRAPHS, "`total_loss += loss`", "silent", (5, 0),
            "graph-kept", "", "can still be written", "A loss is an ordinary tensor with its graph; use `loss.item()`.",
            ("google/brax#152", "horovod/horovod#641")),
    Exhibit("hidden_state_not_detached", GRAPHS, "The hidden state is not detached", "raises", None,
            "graph-used-twice", "", "refused", "`GraphUsedUp` says which graph was used up, and what to detach.",
            ("discuss.pytorch.org/6795",)),
    Exhibit("hidden_state_retain_graph", GRAPHS, "`retain_graph=True` to silence it", "raises", None,
            "weights-moved-before-backward", "", "can still be written",
            "Old weights stay, so the old graph still works: it grows with every step until you detach.",
            ("discuss.pytorch.org/6795",)),
    # -- randomness
    Exhibit("extra_random_draw", RANDOM, "One layer more, and every later layer starts elsewhere", "silent", (2, 4),
            "draws-shifted", "", "can still be written", "Initial weights are drawn as PyTorch draws them, from one generator."),
    Exhibit("seed_set_in_the_loop", RANDOM, "A seed in the loop repeats the dropout masks", "silent", (1, 5),
            "seed-repeated", "", "cannot be written",
            "With `seed=` a forward depends on no global state; the seed is folded with the step count.",
            ("tanelp.github.io", "pytorch/pytorch#56488"), core=True),
    # -- the functional wing
    Exhibit("result_ignored", FUNCTIONAL, "The step's result goes nowhere", "silent", (0, 2),
            "result-ignored", "", "can still be written", "Nothing is changed, and nothing says so.", ("google/flax#233",)),
    Exhibit("old_state_returned", FUNCTIONAL, "The old state is returned", "silent", (0, 3),
            "", "", "refused", "A training model's `step` without its new buffers raises.", ("google/flax#2467", "google/flax#3982")),
    Exhibit("optimizer_state_not_threaded", FUNCTIONAL, "The optimizer's state is not passed on", "silent", (0.1, 0.00625),
            "", "", "cannot be written", "Weights and optimizer state travel in one value.", ("google-deepmind/optax#424",)),
    Exhibit("statistics_dropped", FUNCTIONAL, "New statistics are dropped", "silent", (0.0, 3.2),
            "", "", "refused", _BUFFERS, ("HomericIntelligence/Odyssey#5532",)),
    Exhibit("donated_value_used", FUNCTIONAL, "A value is used after it was given away", "silent", (0, 1),
            "snapshot-moved", "", "refused", "`Donated` names the value, and the line that gave it away.", ("jax-ml/jax#1733",)),
    Exhibit("graph_kept_across_steps", FUNCTIONAL, "Every step keeps the graph of all before it", "silent", (5, 0),
            "", "", "cannot be written", "`step` returns values without a graph.", ("pytorch/functorch#639",)),
    Exhibit("functional_call_between_threads", FUNCTIONAL, "Two threads share one module", "silent", (1, 2),
            "", "", "cannot be written", "A factory serves many parameters at once."),
    Exhibit("functional_call_writes_buffers", FUNCTIONAL, "A pure call writes into its argument", "silent", (4, 7),
            "", "", "cannot be written", "What a forward changes comes back as a value."),
    Exhibit("same_seed_every_step", FUNCTIONAL, "The same seed at every step", "silent", (1, 5),
            "", "", "cannot be written", "The seed is folded with the step count."),
)
# fmt: on


def exhibit(code: str) -> Exhibit:
    """Find one exhibit by its code.

    Args:
        code: the name of its file, without ``.py``.

    Returns:
        The exhibit.

    Raises:
        KeyError: there is none of that code; the message lists those there are.

    Example:
        >>> exhibit("best_state_dict").today
        'silent'
    """
    for one in EXHIBITS:
        if one.code == code:
            return one
    raise KeyError(f"no exhibit {code!r}; there are {', '.join(one.code for one in EXHIBITS)}")


def source(code: str, part: str = "bug") -> str:
    """The text of an exhibit's function, as it stands in its file.

    Args:
        code: the exhibit.
        part: ``"bug"``, ``"cure"``, ``"setup"``, ``"harm"``, ``"in_fnlib"``, or another function or class of the file.

    Returns:
        The source of that function.

    Raises:
        KeyError: no such exhibit, or its file has no such part.
        FileNotFoundError: the package stands alone, without the repository that holds the exhibits.

    Example:
        >>> print(source("best_state_dict").splitlines()[-3])
            optimizer.step()
    """
    text = file_of(code).read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if getattr(node, "name", None) == part:
            return ast.get_source_segment(text, node) or ""
    raise KeyError(f"exhibit {code} has no {part!r}")


def file_of(code: str) -> Path:
    """The file of an exhibit; ``FileNotFoundError`` where only the package is installed."""
    path = Path(__file__).resolve().parents[2] / exhibit(code).path
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: the exhibits come with the repository, not with the package alone.")
    return path


def markdown(exhibits: tuple[Exhibit, ...] = EXHIBITS, *, short: bool = False) -> str:
    """The table of the museum as Markdown.

    Args:
        exhibits: the rows.
        short: the core exhibits only, three columns, for the README.

    Returns:
        The table.

    Example:
        >>> print(markdown(short=True).splitlines()[0])
        | bug | PyTorch today | in fnlib |
    """
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    if short:
        head = ("bug", "PyTorch today", "in fnlib")
        rows = [(one.title, one.today, one.fnlib) for one in exhibits if one.core]
    else:
        head = ("room", "bug", "PyTorch today", "the ledger finds", "the doctor finds", "in fnlib")
        rows = [(one.room, one.title, one.today, _code(one.finding), _code(one.standing), one.fnlib) for one in exhibits]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _code(text: str) -> str:
    return f"`{text}`" if text else "-"
