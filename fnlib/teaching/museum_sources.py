"""Where the museum's bugs were met: each link, and in our own words what its page says.

Every page in this list was opened and read. A bug for which no page was found has no entry here, and its exhibit says
that it was reproduced for the museum.
"""

from __future__ import annotations

GITHUB = "https://github.com/"

# short name: (kind of page, what it says)
SOURCES: dict[str, tuple[str, str]] = {
    "pytorch/pytorch#47175": (
        "issues",
        "Asks for a warning when a step comes without `zero_grad`, which is easily forgotten or written once an epoch.",
    ),
    "meta-pytorch/torchforge#71": (
        "pull",
        "Adds the `zero_grad` that was missing after each step.",
    ),
    "fchollet/deep-learning-with-python-notebooks#293": (
        "issues",
        "Reports that a book's PyTorch training step forgets `zero_grad`, with bad results.",
    ),
    "MishaLaskin/curl#28": (
        "issues",
        "The encoder is held by two optimizers, and both step after one backward; readers ask why it is updated twice.",
    ),
    "ipolharvard/ethos-ares#20": (
        "issues",
        "No call of `model.eval()` anywhere, so dropout was on at inference; the authors call it a bug and publish new results.",
    ),
    "pytorch/pytorch#46149": (
        "issues",
        "A layer that is built and never used moves the result of an experiment by two percent.",
    ),
    "pytorch/pytorch#6990": (
        "issues",
        "Shows that a change through `.detach()` raises when backward needs the value, where one through `.data` goes unseen.",
    ),
    "mlverse/torch#441": (
        "issues",
        "Results kept with `detach` during a search were those of its end; `clone` is the answer. (The same tensors, from R.)",
    ),
    "jax-ml/jax#170": (
        "issues",
        "A maintainer explains that a key made on the spot drops the same units each time; each call needs a fresh key.",
    ),
    "discuss.pytorch.org/153740": (
        "page",
        "A frozen layer still changed; its author found that the old gradients had to be set to None as well.",
    ),
    "docs.pytorch.org on zero_grad": (
        "page",
        "The manual says that an optimizer steps for a gradient of 0, and passes over one that is None.",
    ),
    "docs.pytorch.org on functional_call": (
        "page",
        "The manual notes that what a module changes in place shows in the dict that was passed in.",
    ),
    "sacmehta/EdgeNets#14": (
        "issues",
        "Reports gradients that were cleared at the wrong place; moving `zero_grad` above `backward` helped.",
    ),
    "Lightning-AI/pytorch-lightning#591": (
        "issues",
        "A GAN did not train for two days: the generator's backward left gradients in the discriminator.",
    ),
    "Lightning-AI/pytorch-lightning#557": (
        "issues",
        "The GAN template never cleared the discriminator's gradients before its own backward.",
    ),
    "ginobilinie/asdnet#2": (
        "issues",
        "With both steps at the end, a reader notes, the gradient of one network's loss can move the other; the author agrees, in theory.",
    ),
    "leftthomas/SRGAN#89": (
        "issues",
        "A reader's way around the in-place error: both steps of the GAN after both backwards.",
    ),
    "pytorch/pytorch#39141": (
        "issues",
        "A simple GAN that worked before raises the in-place error since 1.5: a step came between two backwards.",
    ),
    "MorvanZhou/PyTorch-Tutorial#89": (
        "issues",
        "The same error in a tutorial; a reader explains that 1.4 did not check and 1.5 does.",
    ),
    "microsoft/nni#4521": (
        "issues",
        "After pruning replaced the layers, the optimizer still held the old parameters; a new optimizer solved it.",
    ),
    "FasterAI-Labs/fasterai#92": (
        "pull",
        "After a structured prune the optimizer held one of eight live parameters, and pruned layers did not move.",
    ),
    "pytorch/tutorials#2522": (
        "pull",
        "The tutorial on `assign=True` says that the optimizer must be built after the load.",
    ),
    "pytorch/pytorch#7844": (
        "issues",
        "Discusses when parameters stay the same objects in a move; an optimizer built earlier can still be left with old tensors.",
    ),
    "yangluo7/CAME#2": (
        "issues",
        "An optimizer's `update` was its own `exp_avg`, so that the rate was multiplied into the average; the author fixed it.",
    ),
    "pytorch/tutorials#188": (
        "pull",
        "The official tutorial kept `model.state_dict()` as the best weights; without a deep copy these are always the last ones.",
    ),
    "pytorch/pytorch#34765": (
        "issues",
        "Asks for a copying `state_dict`: the kept state went on being updated.",
    ),
    "WenjieDu/PyPOTS#667": (
        "issues",
        "The best model kept changing because its `state_dict()` was not copied; labelled a bug and fixed.",
    ),
    "thunlp/OpenKE#131": (
        "pull",
        "Copies the state dict, because the best model was always the newest one.",
    ),
    "pytorch/pytorch#196083": (
        "issues",
        "Optimizer state handed over without saving to a file is shared by both optimizers.",
    ),
    "datawhalechina/easy-rl#140": (
        "issues",
        "Policy and target network of a course's notebook were one and the same object.",
    ),
    "andri27-ts/Reinforcement-Learning#14": (
        "issues",
        "Asks why the target network is bound to the moving network, which makes it follow every update.",
    ),
    "fartashf/vsepp#4": (
        "issues",
        "After a validation the model stayed in `eval()`; fixing it changed the results, so the old way became a flag.",
    ),
    "facebookresearch/unbiased-teacher#47": (
        "issues",
        "A comment said that BatchNorm does not update under `no_grad`; a reader pointed out that it does.",
    ),
    "isht7/pytorch-deeplab-resnet#39": (
        "issues",
        "Asks why the running means of frozen BatchNorm layers keep changing; `eval()` mode is the answer.",
    ),
    "pytorch/pytorch#20967": (
        "issues",
        "Setting `track_running_stats = False` on a finished layer does not stop the statistics.",
    ),
    "pytorch/pytorch#13402": (
        "issues",
        "BatchNorm changes its statistics without raising their version counter; open since 2018.",
    ),
    "pytorch/pytorch#120622": (
        "issues",
        "The newer operator does not raise the counter either: a risk of silently wrong results.",
    ),
    "facebookresearch/fairseq#4702": (
        "issues",
        "Parameters with `requires_grad = False` were found changed after training.",
    ),
    "huggingface/transformers#2277": (
        "issues",
        "Asks whether the order of scheduler and optimizer in an example needs to change, because of the warning.",
    ),
    "huggingface/transformers#1136": (
        "pull",
        "Swaps the two calls, so that the first rate is no longer skipped.",
    ),
    "pytorch/pytorch#119168": (
        "issues",
        "Building a scheduler after the optimizer was restored changes the restored rate; true of nearly all schedulers.",
    ),
    "pytorch/pytorch#156846": (
        "issues",
        "Loading the optimizer's state makes it impossible to go on with another learning rate.",
    ),
    "pytorch/examples#1118": (
        "pull",
        "Resuming the ImageNet example overwrites the rate given on the command line; this asks to keep it.",
    ),
    "mapbox/robosat#169": (
        "issues",
        "Resuming ignores the rate that the user gives, because the optimizer's state brings the old one.",
    ),
    "pytorch/examples#64": (
        "issues",
        "Changing the rate through `optimizer.state_dict()['param_groups']` had no effect.",
    ),
    "google/brax#152": (
        "pull",
        "A training example added up losses with their graphs; memory grew.",
    ),
    "horovod/horovod#641": (
        "pull",
        "A metric kept the graph of every training loss until memory ran out; detaching solved it.",
    ),
    "discuss.pytorch.org/6795": (
        "page",
        "The forum's thread on going backward through a graph a second time.",
    ),
    "pytorch/pytorch#188346": (
        "issues",
        "`load_state_dict(assign=True)` breaks tied weights into separate ones.",
    ),
    "pytorch/pytorch#79788": (
        "issues",
        "Copying parameters does not keep that they shared their storage.",
    ),
    "tanelp.github.io": (
        "page",
        "Of the surveyed projects that draw NumPy numbers in data workers, over 95 % drew the same ones in each worker.",
    ),
    "pytorch/pytorch#56488": ("commit", "Since 1.9 each data worker gets a NumPy seed of its own."),
    "google/flax#233": (
        "issues",
        "Hours were lost because the model called was still the old one; the new one was in the optimizer's result.",
    ),
    "google/flax#2467": (
        "issues",
        "The official guide returned the old state instead of the updated one.",
    ),
    "google/flax#3982": ("pull", "The official guide evaluated with the initial parameters."),
    "google-deepmind/optax#424": (
        "issues",
        "The rate did not change at all: the optimizer's state was not passed on properly.",
    ),
    "HomericIntelligence/Odyssey#5532": (
        "issues",
        "New BatchNorm statistics were returned and dropped, so that inference used the initial ones.",
    ),
    "jax-ml/jax#1733": (
        "issues",
        "Asks for donation, because two copies of parameters and moments are too many.",
    ),
    "pytorch/functorch#639": (
        "issues",
        "A functional loop kept the graph of every step, because its new weights still required gradients.",
    ),
}

