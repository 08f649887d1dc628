"""What becomes of the museum's bugs in fnlib: cannot be written, refused by a named error, or can still be written."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["cannot be written", "refused", "can still be written"]

# The verdict and its reason. Each key is a function of tests/loops/in_fnlib.py that shows it (in the functional
# wing: of the exhibit's own file), and a test holds the verdict to what the function does.
IN_FNLIB: dict[str, tuple[Verdict, str]] = {
    "gradient_is_a_value": (
        "cannot be written",
        "A gradient is a value: there is no place in which it could stay.",
    ),
    "rule_holds_no_weights": (
        "cannot be written",
        "Weights and optimizer state are one value; a rule holds none that it could lose.",
    ),
    "name_is_a_snapshot": (
        "cannot be written",
        "`parameters` never changes; a name bound to it is a snapshot.",
    ),
    "statistics_are_refused": (
        "refused",
        "`model(x)` raises when a forward changes statistics, and shows the two lines to write.",
    ),
    "rate_follows_the_step_count": (
        "cannot be written",
        "The rate is a function of the step count, which is part of the value.",
    ),
    "step_between_backwards": (
        "cannot be written",
        "`step` changes no weight that a graph still needs.",
    ),
    "own_rule_is_trusted": (
        "can still be written",
        "A rule of your own may compute what it likes; only what it is given is safe.",
    ),
    "rule_is_given_copies": (
        "cannot be written",
        "What a rule is given is copy-on-write: keeping it and writing to it harms nobody.",
    ),
    "another_structure_is_refused": (
        "refused",
        "Parameters fit one structure; to bind them to another raises `WrongParameters`.",
    ),
    "tie_is_one_entry": ("cannot be written", "A tied weight is one entry, stored once."),
    "mode_is_training_unless_said": (
        "can still be written",
        "The mode is an argument of the bind; its default is training.",
    ),
    "evaluation_is_another_model": (
        "cannot be written",
        "`model.eval()` is a new model; the training model stays as it is.",
    ),
    "frozen_statistics": (
        "cannot be written",
        "Modes by submodule are an argument of the bind; nothing switches them later.",
    ),
    "forward_leaves_the_old_statistics": (
        "cannot be written",
        "No forward changes the buffers of a model.",
    ),
    "absent_entry_stands_still": (
        "cannot be written",
        "A weight without an entry in the gradient is left as it is.",
    ),
    "zero_gradient_decays": (
        "can still be written",
        "A gradient of zeros is a gradient; leave the entry out to leave the weight alone.",
    ),
    "gradient_says_what_moves": (
        "cannot be written",
        "What is in the gradient is stepped, and it can be read there.",
    ),
    "rate_of_the_factory_counts": (
        "cannot be written",
        "The rate is part of the factory's rule; loaded parameters bring no other.",
    ),
    "rate_on_the_object": (
        "refused",
        "A rule is finished when it is made: `rule.lr = ...` raises `Immutable`.",
    ),
    "activation_can_be_edited": (
        "can still be written",
        "Activations are ordinary tensors; only state is protected.",
    ),
    "total_keeps_graphs": (
        "can still be written",
        "A loss is an ordinary tensor with its graph; use `loss.item()`.",
    ),
    "hidden_state_stops_at_the_weights": (
        "can still be written",
        "The gradient stops at the weights of its model; detach, or the chain of graphs grows.",
    ),
    "hidden_state_retained": (
        "can still be written",
        "Old weights stay, so the old graph works; it grows until you detach.",
    ),
    "draws_are_pytorchs": (
        "can still be written",
        "Initial weights are drawn as PyTorch draws them, from one generator.",
    ),
    "seed_is_folded": (
        "cannot be written",
        "With `seed=` a forward depends on no global state; the seed is folded with the step count.",
    ),
    "result_ignored": ("can still be written", "Nothing is changed, and nothing says so."),
    "old_state_returned": ("refused", "A training model's `step` without its new buffers raises."),
    "optimizer_state_not_threaded": (
        "cannot be written",
        "Weights and optimizer state travel in one value.",
    ),
    "statistics_dropped": (
        "refused",
        "`model(x)` raises when a forward changes statistics, and shows the two lines to write.",
    ),
    "donated_value_used": ("refused", "`Donated` names the value, and the line that gave it away."),
    "graph_kept_across_steps": ("cannot be written", "`step` returns values without a graph."),
    "functional_call_between_threads": (
        "cannot be written",
        "A factory serves many parameters at once.",
    ),
    "functional_call_writes_buffers": (
        "cannot be written",
        "What a forward changes comes back as a value.",
    ),
    "same_seed_every_step": ("cannot be written", "The seed is folded with the step count."),
}
