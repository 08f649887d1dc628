"""Every exception of fnlib: what happened, why, and the line to write.

Catch all of them as ``fnlib.FnlibError``. Each one is also the error that Python would raise
(``TypeError``, ``ValueError``, ``RuntimeError``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fnlib.show import words

__all__ = [
    "AbsentGradient", "CannotRedraw", "CannotReduce", "CannotStore", "CannotTransform",
    "CannotWrap", "CarriesGraph", "DamagedHistory", "DifferentiateOutside", "Donated",
    "EmptyParameters", "FnlibError", "GraphOverwritten", "GraphUsedUp", "HiddenByCheckpoint",
    "HiddenState", "HistoryInUse", "Immutable", "LazyModule", "LossIndependent",
    "LossNotScalar", "MissingBuffers", "MissingObjective", "MissingPass",
    "NotAModule", "NotAParametersFile", "NotCallable", "NotKept", "RankLost", "RanksDisagree", "ReplicasDiffer",
    "StateDropped", "StateNotWritten", "UnsupportedModule", "WeightsOverwritten",
    "WrongHistory", "WrongParameters", "WrongRule",
]  # fmt: skip


class FnlibError(Exception):
    """Base of every exception that fnlib raises on purpose.

    A subclass writes its message as a template, `says`, whose places the arguments fill: a list of
    names is written out.
    """

    says = "{}"

    def __init_subclass__(cls) -> None:
        if "says" in vars(cls):
            cls.says = words.paragraphs(cls.says)

    def __init__(self, *parts: Any) -> None:
        super().__init__(*(words.names(p) if isinstance(p, list) else p for p in parts))

    def __str__(self) -> str:
        return self.says.format(*self.args)

    def __reduce__(self) -> Any:
        # Fill `args` as they are: __init__ of a subclass has already turned its arguments into them.
        return _filled, (type(self), self.args), vars(self)


def _filled(kind: type[FnlibError], args: tuple[Any, ...]) -> FnlibError:
    return kind.__new__(kind, *args)


# --- values -----------------------------------------------------------------------------------


class Immutable(FnlibError, TypeError):
    """A value, a rule or a factory was asked to change."""

    says = """
    {0}

        {1}   # wrong: {2}

        {3}
    """


class Donated(FnlibError, RuntimeError):
    """A value was used after a step had taken over its memory."""

    says = """
    {} was given away by `model.step(gradient, donate=True)` at {},
    so its memory now belongs to the parameters that this step returned.

        new = model.step(gradient, donate=True)   # `parameters` and `model` end here
        model = ModelFactory(new)                 # right: continue with what step returned

    To keep the old value too, call step without donate=True.
    """


class EmptyParameters(FnlibError, ValueError):
    """Empty parameters were asked for their weights."""

    says = """
    These parameters are empty, so they can't {}: their initial weights are drawn
    when a factory binds them.

        model = ModelFactory(fnlib.Parameters(seed=0))   # binding draws the initial weights
        parameters = model.parameters
    """


class CannotStore(FnlibError, TypeError):
    """A piece of state has a type that parameters can't store."""

    says = """
    {} is a {}{}.
    Parameters store nested dicts, lists and tuples of tensors, numbers and strings, because
    those can be compared, saved and resumed exactly.

        state = {{'cache': module}}          # wrong: an object can change behind the value
        state = {{'cache': module.weight}}   # right: store the tensor itself
    """

    def __init__(self, where: str, value: object, why: str = "") -> None:
        super().__init__(where, f"{type(value).__module__}.{type(value).__qualname__}", why)


class NotAParametersFile(FnlibError, ValueError):
    """A file doesn't hold complete parameters."""

    says = """
    {} can't be loaded as parameters: {}. Nothing was loaded.

        parameters.save(path)
        parameters = fnlib.Parameters.load(path)   # reads only what `save` wrote
    """


# --- networks ---------------------------------------------------------------------------------


class CannotRedraw(FnlibError, TypeError):
    """The initial weights of this module instance can't be drawn again exactly."""

    says = """
    {}, so initial weights can't be drawn from this instance:
    they could differ silently from those of a new network. Pass a function that builds the
    network, or start from the weights that the instance has.

        ModelFactory = fnlib.Factory(network)                 # wrong with empty parameters
        ModelFactory = fnlib.Factory(lambda: Network(...))    # right: build it when weights are drawn
        model = ModelFactory(fnlib.Parameters.from_module(network))   # right: use its own weights
    """


class UnsupportedModule(FnlibError, TypeError):
    """A network can't be bound to parameters."""