_ADDRESSES = {
    "discuss.pytorch.org/6795": "https://discuss.pytorch.org/t/runtimeerror-trying-to-backward-through-the-graph-a-second-time-but-the-buffers-have-already-been-freed-specify-retain-graph-true-when-calling-backward-the-first-time/6795",
    "discuss.pytorch.org/153740": "https://discuss.pytorch.org/t/why-there-is-still-a-small-change-in-frozen-layer-parameters/153740",
    "docs.pytorch.org on zero_grad": "https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html",
    "docs.pytorch.org on functional_call": "https://docs.pytorch.org/docs/stable/generated/torch.func.functional_call.html",
    "tanelp.github.io": "https://tanelp.github.io/posts/a-bug-that-plagues-thousands-of-open-source-ml-projects/",
    "pytorch/pytorch#56488": "https://github.com/pytorch/pytorch/pull/56488",
}


def address(name: str) -> str:
    """The web address of a source.

    Args:
        name: its short name, a key of `SOURCES`.

    Returns:
        The address.

    Raises:
        KeyError: there is no such source.

    Example:
        >>> address("pytorch/pytorch#47175")
        'https://github.com/pytorch/pytorch/issues/47175'
    """
    kind, _ = SOURCES[name]
    if name in _ADDRESSES:
        return _ADDRESSES[name]
    repository, number = name.split("#")
    return f"{GITHUB}{repository}/{kind}/{number}"
