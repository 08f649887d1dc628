"""Every exception of fnlib.

A message shows the line that is wrong, why it is wrong, and the line that is right.
All of them can be caught as ``fnlib.FnlibError``.
"""

from __future__ import annotations

from collections.abc import Iterable


class FnlibError(Exception):
    """Base of every exception that fnlib raises on purpose."""


def _block(*lines: str) -> str:
    """Lay code lines out as an indented block."""
    return "\n\n" + "\n".join("    " + line for line in lines) + "\n"


def _names(names: Iterable[str], most: int = 4) -> str:
    """Write names out, the first few of them."""
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


# --- values -----------------------------------------------------------------------------------


class Immutable(FnlibError, TypeError):
    """A value was asked to change, or a rule or a factory after it was made."""

    def __init__(
        self, kind: str, name: str = "name", *, lines: tuple[str, ...] = (), why: str = ""
    ) -> None:
        variable = kind.lower()
        right = (
            f"parameters = parameters.replace(weights={{'{name}': tensor}})"
            if kind == "Parameters"
            else f"{variable} = fnlib.{kind}({{**{variable}, '{name}': tensor}})"
        )
        super().__init__(
            (
                why
                or f"{kind} is a value and never changes: whoever holds it would see another value."
            )
            + _block(
                *lines
                or (
                    f"{variable}['{name}'] = tensor      # wrong: changes a value in place",
                    right + "   # right: makes a new one",
                )
            )
        )

    @classmethod
    def rule(cls, call: str, name: str, value: object, known: bool) -> Immutable:
        """An attribute was set on a finished rule, as one sets ``optimizer.lr``, where nothing would read it."""
        setting = f"{name}={_shown(value)}" if known else "..."
        lines = [
            f"rule.{name} = {_shown(value)}   # wrong: nothing reads it",
            "",
            f"ModelFactory = fnlib.Factory(Network, optimizer={call}{setting}))   # right: a new rule, in a new factory",
            "model = ModelFactory(parameters)   # the same parameters go on",
        ]
        if name == "lr":
            lines += [
                "",
                f"optimizer={call}lr=lambda step: 0.1 * 0.99**step)   # right: a rate that follows the step count",
            ]
        return cls(
            "Rule",
            name,
            lines=tuple(lines),
            why="An update rule is finished when it is made; all its settings are arguments.",
        )

    @classmethod
    def factory(cls, name: str, value: object) -> Immutable:
        """An attribute was set on a finished factory, under the models that it has bound."""
        new = f"optimizer={_shown(value)}" if name == "optimizer" else "..."
        lines = (
            f"ModelFactory.{name} = {_shown(value)}   # wrong: would change what models that are bound do",
            "",
            f"ModelFactory = fnlib.Factory(Network, {new})   # right: a new factory",
            "model = ModelFactory(parameters.replace(optimizer_state=None))   # for the same weights; another rule starts afresh",
        )
        return cls(
            "Factory",
            name,
            lines=lines,
            why="A factory is finished when it is made: its models rely on it.",
        )


def _shown(value: object) -> str:
    """Write a value as code, if it is short."""
    code = repr(value)
    return code if len(code) <= 60 and "\n" not in code and not code.startswith("<") else "..."