class LazyModule(UnsupportedModule):
    """A network has weights whose shape isn't known yet."""

    says = """
    {} of this network are lazy: they have no shape before the first forward pass,
    so there is nothing to bind yet.

        ModelFactory = fnlib.Factory(nn.LazyLinear(10))   # wrong: the shape is unknown

        def build():
            network = nn.Sequential(nn.LazyLinear(10))
            network(torch.zeros(1, 128))                  # right: run it once
            return network
        ModelFactory = fnlib.Factory(build)
    """


class WrongParameters(FnlibError, ValueError):
    """Names, shapes, dtypes or devices don't fit the network."""

    says = """
    {0}: {1}.

        {2}
    """


class StateDropped(FnlibError, RuntimeError):
    """A forward pass changed state, and the call would have dropped the change."""

    says = """
    This forward pass changed {0}, and `{2}` drops the change.

        {2}   # wrong: the new value of {1} is lost

        {3}   # right
        parameters = model.step(gradient, buffers=buffers)

    {4}To use the statistics without changing them, bind with training=False or call model.eval().
    """


class HiddenState(FnlibError, RuntimeError):
    """A forward pass keeps state in attributes of its module."""

    says = """
    The forward pass of this network changes {0} of its module and {1}.
    Parameters can't hold an attribute of a module, so the next model wouldn't see this change.

        self.{2} = ...   # wrong: only the module holds it
        self.register_buffer("{2}", torch.zeros(...))   # right: parameters hold buffers

    Or pass it to forward as an argument, and return the new value with the output.
    If it's a generator of random numbers, draw from PyTorch's own and bind with seed=. If the module
    is a library's, keep this part out of the factory and call it on the model's output.
    """

    def __init__(self, names: Iterable[str], why: str) -> None:
        names = list(names)
        super().__init__(words.names(names), why, names[0].rpartition(".")[2])


# --- backward and step ------------------------------------------------------------------------


class LossNotScalar(FnlibError, ValueError):
    """A loss isn't a single real number."""

    says = """
    This loss {}, but only a single real number can be minimised.

        gradient = model.backward(losses)          # wrong
        gradient = model.backward(losses{})   # right: {}
    """


class LossIndependent(FnlibError, ValueError):
    """A loss doesn't depend on the weights of the model."""

    says = """
    This loss doesn't depend on the weights of this model: {}.

        loss = criterion(other(feature), label)
        gradient = model.backward(loss)   # wrong: `loss` was not computed by `model`

        loss = criterion(model(feature), label)
        gradient = model.backward(loss)   # right
    """


class HiddenByCheckpoint(FnlibError, ValueError):
    """A reentrant checkpoint keeps weights out of the graph."""

    says = """
    torch.utils.checkpoint with use_reentrant=True writes `.grad` instead of joining the graph,
    so a gradient of this loss would lack {}.

        x = checkpoint(self.block, x, use_reentrant=True)    # wrong: no gradient for `block`
        x = checkpoint(self.block, x, use_reentrant=False)   # right: the same memory, and a graph
    """


class DifferentiateOutside(FnlibError, ValueError):
    """A gradient was asked for inside a transform of torch.func."""

    says = """
    Inside torch.func.vmap and the other transforms a loss has no graph, so model.backward can't
    find the weights. Differentiate with torch.func.grad.

        def one(x):
            return ModelFactory(parameters).backward(loss_of(x))   # wrong inside vmap(one)

        def loss_of(weights, x):
            return criterion(ModelFactory(parameters.replace(weights=weights))(x))
        vmap(torch.func.grad(loss_of), in_dims=(None, 0))(dict(parameters), X)   # right
    """


class CannotTransform(FnlibError, TypeError):
    """A transform of torch.func can't follow a training step."""

    says = """
    {} {}, and a transform of torch.func would silently miss that.

        ModelFactory = fnlib.Factory(build, optimizer=fnlib.wrap(torch.optim.Adam))   # wrong here
        ModelFactory = fnlib.Factory(build, optimizer=fnlib.Adam(lr=1e-3))            # right

    Outside of transforms this step works as it is.
    """


class GraphUsedUp(FnlibError, RuntimeError):
    """A second backward needs a graph that the first one freed."""

    says = """
    An earlier backward used up the graph behind this loss: PyTorch frees the saved activations
    as it goes.

        gradient = model.backward(loss)
        again = model.backward(loss)                         # wrong: the graph is freed

        gradient = model.backward(loss, retain_graph=True)   # right if you need both passes
        gradient + gradient                                  # right: a gradient is a value
    """


class GraphOverwritten(FnlibError, RuntimeError):
    """A tensor that backward needs was changed in place."""

    says = """
    A tensor that this backward needs was changed in place after the forward pass. PyTorch says:

        {}

        feature.add_(1)         # wrong between forward and backward
        feature = feature + 1   # right: a new tensor; the graph keeps the old one
    """

    def __init__(self, original: str) -> None:
        super().__init__(original.splitlines()[0])


