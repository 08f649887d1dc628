"""What each loop of the museum is meant to do, in words that do not give its bug away: the headings of the rooms.

And what the ledger's rows show of a functional loop: it has no finding for most of these, as nothing is changed that should not be.
"""

from __future__ import annotations

TASKS: dict[str, str] = {
    # gradients that stay
    "zero_grad_forgotten": "A classifier, trained batch by batch",
    "zero_grad_once_an_epoch": "Two epochs of a regression",
    "zero_grad_before_step": "The four calls of a loop, in another order",
    "gan_generator_leaves_gradients": "A GAN: first the generator, then the discriminator",
    "gan_steps_at_the_end": "A GAN: the discriminator's loss, then the generator's",
    # optimizers that look elsewhere
    "layer_replaced_after_optimizer": "Fine-tuning with a new last layer",
    "assign_after_optimizer": "Pretrained weights are loaded without a copy",
    "optimizer_before_conversion": "A model that is described first and gets its memory later",
    "weight_norm_after_optimizer": "Weight normalisation for the first layer",
    # sharing, lost and unwanted
    "weight_in_two_optimizers": "One encoder, two heads, an optimizer for each head",
    "optimizer_aliases_its_buffer": "An optimizer of one's own, with a running average",
    "optimizer_keeps_the_gradient": "Another optimizer of one's own",
    "tie_lost_in_deepcopy": "A student is made from the parts of its teacher",
    "tie_lost_in_assign": "A language model with tied weights, loaded with `assign=True`",
    # snapshots that move
    "best_state_dict": "The best weights are kept and restored",
    "optimizer_state_dict": "An optimizer goes back to a checkpoint",
    "optimizer_state_shared": "A student starts from its teacher's optimizer",
    "detach_is_not_a_copy": "How far has a weight moved?",
    "target_network_is_the_network": "Q-learning with a target network",
    # modes, statistics, randomness
    "eval_forgotten": "Train, then predict",
    "train_forgotten": "Train and validate, three epochs",
    "batchnorm_moves_under_no_grad": "Validation under `no_grad`",
    "batchnorm_moves_under_inference_mode": "Validation under `inference_mode`",
    "batchnorm_without_version": "One loss on clean data, a second forward on noisy data",
    "extra_random_draw": "An ablation: the same network with one layer more",
    "seed_set_in_the_loop": "Training with dropout, evaluated on the same noise each time",
    # frozen parts that thaw
    "frozen_weight_keeps_momentum": "A layer is frozen in the middle of the training",
    "zero_gradient_still_decays": "A layer is kept by emptying its gradient",
    "frozen_after_backward": "From this batch on, the first layer is frozen",
    "frozen_batchnorm_moves": "A frozen backbone with a new head",
    "train_wakes_frozen_batchnorm": "A BatchNorm is put to sleep before the first epoch",
    # rates and schedulers
    "scheduler_before_optimizer": "A schedule that divides the rate by ten each epoch",
    "scheduler_changes_restored_rate": "Training goes on after the warm-up",
    "load_brings_back_old_rate": "Training goes on at a smaller rate",
    "rate_set_on_a_copy": "The rate is halved each epoch, by hand",
    "rate_set_on_the_object": "The rate is lowered after the first epoch",
    # graphs
    "gan_step_between_backwards": "A GAN with one forward for two losses",
    "gan_step_between_backwards_fused": "The same GAN with fused optimizers",
    "weight_clipped_before_backward": "A critic whose weights are clipped",
    "data_edits_saved_activation": "An autoencoder whose codes are clamped for a picture",
    "total_loss_keeps_graphs": "The mean loss of an epoch",
    "hidden_state_not_detached": "A stream, read in pieces by an RNN",
    "hidden_state_retain_graph": "The same stream, with the error message's own advice",
    # the functional wing: values that are lost
    "result_ignored": "A functional step in a loop",
    "old_state_returned": "A step that returns new weights and statistics",
    "optimizer_state_not_threaded": "A schedule that halves the rate each step",
    "statistics_dropped": "Ten batches through a network with BatchNorm",
    "same_seed_every_step": "Dropout with the seed as an argument",
    # the functional wing: places behind the values
    "donated_value_used": "How far have the weights moved, with their memory reused?",
    "graph_kept_across_steps": "New weights are computed from old ones",
    "functional_call_between_threads": "One module, two threads, two weights",
    "functional_call_writes_buffers": "A forward that leaves its module alone",
}

# What to look for in the rows of a functional loop; a word that has to stand in them, and one that must not.
ROWS: dict[str, tuple[str, str, str]] = {
    "result_ignored": (
        "No row binds `weights` again: what the step returns goes nowhere.",
        "step(",
        "bound again",
    ),
    "old_state_returned": (
        "`weights` is bound again, and `buffers` is not: it is the old one.",
        "weights  ",
        "buffers  ",
    ),
    "optimizer_state_not_threaded": (
        "`new_state` is bound again, and `state` is not: each update starts from the first state.",
        "new_state, updates",
        " state  ",
    ),
    "statistics_dropped": (
        "`new_buffers` is changed and then dropped; `buffers` is never bound again.",
        "new_buffers",
        " buffers  ",
    ),
    "donated_value_used": (
        "`weights` is changed in place before the name is bound again: `start` stands for the same tensors.",
        "changed in place",
        "start",
    ),
    "graph_kept_across_steps": (
        "The graph behind `loss` grows from step to step: {nodes} nodes.",
        "graph built",
        "graph grown",
    ),
    "same_seed_every_step": (
        "The random state moves, and `seed` is not bound again: each round draws the same.",
        "random state",
        " seed  ",
    ),
    "functional_call_between_threads": (
        "After two calls that were to leave the module alone, `module.weight` is another tensor.",
        "module.weight",
        "module.weight  changed in place",
    ),
    "functional_call_writes_buffers": (
        "`state` is changed in place, and with it `start`, which has the same tensors.",
        "and with it",
        "bound again",
    ),
}