class Donated(FnlibError, RuntimeError):
    """A value was used after it had been given away."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(
            f"{what} was given away by `model.step(gradient, donate=True)` at {where}; its memory now belongs to the "
            "parameters that this step returned."
            + _block(
                "new = model.step(gradient, donate=True)   # `parameters` and `model` end here",
                "model = ModelFactory(new)                 # right: go on with what step returned",
            )
            + "To keep the old value too, step without donate=True."
        )


class EmptyParameters(FnlibError, ValueError):
    """Parameters that hold nothing yet were asked for what they hold."""

    def __init__(self, action: str) -> None:
        super().__init__(
            f"These parameters are empty: no network has been drawn for them, so they cannot {action}."
            + _block(
                "model = ModelFactory(fnlib.Parameters(seed=0))   # binding draws the initial weights",
                "parameters = model.parameters",
            )
        )


class CannotStore(FnlibError, TypeError):
    """A piece of state is of a kind that a value cannot carry."""

    def __init__(self, where: str, value: object, why: str = "") -> None:
        super().__init__(
            f"{where} is a {type(value).__module__}.{type(value).__qualname__}{why}. Parameters carry nested dicts, lists and "
            "tuples of tensors, numbers and strings, so that they can be compared, saved and resumed exactly."
            + _block(
                "state = {'cache': module}             # wrong: an object with a life of its own",
                "state = {'cache': module.weight}      # right: the tensor that it stands for",
            )
        )


class NotAParametersFile(FnlibError, ValueError):
    """A file does not hold parameters, or not all of them."""

    def __init__(self, path: object, why: str) -> None:
        super().__init__(
            f"{path} cannot be loaded as parameters: {why}. Nothing was loaded."
            + _block(
                "parameters.save(path)",
                "parameters = fnlib.Parameters.load(path)   # reads what `save` wrote, and only that",
            )
        )


# --- networks ---------------------------------------------------------------------------------


class CannotRedraw(FnlibError, TypeError):
    """A module instance cannot be drawn afresh to the weights that building it would give."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}, so initial weights cannot be drawn from this instance: they would silently differ from a network built anew. "
            "Pass something that builds the network, or the weights that the instance already has."
            + _block(
                "ModelFactory = fnlib.Factory(network)                 # wrong with empty parameters",
                "ModelFactory = fnlib.Factory(lambda: Network(...))    # right: build it when weights are drawn",
                "model = ModelFactory(fnlib.Parameters.from_module(network))   # right: start from its own weights",
            )
        )


class UnsupportedModule(FnlibError, TypeError):
    """A network cannot be bound to parameters at all."""


class LazyModule(UnsupportedModule):
    """A network has weights whose shape is not known yet."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(
            f"{_names(names)} of this network are lazy: they have no shape before a first forward pass, so no parameters can be made for them."
            + _block(
                "ModelFactory = fnlib.Factory(nn.LazyLinear(10))       # wrong: shape unknown",
                "def build():",
                "    network = nn.Sequential(nn.LazyLinear(10))",
                "    network(torch.zeros(1, 128))                      # right: let it see an input once",
                "    return network",
                "ModelFactory = fnlib.Factory(build)",
            )
        )


class WrongParameters(FnlibError, ValueError):
    """Names, shapes, kinds or devices are not those of the network."""

    def __init__(self, what: str, detail: str, right: str) -> None:
        super().__init__(f"{what}: {detail}." + _block(right))


class StateDropped(FnlibError, RuntimeError):
    """A forward pass changed state and the call would have dropped the change."""

    def __init__(self, names: Iterable[str], method: str | None) -> None:
        names = list(names)
        if method is None:
            wrong, right = (
                "output = model(feature)",
                "output, buffers = model.with_buffers(feature)",
            )
            advice = ""
        else:
            wrong, right = (
                f'output = model.call("{method}", feature)',
                f'output, buffers = model.with_buffers(feature, method="{method}")',
            )
            advice = f"`with_buffers` calls the module's forward: let its forward take method= and call self.{method}. "
        super().__init__(
            f"This forward pass changed {_names(names)}, and `{wrong}` drops the change."
            + _block(
                f"{wrong}   # wrong: the new value of {names[0]} is lost",
                "",
                f"{right}   # right",
                "parameters = model.step(gradient, buffers=buffers)",
            )
            + advice
            + "To use the statistics without changing them, bind with training=False, or ask model.eval()."
        )


class HiddenState(FnlibError, RuntimeError):
    """A forward pass keeps state in attributes of its module, where no value can carry it."""

    def __init__(self, names: Iterable[str], why: str) -> None:
        names = list(names)
        attribute = names[0].rpartition(".")[2]
        super().__init__(
            f"The forward pass of this network changes {_names(names)} of its module, and {why}: state that parameters cannot carry."
            + _block(
                f"self.{attribute} = ...                              # wrong: changed by forward, kept in the module",
                f'self.register_buffer("{attribute}", torch.zeros(...))   # right: a buffer is part of parameters',
                "                                              # or pass it in, and return it with the output",
            )
        )


# --- backward and step ------------------------------------------------------------------------


class LossNotScalar(FnlibError, ValueError):
    """A loss has more than one element, or is no tensor."""

    def __init__(self, loss: object) -> None:
        shape = getattr(loss, "shape", None)
        what = "is a " + type(loss).__name__ if shape is None else f"has shape {tuple(shape)}"
        if shape is not None and loss.dtype.is_complex:  # type: ignore[attr-defined]
            what = "is complex, which has no least"
        super().__init__(
            f"A gradient is taken of one number, and this loss {what}."
            + _block(
                "gradient = model.backward(losses)          # wrong",
                "gradient = model.backward(losses.mean())   # right: say how many become one",
            )
        )


class LossIndependent(FnlibError, ValueError):
    """A loss does not depend on the weights of the model."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"This loss does not depend on the weights of this model: {why}."
            + _block(
                "loss = criterion(other(feature), label)",
                "gradient = model.backward(loss)            # wrong: `loss` was not computed by `model`",
                "",
                "loss = criterion(model(feature), label)",
                "gradient = model.backward(loss)            # right",
            )
        )