class WeightsOverwritten(FnlibError, RuntimeError):
    """Somebody wrote to the weights that a model showed."""

    says = """
    {0} of this model was changed in place through `model.weights`. The parameters still hold
    the old values, so an output of this model would belong to neither.

        model.weights["{1}"].data.mul_(0.5)                   # wrong: the model ends here
        new = {{"{1}": model.weights["{1}"].detach() * 0.5}}
        model = ModelFactory(parameters.replace(weights=new))   # right: a new value
    """

    def __init__(self, names: Iterable[str]) -> None:
        names = list(names)
        super().__init__(words.names(names), names[0])


class MissingBuffers(FnlibError, ValueError):
    """A step was called without the buffers that the forward pass changed."""

    says = """
    A forward pass of this model changed {}, and this step would keep the old values.

        output, buffers = model.with_buffers(feature)
        parameters = model.step(gradient)                    # wrong: drops the new buffers
        parameters = model.step(gradient, buffers=buffers)   # right

    To keep the old ones on purpose: model.step(gradient, buffers=model.parameters.buffers).
    """


class MissingPass(MissingBuffers):
    """A step was given the buffers of one forward pass, and another one changed them too."""

    says = """
    More than one forward pass of this model changed {}, and these buffers lack one of the changes.

        left, first = model.with_buffers(a)
        right, buffers = model.with_buffers(b)                # wrong: starts from the old buffers
        right, buffers = model.carry(first).with_buffers(b)   # right: continues from the first pass
        parameters = model.step(gradient, buffers=buffers)

    To keep only one of them on purpose: model.step(gradient, buffers=dict(buffers)).
    """


class CarriesGraph(FnlibError, ValueError):
    """Parameters whose weights carry a graph were asked for what only numbers can do."""

    says = """
    The weights of these parameters carry a graph, which `replace(weights=...)` kept, so they can't {}.
    Such parameters are for one forward pass and one backward through them (meta-learning,
    hypernetworks).

        parameters = parameters.replace(weights=weights)   # keeps the graph behind `weights`

        plain = {{name: w.detach() for name, w in weights.items()}}
        parameters = parameters.replace(weights=plain)     # right: numbers only
    """


class AbsentGradient(WrongParameters, KeyError):
    """An update rule read the gradient of a weight that the loss doesn't depend on."""

    says = """
    This update rule reads the gradient of '{}', but the loss doesn't depend on this weight,
    so the gradient has no entry for it.

        new = {{name: weights[name] - 0.1 * gradient[name] for name in weights}}    # wrong
        new = {{name: weights[name] - 0.1 * gradient[name] for name in gradient}}   # right
        return {{**weights, **new}}, state
    """


class WrongRule(FnlibError, ValueError):
    """The optimizer state belongs to another update rule."""

    says = """
    These parameters hold the optimizer state of {}, but this factory updates with {},
    and one rule can't read the other's state.

        parameters = model.step(gradient)   # wrong

        model = ModelFactory(parameters.replace(optimizer_state=None))   # right: start afresh
    """


class MissingObjective(FnlibError, TypeError):
    """An update rule evaluates the loss itself, and a step gave it only a gradient."""

    says = """
    {} evaluates the loss several times in one step, so a gradient isn't enough: it needs the
    function that computes the loss from a model.

        parameters = model.step(gradient)               # wrong

        def objective(model):
            output, buffers = model.with_buffers(feature)
            return criterion(output, label), buffers
        parameters = model.step(objective=objective)    # right: or return the loss alone
    """


class CannotWrap(FnlibError, TypeError):
    """An optimizer needs something that a functional step doesn't have."""

    says = """
    {0} can't be an update rule: {1}.

        {3}   # wrong
        {2}
    """

    def __init__(self, name: str, why: str, right: str, wrong: str = "") -> None:
        super().__init__(name, why, right, wrong or f"optimizer=fnlib.wrap({name}, ...)")


# --- histories --------------------------------------------------------------------------------


class WrongHistory(FnlibError, ValueError):
    """A history was asked for something that it can't do."""

    says = """
    {0}: {1}.

        {2}
    """


class HistoryInUse(FnlibError, RuntimeError):
    """A second writer wants to append to a history."""

    says = """
    You can't append to {}: {}. Two writers would overwrite each other's states.

        history = fnlib.History(path)              # everybody may read
        other = history.branch(300, "run-b")       # right: write to a branch of your own
    """


class DamagedHistory(FnlibError, ValueError):
    """A file of a history isn't as it was written."""

    says = """
    {} can't be read: {}. States that don't need this file can still be read.

        history[299]                               # an earlier state
        other = history.branch(299, "run-b")       # continue from it
    """


