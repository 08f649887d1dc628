"""What each named error says: what happened, why, the wrong line and the right one.

The arguments of the error fill the places in braces. Indented lines are code.
"""

from __future__ import annotations

import re

_PAGE = """
[Immutable]
{0}
    {1}   # wrong: {2}

    {3}

[Donated]
{} was given away by `model.step(gradient, donate=True)` at {}, so its memory now belongs to the
parameters that this step returned.
    new = model.step(gradient, donate=True)   # `parameters` and `model` end here
    model = ModelFactory(new)                 # right: continue with what step returned
To keep the old value too, call step without donate=True.

[EmptyParameters]
These parameters are empty, so they can't {}: their initial weights are drawn when a factory binds
them.
    model = ModelFactory(fnlib.Parameters(seed=0))   # binding draws the initial weights
    parameters = model.parameters

[CannotStore]
{} is a {}{}. Parameters store nested dicts, lists and tuples of tensors, numbers and strings,
because those can be compared, saved and resumed exactly.
    state = {{'cache': module}}          # wrong: an object can change behind the value
    state = {{'cache': module.weight}}   # right: store the tensor itself

[NotAParametersFile]
{} can't be loaded as parameters: {}. Nothing was loaded.
    parameters.save(path)
    parameters = fnlib.Parameters.load(path)   # reads only what `save` wrote

[CannotRedraw]
{}, so initial weights can't be drawn from this instance: they could differ silently from those of a
new network. Pass a function that builds the network, or start from the weights that the instance
has.
    ModelFactory = fnlib.Factory(network)                 # wrong with empty parameters
    ModelFactory = fnlib.Factory(lambda: Network(...))    # right: build it when weights are drawn
    model = ModelFactory(fnlib.Parameters.from_module(network))   # right: use its own weights

[LazyModule]
{} of this network are lazy: they have no shape before the first forward pass, so there is nothing
to bind yet.
    ModelFactory = fnlib.Factory(nn.LazyLinear(10))   # wrong: the shape is unknown

    def build():
        network = nn.Sequential(nn.LazyLinear(10))
        network(torch.zeros(1, 128))                  # right: run it once
        return network
    ModelFactory = fnlib.Factory(build)

[WrongParameters]
{0}: {1}.
    {2}

[StateDropped]
This forward pass changed {0}, and `{2}` drops the change.
    {2}   # wrong: the new value of {1} is lost

    {3}   # right
    parameters = model.step(gradient, buffers=buffers)
{4}To use the statistics without changing them, bind with training=False or call model.eval()(...).

[HiddenState]
The forward pass of this network changes {0} of its module and {1}. Parameters can't hold an
attribute of a module, so the next model wouldn't see this change.
    self.{2} = ...   # wrong: only the module holds it
    self.register_buffer("{2}", torch.zeros(...))   # right: parameters hold buffers
Or pass it to forward as an argument, and return the new value with the output. If it's a generator
of random numbers, draw from PyTorch's own and bind with seed=. If the module is a library's, keep
this part out of the factory and call it on the model's output.

[LossNotScalar]
This loss {}, but only a single real number can be minimised.
    gradient = model.backward(losses)          # wrong
    gradient = model.backward(losses{})   # right: {}

[LossIndependent]
This loss doesn't depend on the weights of this model: {}.
    loss = criterion(other(feature), label)
    gradient = model.backward(loss)   # wrong: `loss` was not computed by `model`

    loss = criterion(model(feature), label)
    gradient = model.backward(loss)   # right
If `model` did compute it, something cut the graph on the way: .item(), .data, .detach(),
torch.tensor(...) or no_grad.

[HiddenByCheckpoint]
torch.utils.checkpoint with use_reentrant=True writes `.grad` instead of joining the graph, so a
gradient of this loss would lack {}.
    x = checkpoint(self.block, x, use_reentrant=True)    # wrong: no gradient for `block`
    x = checkpoint(self.block, x, use_reentrant=False)   # right: the same memory, and a graph

[DifferentiateOutside]
Inside torch.func.vmap and the other transforms a loss has no graph, so model.backward can't find
the weights. Differentiate with torch.func.grad.
    def one(x):
        return ModelFactory(parameters).backward(loss_of(x))   # wrong inside vmap(one)

    def loss_of(weights, x):
        return criterion(ModelFactory(parameters.replace(weights=weights))(x))
    vmap(torch.func.grad(loss_of), in_dims=(None, 0))(dict(parameters), X)   # right

[CannotTransform]
{} {}, and a transform of torch.func would silently miss that.
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.wrap(torch.optim.Adam))   # wrong here
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.Adam(lr=1e-3))            # right
Outside of transforms this step works as it is.

[GraphUsedUp]
An earlier backward used up the graph behind this loss: PyTorch frees the saved activations as it
goes.
    gradient = model.backward(loss)
    again = model.backward(loss)                         # wrong: the graph is freed

    gradient = model.backward(loss, retain_graph=True)   # right if you need both passes
    gradient + gradient                                  # right: a gradient is a value

[GraphOverwritten]
A tensor that this backward needs was changed in place after the forward pass. PyTorch says:
    {}

    feature.add_(1)         # wrong between forward and backward
    feature = feature + 1   # right: a new tensor; the graph keeps the old one

[WeightsOverwritten]
{0} of this model was written to or frozen, through `model.weights` or by the network itself. The
parameters are as they were, so an output of this model would belong to neither.
    model.weights["{1}"].data.mul_(0.5)                   # wrong: the model ends here
    new = {{"{1}": model.weights["{1}"].detach() * 0.5}}
    model = ModelFactory(parameters.replace(weights=new))   # right: a new value

[MissingBuffers]
A forward pass of this model changed {}, and this step would keep the old values.
    output, buffers = model.with_buffers(feature)
    parameters = model.step(gradient)                    # wrong: drops the new buffers
    parameters = model.step(gradient, buffers=buffers)   # right
To keep the old ones on purpose: model.step(gradient, buffers=model.parameters.buffers).

[MissingPass]
More than one forward pass of this model changed {}, and these buffers lack one of the changes.
    left, first = model.with_buffers(a)
    right, buffers = model.with_buffers(b)                # wrong: starts from the old buffers
    right, buffers = model.carry(first).with_buffers(b)   # right: continues from the first pass
    parameters = model.step(gradient, buffers=buffers)
To keep only one of them on purpose: model.step(gradient, buffers=dict(buffers)).

[CarriesGraph]
The weights of these parameters carry a graph, which `replace(weights=...)` or `lerp` kept, so they
can't {}. Such parameters are for one forward pass and one backward through them
(meta-learning, hypernetworks).
    parameters = parameters.replace(weights=weights)   # keeps the graph behind `weights`

    plain = {{name: w.detach() for name, w in weights.items()}}
    parameters = parameters.replace(weights=plain)     # right: numbers only

[AbsentGradient]
This update rule reads the gradient of '{}', but the loss doesn't depend on this weight, so the
gradient has no entry for it.
    new = {{name: weights[name] - 0.1 * gradient[name] for name in weights}}    # wrong
    new = {{name: weights[name] - 0.1 * gradient[name] for name in gradient}}   # right
    return {{**weights, **new}}, state

[WrongRule]
These parameters hold the optimizer state of {}, but this factory updates with {}, and one rule
can't read the other's state.
    parameters = model.step(gradient)   # wrong

    model = ModelFactory(parameters.replace(optimizer_state=None))   # right: start afresh

[MissingObjective]
{} evaluates the loss several times in one step, so a gradient isn't enough: it needs the function
that computes the loss from a model.
    parameters = model.step(gradient)               # wrong

    def objective(model):
        output, buffers = model.with_buffers(feature)
        return criterion(output, label), buffers
    parameters = model.step(objective=objective)    # right: or return the loss alone

[CannotWrap]
{0} can't be an update rule: {1}.
    {3}   # wrong
    {2}

[WrongHistory]
{0}: {1}.
    {2}

[HistoryInUse]
You can't append to {}: {}. Two writers would overwrite each other's states.
    history = fnlib.History(path)              # everybody may read
    other = history.branch(300, "run-b")       # right: write to a branch of your own

[DamagedHistory]
{} can't be read: {}. States that don't need this file can still be read.
    history[299]                               # an earlier state
    other = history.branch(299, "run-b")       # continue from it

[StateNotWritten]
{} couldn't be written: {}. All earlier states are complete.
    history.prune(range(1, len(history) - 1))   # makes room; or free some space elsewhere
    history.append(parameters)                  # append the same state again

[NotKept]
State {} isn't on disk: {}. The steps from an earlier state can be replayed.
    def step(parameters, i):                    # from state i to state i + 1
        model = ModelFactory(parameters, seed=0)
        return model.step(model.backward(loss_of(model, batches[i])))

    history = fnlib.History(path, step=step)

[ReplicasDiffer]
The replicas differ: {0} isn't the same everywhere ({1}), after step {2}. {3} of {4} entries of the
state differ.
    parameters = fnlib.distributed.broadcast(parameters)          # at the start: one value for all
    gradient = fnlib.distributed.all_reduce(model.backward(loss))   # in each step
    parameters = model.step(gradient.clip_norm(1.0))              # then the same on every rank

[RanksDisagree]
The ranks don't do the same: {0}. This rank is at {1}.
    if rank == 0:
        gradient = fnlib.distributed.all_reduce(gradient)   # wrong: the others don't take part

    gradient = fnlib.distributed.all_reduce(gradient)       # right: on every rank

[RankLost]
Another rank didn't take part in {0}: it died, or it is still busy elsewhere. The backend says: {1}.
This process group can't be used any more.
    torchrun --max-restarts=3 train.py                      # starts all ranks again ...
    history = fnlib.History(path)                           # ... and each goes on from here
    dist.init_process_group("gloo", timeout=timedelta(minutes=2))   # how long to wait

[CannotReduce]
'{}' is {}, so ranks can't exchange it as it is.
    gradient = fnlib.distributed.all_reduce(gradient)   # wrong: dense tensors only
    {}   # right

[NotAModule]
A functional model has no attribute '{0}'. {1}
    model.{0}   # wrong

    {2}   # right{3}

[NotCallable]
`parameters` is a value, not a method: a mapping of names to tensors. The optimizer belongs to the
factory, which needs no list of weights.
    model.parameters()   # wrong

    for name, weight in model.parameters.items(): ...   # right
    ModelFactory = fnlib.Factory(Network, optimizer=fnlib.Adam(lr=0.01))   # right: no list
"""


