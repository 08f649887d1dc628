"""Model: a network with parameters bound to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.gradient import Gradient
from fnlib.network.backward import backward, differentiate, named
from fnlib.network.forward import Buffers, run
from fnlib.network.leaves import Leaves
from fnlib.network.pool import Mode
from fnlib.network.randomness import seeded
from fnlib.parameters import Parameters
from fnlib.show.table import Table, Tabular
from fnlib.updates.rule import Rule, UpdateRule
from fnlib.values.checks import check_match, kept, owned, storable
from fnlib.values.donation import give_away
from fnlib.values.protect import Tensors, map_tree, share, share_all

if TYPE_CHECKING:
    from fnlib.factory import Factory


_OF_THIS_MODEL = "parameters = model.step(model.backward(loss))   # a gradient of this model"
_ALL_BUFFERS = (
    "parameters = model.step(gradient, buffers=buffers)   # all that with_buffers returned"
)
_FOR_ALL_NAMES = "return {name: new_weight for name in weights}, state   # in update"


class Model(Tabular):
    """A network with parameters bound to it. Nothing about it changes: `step` returns new parameters.

    Made by calling a factory; see `Factory`.
    """

    __slots__ = (
        "__weakref__",
        "_buffers",
        "_changed",
        "_factory",
        "_leaves",
        "_mode",
        "_parameters",
        "_seed",
    )

    def __init__(
        self,
        factory: Factory,
        parameters: Parameters,
        mode: Mode,
        seed: int | None,
        buffers: dict[str, Tensor],
        changed: list[str] | None = None,
    ) -> None:
        self._factory, self._parameters = factory, parameters
        self._mode, self._seed, self._buffers = mode, seed, buffers
        self._changed: list[str] = (
            [] if changed is None else changed
        )  # names of buffers that forward passes changed
        self._leaves = Leaves.of(parameters, factory.structure)

    @property
    def factory(self) -> Factory:
        """The factory that made this model."""
        return self._factory

    @property
    def parameters(self) -> Parameters:
        """The parameters that are bound. Buffers that were carried here count as theirs."""
        return self._parameters

    # --- forward -----------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's forward.

        Args:
            args, kwargs: passed to the module as they are.

        Returns:
            What the module returns.

        Raises:
            StateDropped: the forward pass changed a buffer or a weight; use `with_buffers`.
            HiddenState: the module keeps state in its attributes.
        """
        return self._forward(None, args, kwargs, keep=False)[0]

    def with_buffers(self, *args: Any, **kwargs: Any) -> tuple[Any, Buffers]:
        """Run the module's forward and return, with its output, the state that it changed.

        Args:
            args, kwargs: passed to the module as they are.

        Returns:
            The output, and the buffers after the pass (with them any weights that the pass itself changed,
            as ``nn.Embedding(max_norm=...)`` does), for ``model.step(gradient, buffers=buffers)``.

        >>> import fnlib
        >>> from torch import nn
        >>> model = fnlib.Sequential(nn.BatchNorm1d(2))(fnlib.Parameters())
        >>> output, buffers = model.with_buffers(torch.ones(4, 2))
        >>> buffers["0.num_batches_tracked"], model.parameters.buffers["0.num_batches_tracked"]
        (tensor(1), tensor(0))
        """
        output, after = self._forward(None, args, kwargs, keep=True)
        self._changed.extend(name for name in after.changed if name not in self._changed)
        return output, after

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Run another method of the module than forward: ``model.call("decode", z)``.

        Args:
            method: its name.
            args, kwargs: passed to the method as they are.

        Returns:
            What the method returns.

        Raises:
            StateDropped: it changed a buffer or a weight. Let forward call it, and use `with_buffers`.

        >>> import fnlib
        >>> from torch import nn
        >>> model = fnlib.Factory(lambda: nn.Linear(2, 1))(fnlib.Parameters(seed=0))
        >>> model.call("extra_repr")
        'in_features=2, out_features=1, bias=True'
        """
        return self._forward(method, args, kwargs, keep=False)[0]

    def _forward(
        self, method: str | None, args: Any, kwargs: Any, keep: bool
    ) -> tuple[Any, Buffers]:
        leaves, weights = self._leaves, self._own_weights("run a forward pass")
        if self._seed is None:
            return run(
                leaves.structure,
                self._mode,
                weights,
                leaves.all,
                self._buffers,
                method,
                args,
                kwargs,
                keep,
            )
        with seeded(self._seed, self._parameters._step_count):
            return run(
                leaves.structure,
                self._mode,
                weights,
                leaves.all,
                self._buffers,
                method,
                args,
                kwargs,
                keep,
            )

    def _own_weights(self, action: str) -> dict[str, Tensor]:
        """Return the tensors of the value, in the order of the network."""
        weights, structure = self._parameters._alive(action), self._leaves.structure
        return (
            weights
            if self._parameters._structure is structure
            else {name: weights[name] for name in structure.weights}
        )

    # --- backward ----------------------------------------------------------------------------

    @property
    def weights(self) -> Tensors:
        """The weights as tensors that a loss may depend on: a penalty on them reaches the gradient.

        >>> import fnlib
        >>> from torch import nn
        >>> model = fnlib.Sequential(nn.Linear(2, 1))(fnlib.Parameters(seed=0))
        >>> penalty = sum(weight.square().sum() for weight in model.weights.values())
        >>> gradient = model.backward(penalty)
        >>> gradient["0.weight"].equal(2 * model.parameters["0.weight"])
        True
        """
        self._parameters._alive()
        return Tensors(dict(zip(self._leaves.structure.weights, self._leaves.all, strict=True)))

    def backward(self, loss: Tensor, *, retain_graph: bool = False) -> Gradient:
        """Return the gradient of a loss with respect to the weights of this model.

        Args:
            loss: a tensor with one element, computed from this model's outputs or weights.
            retain_graph: keep the graph behind the loss for another backward; by default it is used up.

        Returns:
            The gradient, a value. No ``.grad`` is touched.

        Raises:
            LossNotScalar, LossIndependent, HiddenByCheckpoint, DifferentiateOutside, GraphUsedUp, GraphOverwritten, Donated.
        """
        self._parameters._alive("take a gradient")
        if self._leaves.structure.left:
            return backward(loss, self, retain_graph=retain_graph)[0]
        return named(self._leaves, differentiate(loss, self._leaves.trained, retain_graph), loss)

    # --- step --------------------------------------------------------------------------------

    def step(
        self,
        gradient: Gradient | Mapping[str, Tensor],
        *,
        buffers: Mapping[str, Tensor] | None = None,
        donate: bool = False,
    ) -> Parameters:
        """Return the parameters after one step of the factory's update rule.

        Args:
            gradient: what `backward` returned, or a value made from it.
            buffers: what `with_buffers` returned, where the forward pass changes state.
            donate: give the memory of the old parameters to the new ones. They cannot be used afterwards.

        Returns:
            New parameters; without donation the old ones still stand.

        Raises:
            MissingBuffers, WrongParameters, WrongRule, Donated, CannotStore.
        """
        factory, old, structure = self._factory, self._parameters, self._leaves.structure
        own = self._own_weights("take a step")
        tensors = gradient._tensors if isinstance(gradient, Gradient) else gradient
        if not isinstance(gradient, Gradient) or gradient._structure is not structure:
            check_match("gradient entry", tensors, own, _OF_THIS_MODEL, partial=True, exact=True)
        if old._rule is not None and old._rule != factory._rule_name:
            raise errors.WrongRule(old._rule, factory._rule_name)
        if buffers is None and self._changed:
            raise errors.MissingBuffers(self._changed)
        new_buffers = (
            self._buffers if buffers is None else _taken(buffers, structure.buffers, _ALL_BUFFERS)
        )
        weights = own
        if isinstance(buffers, Buffers) and buffers.weights:
            check_match("weight", buffers.weights, structure.weights, _ALL_BUFFERS, partial=True)
            weights = {**own, **buffers.weights}
        rule: UpdateRule = factory.optimizer
        rule = rule.at(old._step_count) if hasattr(rule, "at") else rule
        state = rule.init(Tensors(weights)) if old._state is None else old._state
        if isinstance(rule, Rule) and not old._made_here and old._state is not None:
            rule.check_state(state, weights)
        if donate:
            if isinstance(rule, Rule):
                rule.partition(
                    weights
                )  # what a schedule or groups= may raise comes before anything is given away
            given, state_given = give_away(old)
            weights = {
                name: given[name] if tensor is own[name] else share(tensor)
                for name, tensor in weights.items()
            }
            state = state if state_given is None else state_given
            del own, given  # nobody else may hold what is to be reused
        if isinstance(rule, Rule) and rule.trusted:
            new_weights, new_state = rule.update(weights, tensors, state, in_place=donate)
        else:
            new_weights, new_state = _updated_by(
                rule, weights, tensors, state, structure.weights, donate
            )
        return old._next(
            new_weights,
            new_buffers,
            new_state,
            rule=factory._rule_name,
            made_here=True,
            step_count=old._step_count + 1,
            structure=structure,
        )

    # --- other models of the same value ------------------------------------------------------

    def carry(self, buffers: Mapping[str, Tensor]) -> Model:
        """Return a model with the same weights and later buffers, for several forward passes before one backward.

        Args:
            buffers: what `with_buffers` returned.

        >>> import fnlib
        >>> from torch import nn
        >>> model = fnlib.Sequential(nn.BatchNorm1d(2))(fnlib.Parameters())
        >>> left, buffers = model.with_buffers(torch.ones(4, 2))
        >>> right, buffers = model.carry(buffers).with_buffers(torch.zeros(4, 2))
        >>> buffers["0.num_batches_tracked"]
        tensor(2)
        """
        held = _taken(
            buffers,
            self._leaves.structure.buffers,
            "model = model.carry(buffers)   # all that with_buffers returned",
        )
        return Model(self._factory, self._parameters, self._mode, self._seed, held)

    def eval(self) -> Model:
        """Return a new model of the same parameters that evaluates: dropout off, running statistics used. Nothing is switched."""
        return Model(self._factory, self._parameters, False, self._seed, self._buffers)

    def train(self) -> Model:
        """Return a new model of the same parameters that trains. Nothing is switched."""
        return Model(self._factory, self._parameters, True, self._seed, self._buffers)

    def __reduce__(self) -> Any:
        return Model, (
            self._factory,
            self._parameters,
            self._mode,
            self._seed,
            self._buffers,
            self._changed,
        )

    def _table(self) -> Table:
        table = self._parameters._table(self._buffers)
        mode = "in training" if self._mode else "in evaluation"
        if not isinstance(self._mode, bool):
            modes = ", ".join(f"{name}={trains}" for name, trains in self._mode)
            mode = f"in training except {modes}"
        seed = "" if self._seed is None else f", seed {self._seed}"
        table.title = f"Model {mode}{seed}: {table.title[0].lower()}{table.title[1:]}"
        table.detail = self._factory._network()
        return table


def _updated_by(
    rule: UpdateRule,
    weights: dict[str, Tensor],
    gradient: Mapping[str, Tensor],
    state: Any,
    expected: Mapping[str, Tensor],
    donate: bool,
) -> tuple[dict[str, Tensor], Any]:
    """Call a rule that is somebody else's: it may write to what it is given, and what it returns is checked and taken over."""
    if not donate:
        weights, state = (
            dict(zip(weights, share_all(weights.values()), strict=True)),
            map_tree(share, state),
        )
    with torch.no_grad():
        new_weights, new_state = rule.update(
            weights, {name: share(gradient[name]) for name in gradient}, state
        )
    check_match("updated weight", new_weights, expected, _FOR_ALL_NAMES)
    return {name: kept(new_weights[name]) for name in expected}, storable(new_state, "new_state")


def _taken(
    buffers: Mapping[str, Tensor], expected: Mapping[str, Tensor], right: str
) -> dict[str, Tensor]:
    """Check buffers and take them over, in the order of the network: those of `with_buffers` are ours already."""
    raw = buffers.raw if isinstance(buffers, Buffers) else buffers
    check_match("buffer", raw, expected, right)
    return {name: raw[name] if raw is not buffers else owned(raw[name]) for name in expected}