class HiddenByCheckpoint(FnlibError, ValueError):
    """A checkpoint of the old kind keeps the weights inside of it out of the graph."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            "torch.utils.checkpoint with use_reentrant=True keeps what is inside of it out of the graph and reaches its weights only by "
            f"writing `.grad`: a gradient of this loss would lack {_names(names)}."
            + _block(
                "x = checkpoint(self.block, x, use_reentrant=True)    # wrong: the gradient would lack the weights of `block`",
                "x = checkpoint(self.block, x, use_reentrant=False)   # right: the same memory, and a graph",
            )
        )


class DifferentiateOutside(FnlibError, ValueError):
    """A gradient was asked for inside of a transform that keeps the graph to itself."""

    def __init__(self) -> None:
        super().__init__(
            "Inside of torch.func.vmap and its like a loss has no graph to walk back through: the transforms keep it to themselves."
            + _block(
                "def one(x):",
                "    return ModelFactory(parameters).backward(loss_of(x))               # wrong: `vmap(one)` cannot see the weights",
                "",
                "def loss_of(weights, x):",
                "    return criterion(ModelFactory(parameters.replace(weights=weights))(x))",
                "vmap(torch.func.grad(loss_of), in_dims=(None, 0))(dict(parameters), X)   # right: differentiate by the weights",
            )
        )


class GraphUsedUp(FnlibError, RuntimeError):
    """A second backward through a graph that the first one used up."""

    def __init__(self) -> None:
        super().__init__(
            "The graph behind this loss was used up by an earlier backward: PyTorch frees the saved activations as it goes."
            + _block(
                "gradient = model.backward(loss)",
                "again = model.backward(loss)                         # wrong: nothing is left to walk back through",
                "",
                "gradient = model.backward(loss, retain_graph=True)   # right, if it must be done twice",
                "gradient + gradient                                  # right, if the gradient is wanted twice: it is a value",
            )
        )


class GraphOverwritten(FnlibError, RuntimeError):
    """A tensor that backward needs was changed in place after the forward pass."""

    def __init__(self, original: str) -> None:
        super().__init__(
            "A tensor that this backward needs was changed in place after the forward pass. PyTorch says:\n\n    "
            + original.splitlines()[0]
            + _block(
                "feature.add_(1)            # wrong between forward and backward",
                "feature = feature + 1      # right: a new value; the graph keeps the old one",
            )
        )


class MissingBuffers(FnlibError, ValueError):
    """A step leaves out the buffers that the forward pass of this model changed."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(
            f"A forward pass of this model changed {_names(names)}, and this step would go on with the old ones."
            + _block(
                "output, buffers = model.with_buffers(feature)",
                "parameters = model.step(gradient)                    # wrong: the new buffers are dropped",
                "parameters = model.step(gradient, buffers=buffers)   # right",
            )
            + "To keep the old statistics on purpose: model.step(gradient, buffers=model.parameters.buffers)."
        )


class WrongRule(FnlibError, ValueError):
    """Parameters carry the optimizer state of another update rule."""

    def __init__(self, theirs: str, ours: str) -> None:
        super().__init__(
            f"These parameters carry the optimizer state of {theirs}, and this factory updates with {ours}."
            + _block(
                "parameters = model.step(gradient)   # wrong: one rule cannot read the other's state",
                "",
                "model = ModelFactory(parameters.replace(optimizer_state=None))   # right: starts this rule afresh",
            )
        )


class CannotWrap(FnlibError, TypeError):
    """A torch.optim class asks for something that a functional step does not have."""

    def __init__(self, name: str, why: str, right: str) -> None:
        super().__init__(
            f"{name} cannot be wrapped: {why}."
            + _block(f"optimizer=fnlib.wrap({name}, ...)   # wrong", right)
        )