def _set_apart(text: str) -> str:
    """Put a blank line between prose and code, and join the lines of prose."""
    text = re.sub(r"(?m)^(\S.*)\n(?= )|^( .*)\n(?=\S)", r"\g<0>\n", text.strip())
    return re.sub(r"(?m)^(\S.*)\n(?=\S)", r"\1 ", text)


_PARTS = re.split(r"(?m)^\[(\w+)\]$", _PAGE)
TEXTS = {name: _set_apart(text) for name, text in zip(_PARTS[1::2], _PARTS[2::2], strict=True)}

_MOVED = "Its parameters are a value, and moving makes another one."
_TO = "model = ModelFactory(parameters.to({}))"
_OWNED = "They belong to its parameters."
_GRADIENT = "gradient = model.backward(loss)"
# What an `nn.Module` has and a model hasn't: why, and what to write instead.
HABITS = {
    "zero_grad": ("Nothing accumulates: each backward returns a gradient of its own.", _GRADIENT),
    "grad": ("No weight has a `.grad`: the gradient is a value of its own.", _GRADIENT),
    "state_dict": (
        "Parameters never change: kept, they are a snapshot.",
        "best = model.parameters",
    ),
    "load_state_dict": ("Bind the parameters that you kept.", "model = ModelFactory(best)"),
    "named_parameters": (
        "Its parameters are a mapping of names to tensors.",
        "for name, weight in model.parameters.items(): ...",
    ),
    "buffers": (_OWNED, "buffers = model.parameters.buffers"),
    "named_buffers": (_OWNED, "for name, buffer in model.parameters.buffers.items(): ..."),
    "to": (_MOVED, _TO.format("device")),
    "cuda": (_MOVED, _TO.format('"cuda"')),
    "cpu": (_MOVED, _TO.format('"cpu"')),
    "double": (_MOVED, _TO.format("torch.float64")),
    "float": (_MOVED, _TO.format("torch.float32")),
    "half": (_MOVED, _TO.format("torch.float16")),
    "bfloat16": (_MOVED, _TO.format("torch.bfloat16")),
    "training": (
        "`model.eval()` and `model.train()` return another model and switch nothing.",
        "model = ModelFactory(parameters, training=False)",
    ),
}
_OTHER = (
    "It binds parameters to your module and is not the module itself.",
    'model.call("{0}", ...)',
    ", if it is a method of your module\n"
    "    network = build_network(); network.{0}   # right, if it is an attribute",
)


def habit(name: str) -> tuple[str, str, str]:
    """Say why a model has no such attribute, what to write instead, and what else."""
    why, right = HABITS.get(name, _OTHER[:2])
    return why, right.format(name), "" if name in HABITS else _OTHER[2].format(name)
