"""Update rules: pure functions from weights, gradient and state to new weights and state.

A rule is any object with two methods, and this file holds the three that the lessons use:

    init(weights) -> state                                  before the first step
    update(weights, gradient, state) -> (weights, state)    at each step

What a rule of yours is given is copy-on-write, so that it may work in place. The arithmetic below follows the order
of operations of ``torch.optim``: that is what makes the results equal bit for bit. It makes new tensors, and only
where the memory has been donated it reuses that. A rule may have a third method, ``at(step_count)``, which returns the rule
with everything scheduled set to its value for that step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from fnlib import errors
from fnlib.protect import share, share_all

Schedule = Callable[[int], float]
Groups = Callable[[str, Tensor], Mapping[str, Any]]


class UpdateRule(Protocol):
    """What a factory needs of an update rule."""

    def init(self, weights: Mapping[str, Tensor]) -> Any: ...

    def update(self, weights: dict[str, Tensor], gradient: Mapping[str, Tensor], state: Any) -> tuple[Mapping[str, Tensor], Any]: ...


class Rule:
    """What the rules of this package share: settings, a schedule of the rate, groups of weights."""

    like: Any  # the class of torch.optim with the same arguments and the same bits

    def __init__(self, lr: float | Tensor | Schedule, groups: Groups | None, settings: dict[str, Any]) -> None:
        refuse_flags(settings)
        probe = self.like([torch.zeros(1)], lr=lr(0) if callable(lr) else lr, **settings)  # PyTorch's own checks, and its own errors
        self.arguments = {"lr": lr, **settings}
        self.settings = {**probe.defaults, "lr": lr if callable(lr) else float(lr)}
        self.groups = groups
        self.step_count = 0

    @property
    def name(self) -> str:
        """The name that parameters carry, so that no other rule reads this one's state."""
        return f"{self.like.__module__}.{self.like.__qualname__}"

    def at(self, step_count: int) -> Rule:
        """Return this rule with a scheduled rate set to its value for one step (the first is step 0)."""
        if self.groups is None and not callable(self.settings.get("lr")):
            return self
        fixed = copy.copy(self)
        fixed.step_count = step_count
        return fixed

    def init(self, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the state before the first step: as in torch.optim, moments are made when a weight first moves."""
        return {"state": {}, "param_groups": []}

    def update(
        self, weights: dict[str, Tensor], gradient: Mapping[str, Tensor], state: Any, *, in_place: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Move each weight that has a gradient.

        Args:
            weights: name -> weight.
            gradient: name -> tensor of the weight's shape; a weight without an entry stays.
            state: what `init` or the last `update` returned.
            in_place: reuse the memory of the weights and the state, which are used up then. The bits are the same.

        Returns:
            The new weights and the new state. What does not move is passed on as it is.
        """
        if self._left_to_torch(weights, gradient):
            return self._wrapped().update(weights, gradient, state, in_place=in_place)
        weights, moments = dict(weights), dict(state["state"])
        partition = self.partition(weights)
        for settings, names in partition:
            moving = names if len(gradient) == len(weights) else [name for name in names if name in gradient]
            if not moving:
                continue
            own = [dict(moments[name]) if name in moments else {} for name in moving]
            places, slopes, here = [weights[name] for name in moving], [gradient[name] for name in moving], in_place
            if not in_place and (settings["fused"] or not _are_plain(places)):
                # Fused kernels write in place, and so the strides stay that a new tensor would not have: on shared tensors, then.
                places, own, here = share_all(places), [_shared(entry) for entry in own], True
            weights.update(zip(moving, self._apply(places, slopes, own, settings, here), strict=True))
            if own[0]:
                moments.update(zip(moving, own, strict=True))
        return weights, {"state": moments, "param_groups": [settings for settings, _ in partition]}

    def _left_to_torch(self, weights: Mapping[str, Tensor], gradient: Mapping[str, Tensor]) -> bool:
        """Say whether the optimizer of torch.optim has to take this step, because only it has its bits or its error."""
        return False

    def _wrapped(self) -> Rule:
        from fnlib.wrap import Wrapped

        arguments = {key: value for key, value in self.arguments.items() if key != "lr"}
        rule = Wrapped(self.like, self.arguments["lr"], self.groups, arguments)
        rule.step_count = self.step_count
        return rule

    def partition(self, weights: Mapping[str, Tensor]) -> list[tuple[dict[str, Any], list[str]]]:
        """Split the weights into groups of equal settings, in the order in which the groups are met."""
        if self.groups is None:
            lr = self.settings["lr"]
            return [({**self.settings, "lr": self._rate(lr)} if callable(lr) else self.settings, list(weights))]
        parts: list[tuple[Mapping[str, Any], list[str]]] = []
        for name, weight in weights.items():
            own = dict(self.groups(name, share(weight)))
            self._check_group(name, own)
            for settings, names in parts:
                if settings == own:
                    names.append(name)
                    break
            else:
                parts.append((own, [name]))
        merged = [({**self.settings, **own}, names) for own, names in parts]
        return [({**settings, "lr": self._rate(settings["lr"])} if "lr" in settings else settings, names) for settings, names in merged]

    def _check_group(self, name: str, own: Mapping[str, Any]) -> None:
        unknown = own.keys() - self.settings.keys()
        if unknown:
            raise errors.WrongParameters(
                f"groups= gives '{name}' settings that {type(self).__name__} does not have",
                errors._names(sorted(unknown)),
                'groups=lambda name, weight: {"weight_decay": 0.0} if name.endswith("bias") else {}',
            )

    def _rate(self, lr: Any) -> float:
        return float(lr(self.step_count)) if callable(lr) else float(lr)

    def _apply(
        self, weights: list[Tensor], gradient: list[Tensor], moments: list[dict[str, Tensor]], settings: dict[str, Any], in_place: bool
    ) -> list[Tensor]:
        """Return moved weights, and put moved moments into their dicts."""
        raise NotImplementedError

    def traced(
        self, weights: list[Tensor], gradient: list[Tensor], moments: list[dict[str, Tensor]], settings: dict[str, Any], rate: Tensor
    ) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Return moved weights and moments as ``torch.compile`` likes them: nothing in place, the rate a tensor.

        The compiler reorders the arithmetic, so that the results agree with `update` to a tolerance, not to the bit.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        default = self.like([torch.zeros(1)], **({} if "lr" in self.like([torch.zeros(1)]).defaults else {"lr": 1.0})).defaults
        changed = {key: value for key, value in self.settings.items() if key == "lr" or value != default.get(key)}
        written = [f"{key}={getattr(value, '__name__', value)}" for key, value in changed.items()]
        return f"fnlib.{type(self).__name__}({', '.join(written + (['groups=...'] if self.groups else []))})"


class SGD(Rule):
    """Stochastic gradient descent: ``w <- w - lr * g``, with momentum ``b <- momentum * b + (1 - dampening) * g``, ``w <- w - lr * b``.

    Args:
        lr: the learning rate, or a function of the step count (the first step uses ``lr(0)``).
        momentum: how much of the last update is kept.
        dampening: how much of the gradient is left out of the momentum.
        weight_decay: adds ``weight_decay * w`` to the gradient.
        nesterov: look ahead along the momentum.
        maximize: climb instead of descend.
        foreach: accepted as in torch.optim; the bits are the same.
        fused: one kernel for the whole update.
        groups: a function of a weight's name and the weight that returns settings of its own.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning (2013), in the
    form that ``torch.optim.SGD`` gives it.

    >>> rule = SGD(lr=0.25, momentum=0.5)
    >>> weights, state = {"w": torch.tensor([1.0])}, rule.init({})
    >>> for gradient in (-2.0, -1.0, 0.0):
    ...     weights, state = rule.update(weights, {"w": torch.tensor([gradient])}, state)
    ...     print(weights["w"].item(), state["state"]["w"]["momentum_buffer"].item())
    1.5 -2.0
    2.0 -2.0
    2.25 -1.0
    """

    like = torch.optim.SGD

    def __init__(
        self,
        lr: float | Tensor | Schedule = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        groups: Groups | None = None,
    ) -> None:
        settings = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
        flags = {"maximize": maximize, "foreach": foreach, "differentiable": differentiable, "fused": fused}
        super().__init__(lr, groups, {**settings, **flags})

    def _left_to_torch(self, weights: Mapping[str, Tensor], gradient: Mapping[str, Tensor]) -> bool:
        if self.settings["fused"]:
            refuse_broken_kernel(self.like, self.settings, weights)
            return _any(weights, _is_complex) or _any(gradient, _is_sparse)  # torch.optim refuses them
        # foreach=True rounds momentum to half precision before it multiplies
        return bool(self.settings["momentum"] and self.settings["foreach"]) and _any(weights, _is_half)

    def _apply(
        self, weights: list[Tensor], gradient: list[Tensor], moments: list[dict[str, Tensor]], settings: dict[str, Any], in_place: bool
    ) -> list[Tensor]:
        if settings["fused"]:
            return self._apply_fused(weights, gradient, moments, settings)
        momentum, dampening = settings["momentum"], settings["dampening"]
        if settings["maximize"]:
            gradient = [-g for g in gradient]
        if settings["weight_decay"]:
            gradient = [g.add(w, alpha=settings["weight_decay"]) for g, w in zip(gradient, weights, strict=True)]
        if momentum:
            ahead = []
            for g, entry in zip(gradient, moments, strict=True):
                last = entry.get("momentum_buffer")
                if last is None:
                    buffer = g.clone()
                else:
                    buffer = (last.mul_(momentum) if in_place else last.mul(momentum)).add_(g, alpha=1 - dampening)
                entry["momentum_buffer"] = buffer
                ahead.append(g.add(buffer, alpha=momentum) if settings["nesterov"] else buffer)
            gradient = ahead
        if not in_place:
            return list(torch._foreach_add(weights, gradient, alpha=-settings["lr"]))
        torch._foreach_add_(weights, gradient, alpha=-settings["lr"])
        return weights

    def traced(
        self, weights: list[Tensor], gradient: list[Tensor], moments: list[dict[str, Tensor]], settings: dict[str, Any], rate: Tensor
    ) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """See `Rule.traced`."""
        new_weights, new_moments = [], []
        for w, g, entry in zip(weights, gradient, moments, strict=True):
            g = -g if settings["maximize"] else g
            g = g + settings["weight_decay"] * w if settings["weight_decay"] else g
            if settings["momentum"]:
                last = entry.get("momentum_buffer")
                buffer = g if last is None else settings["momentum"] * last + (1 - settings["dampening"]) * g
                g = g + settings["momentum"] * buffer if settings["nesterov"] else buffer
                entry = {"momentum_buffer": buffer}
            new_weights.append(w - rate * g)
            new_moments.append(entry)
        return new_weights, new_moments

    def _apply_fused(
        self, weights: list[Tensor], gradient: list[Tensor], moments: list[dict[str, Tensor]], settings: dict[str, Any]
    ) -> list[Tensor]:
        starts = [bool(settings["momentum"]) and not entry for entry in moments]
        for start, entry, g in zip(starts, moments, gradient, strict=True):
            if start:
                entry["momentum_buffer"] = torch.empty_like(g)  # the kernel's first step writes it
        for at in _alike(weights, starts):
            torch._fused_sgd_(
                [weights[i] for i in at],
                [gradient[i] for i in at],
                [moments[i]["momentum_buffer"] for i in at] if settings["momentum"] else [],
                weight_decay=settings["weight_decay"],
                momentum=settings["momentum"],
                lr=settings["lr"],
                dampening=settings["dampening"],
                nesterov=settings["nesterov"],
                maximize=settings["maximize"],
                is_first_step=starts[at[0]],
            )
        return weights


class Adam(Rule):
    """Adam: the gradient's running mean, divided by the root of its running mean square.

    ``m <- b1 * m + (1 - b1) * g``, ``v <- b2 * v + (1 - b2) * g * g``,
    ``w <- w - lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)``.

    Args:
        lr: the learning rate, or a function of the step count (the first step uses ``lr(0)``).
        betas: b1 and b2, how much of each running mean is kept.
        eps: added to the denominator.
        weight_decay: adds ``weight_decay * w`` to the gradient.
        amsgrad: divide by the greatest mean square so far.
        foreach: accepted as in torch.optim; the bits are the same.
        maximize: climb instead of descend.
        capturable: not supported here, as `differentiable`: see `fnlib.wrap`.
        fused: one kernel for the whole update; never chosen by itself.
        decoupled_weight_decay: shrink the weights instead, as AdamW does.
        groups: a function of a weight's name and the weight that returns settings of its own.

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization (2014), in the order of operations of
    ``torch.optim.Adam``.

    >>> rule = Adam(lr=0.5)
    >>> weights, state = rule.update({"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}, rule.init({}))
    >>> weights["w"], sorted(state["state"]["w"])
    (tensor([0.5000]), ['exp_avg', 'exp_avg_sq', 'step'])
    """

    like: Any = torch.optim.Adam

    def __init__(
        self,
        lr: float | Tensor | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        groups: Groups | None = None,
    ) -> None:
        settings: dict[str, Any] = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        settings |= {"foreach": foreach, "maximize": maximize, "capturable": capturable, "differentiable": differentiable, "fused": fused}
        if self.like is torch.optim.Adam:
            settings["decoupled_weight_decay"] = decoupled_weight_decay
        super().__init__(lr, groups, settings)

    def _left_to_torch(self, weights: Mapping[str, Tensor], gradient: Mapping[str, Tensor]) -> bool:
        # Half precision is rounded in another order there, with foreach and without; the others it refuses.
        if any(isinstance(value, Tensor) for value in (self.arguments["lr"], *self.settings["betas"])):
            return True
        return _any(weights, _is_half) or _any(gradient, _is_sparse) or (self.settings["fused"] and _any(weights, _is_complex))

    def _apply(
        self, weights: list[Tensor], gradient: list[Tensor], moments: list[dict[str, Tensor]], settings: dict[str, Any], in_place: bool
    ) -> list[Tensor]:
        self._begin(weights, moments, settings)
        steps = self._count(moments)
        if settings["fused"]:
            return self._apply_fused(weights, gradient, moments, settings)
        lr, (beta1, beta2), decay = settings["lr"], settings["betas"], settings["weight_decay"]
        if settings["maximize"]:
            gradient = [-g for g in gradient]
        if decay and not settings["decoupled_weight_decay"]:
            gradient = [g.add(w, alpha=decay) for g, w in zip(gradient, weights, strict=True)]
        moved: list[Tensor] = []
        for batch in _batches(weights):
            w, g = [_real(weights[i]) for i in batch], [_real(gradient[i]) for i in batch]
            mean, square = ([_real(moments[i][key]) for i in batch] for key in ("exp_avg", "exp_avg_sq"))
            if decay and settings["decoupled_weight_decay"]:
                w = _each("mul", in_place, w, 1 - lr * decay)
            mean = _each("lerp", in_place, mean, g, 1 - beta1)
            square = _each("mul", in_place, square, beta2)
            torch._foreach_addcmul_(square, g, g, 1 - beta2)
            later = {"exp_avg": mean, "exp_avg_sq": square}
            if settings["amsgrad"]:
                square = _each("maximum", in_place, [_real(moments[i]["max_exp_avg_sq"]) for i in batch], square)
                later["max_exp_avg_sq"] = square
            denominator = torch._foreach_sqrt(square)
            torch._foreach_div_(denominator, [(1 - beta2 ** steps[i]) ** 0.5 for i in batch])
            torch._foreach_add_(denominator, settings["eps"])
            w = _each("addcdiv", in_place, w, mean, denominator, [-(lr / (1 - beta1 ** steps[i])) for i in batch])
            if not in_place:
                moved += w
                for key, tensors in later.items():
                    for i, tensor in zip(batch, tensors, strict=True):
                        moments[i][key] = tensor
        return weights if in_place else moved

    def traced(
        self, weights: list[Tensor], gradient: list[Tensor], moments: list[dict[str, Tensor]], settings: dict[str, Any], rate: Tensor
    ) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """See `Rule.traced`."""
        self._begin(weights, moments, settings)
        (beta1, beta2), decay = settings["betas"], settings["weight_decay"]
        counted = {entry["step"]: entry["step"] + 1 for entry in moments}
        new_weights, new_moments = [], []
        for w, g, entry in zip(weights, gradient, moments, strict=True):
            g = -g if settings["maximize"] else g
            if decay and settings["decoupled_weight_decay"]:
                w = w * (1 - rate * decay)
            elif decay:
                g = g + decay * w
            step = counted[entry["step"]]
            mean = torch.lerp(entry["exp_avg"], g, 1 - beta1)
            square = beta2 * entry["exp_avg_sq"] + (1 - beta2) * g * g
            new = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
            if settings["amsgrad"]:
                new["max_exp_avg_sq"] = square = torch.maximum(entry["max_exp_avg_sq"], square)
            denominator = (square / (1 - beta2**step)).sqrt() + settings["eps"]
            new_weights.append(w - rate * (mean / (1 - beta1**step)) / denominator)
            new_moments.append(new)
        return new_weights, new_moments

    def _begin(self, weights: list[Tensor], moments: list[dict[str, Tensor]], settings: dict[str, Any]) -> None:
        """Make the moments of weights that move for the first time. They share a counter: it is never written to."""
        zeros: dict[torch.device | None, Tensor] = {}
        for w, entry in zip(weights, moments, strict=True):
            if not entry:
                device = w.device if settings["fused"] else None
                entry["step"] = zeros.setdefault(device, torch.zeros((), dtype=torch.float32, device=device))
                entry["exp_avg"] = torch.zeros_like(w, memory_format=torch.preserve_format)
                entry["exp_avg_sq"] = torch.zeros_like(w, memory_format=torch.preserve_format)
                if settings["amsgrad"]:
                    entry["max_exp_avg_sq"] = torch.zeros_like(w, memory_format=torch.preserve_format)

    def _count(self, moments: list[dict[str, Tensor]]) -> list[float]:
        """Count the step. Weights that moved equally often share one counter: it is a value, and one addition serves all."""
        counted: dict[Tensor, tuple[Tensor, float]] = {}  # by identity
        later: dict[tuple[float, torch.device], Tensor] = {}
        numbers = []
        for entry in moments:
            before = entry["step"]
            if before not in counted:
                number = before.item() + 1
                counted[before] = later.setdefault((number, before.device), before + 1), number
            entry["step"], number = counted[before]
            numbers.append(number)
        return numbers

    def _apply_fused(
        self, weights: list[Tensor], gradient: list[Tensor], moments: list[dict[str, Tensor]], settings: dict[str, Any]
    ) -> list[Tensor]:
        kernel = torch._fused_adamw_ if settings["decoupled_weight_decay"] else torch._fused_adam_
        for at in _alike(weights):
            kernel(
                [weights[i] for i in at],
                [gradient[i] for i in at],
                *([moments[i][key] for i in at if key in moments[i]] for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step")),
                amsgrad=settings["amsgrad"],
                lr=settings["lr"],
                beta1=settings["betas"][0],
                beta2=settings["betas"][1],
                weight_decay=settings["weight_decay"],
                eps=settings["eps"],
                maximize=settings["maximize"],
            )
        return weights


class AdamW(Adam):
    """Adam with weight decay beside the gradient: ``w <- (1 - lr * weight_decay) * w`` before each step.

    Args: as `Adam`; ``weight_decay`` is 0.01 by default.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (2017).

    >>> AdamW(lr=0.1)
    fnlib.AdamW(lr=0.1)
    """

    like = torch.optim.AdamW

    def __init__(
        self,
        lr: float | Tensor | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        groups: Groups | None = None,
    ) -> None:
        flags: dict[str, Any] = {"maximize": maximize, "foreach": foreach, "capturable": capturable, "differentiable": differentiable}
        super().__init__(lr, betas, eps, weight_decay, amsgrad, **flags, fused=fused, groups=groups)


def _each(operation: str, in_place: bool, tensors: list[Tensor], *others: Any) -> list[Tensor]:
    """Call one of the operations of PyTorch that take a list of tensors, in place or not."""
    if not in_place:
        return list(getattr(torch, f"_foreach_{operation}")(tensors, *others))
    getattr(torch, f"_foreach_{operation}_")(tensors, *others)
    return tensors


def _are_plain(tensors: list[Tensor]) -> bool:
    """Say whether the results of arithmetic on these are laid out like them, and no view as real numbers is needed."""
    return all(map(Tensor.is_contiguous, tensors)) and not any(map(Tensor.is_complex, tensors))


def _shared(entry: dict[str, Tensor]) -> dict[str, Tensor]:
    """Share the tensors of a state that a step writes to: not the counters, which it replaces."""
    return {key: value if key == "step" or not isinstance(value, Tensor) else share(value) for key, value in entry.items()}


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def refuse_flags(settings: Mapping[str, Any]) -> None:
    """Refuse arguments of torch.optim that mean nothing to a functional step."""
    for flag in ("differentiable", "capturable"):
        if settings.get(flag):
            raise errors.CannotWrap(
                f"An optimizer with {flag}=True",
                "a step of fnlib is not differentiated or captured",
                "optimizer=fnlib.Adam(lr=1e-3)   # right: without it",
            )


def refuse_broken_kernel(like: type, settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Refuse what PyTorch 2.13 computes from memory that nobody wrote: two stock runs of it differ, too."""
    if (
        like is torch.optim.SGD
        and settings.get("fused")
        and settings.get("momentum")
        and any(w.is_cpu and _is_half(w) for w in weights.values())
    ):
        raise errors.CannotWrap(
            "torch.optim.SGD",
            "on the CPU its fused kernel reads unwritten memory where momentum meets half precision, and two runs of it differ",
            "optimizer=fnlib.SGD(lr=..., momentum=...)   # right: without fused=True",
        )


def _any(tensors: Mapping[str, Tensor], kind: Callable[[Tensor], bool]) -> bool:
    return any(map(kind, tensors.values()))


def _is_half(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.float16, torch.bfloat16)


def _is_sparse(tensor: Tensor) -> bool:
    return tensor.layout is not torch.strided


def _is_complex(tensor: Tensor) -> bool:
    return tensor.is_complex()


def _alike(weights: list[Tensor], marks: Sequence[bool] | None = None) -> list[list[int]]:
    """Group indices by device, dtype and mark: a fused kernel takes one kind."""
    found: dict[Any, list[int]] = {}
    for i, weight in enumerate(weights):
        found.setdefault((weight.device, weight.dtype, marks and marks[i]), []).append(i)
    return list(found.values())


def _batches(weights: list[Tensor], most: int = 1 << 22) -> list[list[int]]:
    """Group indices so that temporary memory stays near `most` elements: a small network at once, a large one weight by weight."""
    batches: list[list[int]] = [[]]
    size = 0
    for i, weight in enumerate(weights):
        if batches[-1] and size + weight.numel() > most:
            batches.append([])
            size = 0
        batches[-1].append(i)
        size += weight.numel()
    return batches