class StateNotWritten(FnlibError, OSError):
    """The system refused to write a state."""

    says = """
    {} couldn't be written: {}. All earlier states are complete.

        history.prune(range(1, len(history) - 1))   # makes room; or free some space elsewhere
        history.append(parameters)                  # append the same state again
    """


class NotKept(FnlibError, LookupError):
    """A state isn't on disk, and there is no step to replay it."""

    says = """
    State {} isn't on disk: {}. The steps from an earlier state can be replayed.

        def step(parameters, i):                    # from state i to state i + 1
            model = ModelFactory(parameters, seed=0)
            return model.step(model.backward(loss_of(model, batches[i])))

        history = fnlib.History(path, step=step)
    """


# --- many ranks -------------------------------------------------------------------------------


class ReplicasDiffer(FnlibError, RuntimeError):
    """Ranks that should hold the same parameters hold different ones."""

    says = """
    The replicas differ: {0} isn't the same everywhere ({1}), after step {2}.
    {3} of {4} entries of the state differ.

        parameters = fnlib.distributed.broadcast(parameters)          # at the start: one value for all
        gradient = fnlib.distributed.all_reduce(model.backward(loss))   # in each step
        parameters = model.step(gradient.clip_norm(1.0))              # then the same on every rank
    """


class RanksDisagree(FnlibError, RuntimeError):
    """Ranks meet in different calls, or with tensors of different shapes."""

    says = """
    The ranks don't do the same: {0}. This rank is at {1}.

        if rank == 0:
            gradient = fnlib.distributed.all_reduce(gradient)   # wrong: the others don't take part

        gradient = fnlib.distributed.all_reduce(gradient)       # right: on every rank
    """


class RankLost(FnlibError, RuntimeError):
    """A rank died or didn't answer in time."""

    says = """
    Another rank didn't take part in {0}: it died, or it is still busy elsewhere.
    The backend says: {1}. This process group can't be used any more.

        torchrun --max-restarts=3 train.py                      # starts all ranks again ...
        history = fnlib.History(path)                           # ... and each goes on from here
        dist.init_process_group("gloo", timeout=timedelta(minutes=2))   # how long to wait
    """


class CannotReduce(FnlibError, TypeError):
    """A tensor can't be exchanged between ranks."""

    says = """
    '{}' is {}, so ranks can't exchange it as it is.

        gradient = fnlib.distributed.all_reduce(gradient)   # wrong: dense tensors only
        {}   # right
    """


# --- habits of stock PyTorch ---------------------------------------------------------------------


class NotAModule(FnlibError, AttributeError):
    """A functional model was asked for what an ``nn.Module`` has."""

    says = """
    A functional model has no attribute '{0}'. {1}

        model.{0}   # wrong

        {2}   # right{3}
    """

    _MOVED = "Its parameters are a value, and moving makes another one."
    _TO = "model = ModelFactory(parameters.to({}))"
    _KNOWN = {
        "zero_grad": (
            "Nothing accumulates: each backward returns a gradient of its own.",
            "gradient = model.backward(loss)",
        ),
        "grad": (
            "No weight has a `.grad`: the gradient is a value of its own.",
            "gradient = model.backward(loss)",
        ),
        "state_dict": (
            "Parameters never change, so that keeping them is a snapshot.",
            "best = model.parameters",
        ),
        "load_state_dict": (
            "Bind the parameters that you kept.",
            "model = ModelFactory(best)",
        ),
        "named_parameters": (
            "Its parameters are a mapping of names to tensors.",
            "for name, weight in model.parameters.items(): ...",
        ),
        "buffers": ("They belong to its parameters.", "buffers = model.parameters.buffers"),
        "named_buffers": (
            "They belong to its parameters.",
            "for name, buffer in model.parameters.buffers.items(): ...",
        ),
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

    def __init__(self, name: str) -> None:
        why, right = self._KNOWN.get(
            name,
            (
                "It binds parameters to your module and is not the module itself.",
                f'model.call("{name}", ...)',
            ),
        )
        more = "" if name in self._KNOWN else (
            f", if it is a method of your module\n    network = build_network(); network.{name}"
            "   # right, if it is an attribute"
        )  # fmt: skip
        super().__init__(name, why, right, more)
        self.name = name


class NotCallable(FnlibError, TypeError):
    """Parameters were called, as ``model.parameters()`` of stock PyTorch is."""

    says = """
    `parameters` is a value, not a method: a mapping of names to tensors. The optimizer belongs to
    the factory, which needs no list of weights.

        model.parameters()   # wrong

        for name, weight in model.parameters.items(): ...   # right
        ModelFactory = fnlib.Factory(Network, optimizer=fnlib.Adam(lr=0.01))   # right: no list
    """
