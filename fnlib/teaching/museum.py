"""The museum of silent bugs: one table that drives its tests, lesson 09 and the README.

Each `Exhibit` stands for one file of ``tests/loops/bugs`` or ``tests/loops/functional_bugs``, which holds the loop as
people write it (``bug``), its ``cure``, and ``harm``, the quantity that breaks. A new exhibit is one file and one row.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fnlib.teaching.museum_labels import TASKS
from fnlib.teaching.museum_sources import SOURCES, address
from fnlib.teaching.museum_verdicts import IN_FNLIB, Verdict

Today = Literal["silent", "warns", "raises"]


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One bug: where it hangs, what PyTorch says today, who finds it, and what becomes of it in ``fnlib``.

    ``harm`` gives the measured quantity with the bug and with its cure; ``finding`` is the ledger's code and
    ``standing`` the code of `fnlib.doctor` on the objects as they stand, empty where it cannot be seen that way;
    ``way`` is a key of `IN_FNLIB`; ``sources`` are keys of `SOURCES`.
    """

    code: str
    room: str
    title: str
    today: Today
    harm: tuple[float, float] | None
    finding: str
    standing: str
    way: str
    sources: tuple[str, ...] = ()
    core: bool = False

    @property
    def fnlib(self) -> Verdict:
        """Whether the bug can be written in ``fnlib``."""
        return IN_FNLIB[self.way][0]

    @property
    def because(self) -> str:
        """Why, in a sentence."""
        return IN_FNLIB[self.way][1]

    @property
    def task(self) -> str:
        """What its loop is meant to do."""
        return TASKS[self.code]

    @property
    def functional(self) -> bool:
        """Whether it hangs in the functional wing."""
        return self.room in FUNCTIONAL

    @property
    def path(self) -> str:
        """Its file, from the root of the repository."""
        return f"tests/loops/{'functional_bugs' if self.functional else 'bugs'}/{self.code}.py"

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Where it was met: (address, what the page says)."""
        return tuple((address(name), SOURCES[name][1]) for name in self.sources)


_IN_FNLIB = Path(__file__).resolve().parents[2] / "tests" / "loops" / "in_fnlib.py"

GRADIENTS = "Gradients that stay"
ELSEWHERE = "Optimizers that look elsewhere"
SHARING = "Sharing, lost and unwanted"
SNAPSHOTS = "Snapshots that move"
MODES = "Modes, statistics, randomness"
FROZEN = "Frozen parts that thaw"
RATES = "Rates and schedulers"
STALE = "Graphs whose values have moved"
KEPT = "Graphs that are kept"
LOST = "The functional wing: values that are lost"
LONG = "The functional wing: values kept too long"
BEHIND = "The functional wing: places behind the values"
FUNCTIONAL = (LOST, LONG, BEHIND)
ROOMS = (GRADIENTS, ELSEWHERE, SHARING, SNAPSHOTS, MODES, FROZEN, RATES, STALE, KEPT, *FUNCTIONAL)


# fmt: off
EXHIBITS: tuple[Exhibit, ...] = (
    # -- gradients that stay
    Exhibit("zero_grad_forgotten", GRADIENTS, "`zero_grad` is forgotten", "silent", (3, 1),
            "gradient-used-twice", "", "gradient_is_a_value",
            ("pytorch/pytorch#47175", "meta-pytorch/torchforge#71", "fchollet/deep-learning-with-python-notebooks#293"), core=True),
    Exhibit("zero_grad_once_an_epoch", GRADIENTS, "`zero_grad` once an epoch", "silent", (4, 1),
            "gradient-used-twice", "", "gradient_is_a_value", ("pytorch/pytorch#47175",)),
    Exhibit("zero_grad_before_step", GRADIENTS, "`zero_grad` between `backward` and `step`", "silent", (0, 4),
            "gradient-thrown-away", "", "gradient_is_a_value", ("sacmehta/EdgeNets#14",)),
    Exhibit("gan_generator_leaves_gradients", GRADIENTS, "The generator leaves gradients in the discriminator", "silent", (2, 1),
            "gradient-of-another-loss", "", "gradient_is_a_value",
            ("Lightning-AI/pytorch-lightning#591", "Lightning-AI/pytorch-lightning#557")),
    Exhibit("gan_steps_at_the_end", GRADIENTS, "Both steps of a GAN come at the end", "silent", (2, 1),
            "gradient-of-another-loss", "", "gradient_is_a_value", ("ginobilinie/asdnet#2", "leftthomas/SRGAN#89")),
    # -- optimizers that look elsewhere
    Exhibit("layer_replaced_after_optimizer", ELSEWHERE, "A layer is replaced after the optimizer was built", "silent", (0, 2),
            "weight-not-in-optimizer", "weight-not-in-optimizer", "another_structure_is_refused",
            ("microsoft/nni#4521", "FasterAI-Labs/fasterai#92"), core=True),
    Exhibit("assign_after_optimizer", ELSEWHERE, "`load_state_dict(assign=True)` after the optimizer was built", "silent", (0, 4),
            "weight-not-in-optimizer", "weight-not-in-optimizer", "rule_holds_no_weights", ("pytorch/tutorials#2522",)),
    Exhibit("optimizer_before_conversion", ELSEWHERE, "The optimizer is built before the weights are moved", "silent", (0, 4),
            "weight-not-in-optimizer", "weight-not-in-optimizer", "rule_holds_no_weights", ("pytorch/pytorch#7844",)),
    Exhibit("weight_norm_after_optimizer", ELSEWHERE, "Weight normalisation is added after the optimizer was built", "silent", (0, 1),
            "weight-not-in-optimizer", "weight-not-in-optimizer", "rule_holds_no_weights"),
    Exhibit("weight_in_two_optimizers", ELSEWHERE, "Two optimizers hold the same weight", "silent", (2, 1),
            "weight-stepped-twice", "weight-in-two-optimizers", "rule_holds_no_weights", ("MishaLaskin/curl#28",)),
    # -- sharing, lost and unwanted
    Exhibit("optimizer_aliases_its_buffer", SHARING, "An optimizer scales its own average", "silent", (0.1, 1),
            "update-is-the-average", "", "own_rule_is_trusted", ("yangluo7/CAME#2",)),
    Exhibit("optimizer_keeps_the_gradient", SHARING, "An optimizer keeps the gradient as its average", "silent", (1.8, 2.71),
            "state-is-the-gradient", "state-is-the-gradient", "rule_is_given_copies", ("yangluo7/CAME#2",)),
    Exhibit("tie_lost_in_deepcopy", SHARING, "Tied weights are copied one by one", "silent", (2, 1),
            "tie-lost", "", "tie_is_one_entry", ("pytorch/pytorch#79788",)),
    Exhibit("tie_lost_in_assign", SHARING, "`load_state_dict(assign=True)` unties weights", "silent", (2, 1),
            "tie-lost", "", "tie_is_one_entry", ("pytorch/pytorch#188346",)),
    # -- snapshots that move
    Exhibit("best_state_dict", SNAPSHOTS, "`best = model.state_dict()`", "silent", (0, 1),
            "snapshot-moved", "snapshot-shares-memory", "name_is_a_snapshot",
            ("pytorch/tutorials#188", "WenjieDu/PyPOTS#667", "pytorch/pytorch#34765", "thunlp/OpenKE#131"), core=True),
    Exhibit("optimizer_state_dict", SNAPSHOTS, "`optimizer.state_dict()` kept to go back to", "silent", (4, 2),
            "snapshot-moved", "", "name_is_a_snapshot", ("pytorch/pytorch#196083",)),
    Exhibit("optimizer_state_shared", SNAPSHOTS, "Two optimizers share their moments", "silent", (6, 3),
            "state-shared", "state-shared", "name_is_a_snapshot", ("pytorch/pytorch#196083",)),
    Exhibit("detach_is_not_a_copy", SNAPSHOTS, "`before = weight.detach()`", "silent", (0, 1),
            "snapshot-moved", "", "name_is_a_snapshot", ("mlverse/torch#441",)),
    Exhibit("target_network_is_the_network", SNAPSHOTS, "The target network is the network", "silent", (0, 4),
            "one-module-two-names", "one-module-two-names", "name_is_a_snapshot",
            ("datawhalechina/easy-rl#140", "andri27-ts/Reinforcement-Learning#14")),
    # -- modes, statistics, randomness
    Exhibit("eval_forgotten", MODES, "`eval()` is forgotten", "silent", (0, 1),
            "training-mode-without-gradient", "", "mode_is_training_unless_said", ("ipolharvard/ethos-ares#20",)),
    Exhibit("train_forgotten", MODES, "`train()` is forgotten after validation", "silent", (2, 6),
            "trained-in-eval-mode", "", "evaluation_is_another_model", ("fartashf/vsepp#4",)),
    Exhibit("batchnorm_moves_under_no_grad", MODES, "BatchNorm moves under `no_grad`", "silent", (6, 3),
            "statistics-moved-without-gradient", "", "statistics_are_refused",
            ("facebookresearch/unbiased-teacher#47",), core=True),
    Exhibit("batchnorm_moves_under_inference_mode", MODES, "BatchNorm moves under `inference_mode`", "silent", (6, 3),
            "statistics-moved-without-gradient", "", "statistics_are_refused", ("facebookresearch/unbiased-teacher#47",)),
    Exhibit("batchnorm_without_version", MODES, "Statistics move between a forward and its `backward`", "silent", (0, 1),
            "statistics-moved-before-backward", "", "forward_leaves_the_old_statistics",
            ("pytorch/pytorch#13402", "pytorch/pytorch#120622")),
    Exhibit("extra_random_draw", MODES, "One layer more, and every later layer starts elsewhere", "silent", (2, 4),
            "draws-shifted", "", "draws_are_pytorchs", ("pytorch/pytorch#46149",)),
    Exhibit("seed_set_in_the_loop", MODES, "A seed in the loop repeats the dropout masks", "silent", (1, 5),
            "seed-repeated", "", "seed_is_folded",
            ("tanelp.github.io", "pytorch/pytorch#56488"), core=True),
    # -- frozen parts that thaw
    Exhibit("frozen_batchnorm_moves", FROZEN, "A frozen BatchNorm still moves", "silent", (4, 7),
            "frozen-statistics-moved", "frozen-part-in-training-mode", "statistics_are_refused",
            ("isht7/pytorch-deeplab-resnet#39", "pytorch/pytorch#20967")),
    Exhibit("train_wakes_frozen_batchnorm", FROZEN, "`model.train()` wakes a frozen BatchNorm", "silent", (4, 0),
            "frozen-statistics-moved", "frozen-part-in-training-mode", "frozen_statistics", ("isht7/pytorch-deeplab-resnet#39",)),
    Exhibit("frozen_weight_keeps_momentum", FROZEN, "A frozen weight is carried on by momentum", "silent", (2, 0),
            "frozen-weight-moved", "frozen-weight-with-moments", "absent_entry_stands_still", ("facebookresearch/fairseq#4702",)),
    Exhibit("zero_gradient_still_decays", FROZEN, "A gradient of zero, and the weight decays", "silent", (0, 2),
            "moved-without-gradient", "", "zero_gradient_decays", ("docs.pytorch.org on zero_grad",)),
    Exhibit("frozen_after_backward", FROZEN, "A weight is frozen after `backward`", "silent", (2, 1),
            "frozen-after-backward", "", "gradient_says_what_moves", ("discuss.pytorch.org/153740",)),
    # -- rates and schedulers
    Exhibit("scheduler_before_optimizer", RATES, "The scheduler steps first", "warns", (0.01, 0.1),
            "scheduler-before-optimizer", "", "rate_follows_the_step_count",
            ("huggingface/transformers#2277", "huggingface/transformers#1136")),
    Exhibit("scheduler_changes_restored_rate", RATES, "Building a scheduler resets the restored rate", "silent", (0.001, 0.1),
            "scheduler-reset-rate", "", "rate_follows_the_step_count", ("pytorch/pytorch#119168",)),
    Exhibit("load_brings_back_old_rate", RATES, "`load_state_dict` brings the old rate back", "silent", (0.1, 0.001),
            "load-changed-rate", "rate-overwritten", "rate_of_the_factory_counts",
            ("pytorch/pytorch#156846", "pytorch/examples#1118", "mapbox/robosat#169")),
    Exhibit("rate_set_on_a_copy", RATES, "The rate is set on a copy", "silent", (0.1, 0.025),
            "rate-set-on-a-copy", "", "rate_follows_the_step_count", ("pytorch/examples#64",)),
    Exhibit("rate_set_on_the_object", RATES, "`optimizer.lr = 0.01`", "silent", (0.1, 0.01),
            "rate-set-on-the-object", "rate-set-on-the-object", "rate_on_the_object"),
    # -- graphs whose values have moved
    Exhibit("gan_step_between_backwards", STALE, "A step between two backwards", "raises", None,
            "weights-moved-before-backward", "", "step_between_backwards",
            ("pytorch/pytorch#39141", "MorvanZhou/PyTorch-Tutorial#89")),
    Exhibit("gan_step_between_backwards_fused", STALE, "A fused step between two backwards", "silent", (0, 1),
            "weights-moved-before-backward", "", "step_between_backwards", ("pytorch/pytorch#39141",), core=True),
    Exhibit("weight_clipped_before_backward", STALE, "Weights are clipped through `.data` before `backward`", "silent", (0, 1),
            "weights-moved-before-backward", "", "step_between_backwards"),
    Exhibit("data_edits_saved_activation", STALE, "An activation is edited through `.data`", "silent", (0, 1),
            "saved-value-changed", "", "activation_can_be_edited", ("pytorch/pytorch#6990",)),
    # -- graphs that are kept
    Exhibit("total_loss_keeps_graphs", KEPT, "`total_loss += loss`", "silent", (5, 0),
            "graph-kept", "", "total_keeps_graphs",
            ("google/brax#152", "horovod/horovod#641")),
    Exhibit("hidden_state_not_detached", KEPT, "The hidden state is not detached", "raises", None,
            "graph-used-twice", "", "hidden_state_stops_at_the_weights",
            ("discuss.pytorch.org/6795",)),
    Exhibit("hidden_state_retain_graph", KEPT, "`retain_graph=True` to silence it", "raises", None,
            "weights-moved-before-backward", "", "hidden_state_retained",
            ("discuss.pytorch.org/6795",)),
    # -- the functional wing: values that are lost
    Exhibit("result_ignored", LOST, "The step's result goes nowhere", "silent", (0, 2),
            "result-ignored", "", "result_ignored", ("google/flax#233",)),
    Exhibit("old_state_returned", LOST, "The old state is returned", "silent", (0, 3),
            "", "", "old_state_returned", ("google/flax#2467", "google/flax#3982")),
    Exhibit("optimizer_state_not_threaded", LOST, "The optimizer's state is not passed on", "silent", (0.1, 0.00625),
            "", "", "optimizer_state_not_threaded", ("google-deepmind/optax#424",)),
    Exhibit("statistics_dropped", LOST, "New statistics are dropped", "silent", (0.0, 3.2),
            "", "", "statistics_dropped", ("HomericIntelligence/Odyssey#5532",)),
    # -- the functional wing: values kept too long
    Exhibit("donated_value_used", LONG, "A value is used after it was given away", "silent", (0, 1),
            "snapshot-moved", "", "donated_value_used", ("jax-ml/jax#1733",)),
    Exhibit("graph_kept_across_steps", LONG, "Every step keeps the graph of all before it", "silent", (5, 0),
            "", "", "graph_kept_across_steps", ("pytorch/functorch#639",)),
    Exhibit("same_seed_every_step", LONG, "The same seed at every step", "silent", (1, 5),
            "", "", "same_seed_every_step", ("jax-ml/jax#170",)),
    # -- the functional wing: places behind the values
    Exhibit("functional_call_between_threads", BEHIND, "Two threads share one module", "silent", (0, 2),
            "", "", "functional_call_between_threads"),
    Exhibit("functional_call_writes_buffers", BEHIND, "A pure call writes into its argument", "silent", (4, 7),
            "", "", "functional_call_writes_buffers", ("docs.pytorch.org on functional_call",)),
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
    return _function(file_of(code), part)


def source_in_fnlib(code: str) -> str:
    """The text of the function that does an exhibit's task in ``fnlib``.

    Args:
        code: the exhibit.

    Returns:
        The source of that function; its docstring says what to see.

    Raises:
        KeyError: no such exhibit.
        FileNotFoundError: the package stands alone, without the repository that holds the exhibits.

    Example:
        >>> source_in_fnlib("best_state_dict").splitlines()[0]
        'def name_is_a_snapshot():'
    """
    one = exhibit(code)
    return source(code, "in_fnlib") if one.functional else part_in_fnlib(one.way)


def part_in_fnlib(name: str) -> str:
    """The text of one function or class of ``tests/loops/in_fnlib.py``."""
    return _function(_IN_FNLIB, name)


def parts_in_fnlib() -> list[str]:
    """Names of all functions and classes of ``tests/loops/in_fnlib.py``."""
    return [
        name
        for node in ast.parse(_IN_FNLIB.read_text(encoding="utf-8")).body
        if (name := getattr(node, "name", ""))
    ]


def harm_of(code: str) -> tuple[Callable[[Callable[..., Any]], float], str]:
    """How an exhibit's harm is measured.

    Args:
        code: the exhibit, one whose ``harm`` is not ``None``.

    Returns:
        The function of its file that measures a run, and what it measures in words.

    Raises:
        KeyError: no such exhibit.
        FileNotFoundError: the package stands alone, without the repository that holds the exhibits.

    Example:
        >>> harm_of("rate_set_on_a_copy")[1]
        'Rate of the third step (0.025 was asked for).'
    """
    harm = function_of(code, "harm")
    return harm, inspect.getdoc(harm) or ""


def function_of(code: str, part: str) -> Callable[..., Any]:
    """A function of an exhibit's file, ready to be called.

    Args:
        code: the exhibit.
        part: ``"setup"``, ``"bug"``, ``"cure"``, or another function of the file.

    Returns:
        The function, from a module that is loaded anew.

    Raises:
        KeyError: no such exhibit.
        AttributeError: its file has no such function.
        FileNotFoundError: the package stands alone, without the repository that holds the exhibits.

    Example:
        >>> sorted(function_of("rate_set_on_a_copy", "setup")())
        ['data', 'model', 'optimizer']
    """
    spec = importlib.util.spec_from_file_location(code, file_of(code))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., Any] = getattr(module, part)
    return found


def file_of(code: str) -> Path:
    """The file of an exhibit; ``FileNotFoundError`` where only the package is installed."""
    path = Path(__file__).resolve().parents[2] / exhibit(code).path
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: the exhibits come with the repository, not with the package alone."
        )
    return path


def _function(file: Path, name: str) -> str:
    text = file.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if getattr(node, "name", None) == name:
            return ast.get_source_segment(text, node) or ""
    raise KeyError(f"{file.name} has no {name!r}")
