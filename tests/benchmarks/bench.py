"""`make bench`: whole training steps, stock and fnlib side by side; what fnlib costs, and where it saves.

Both sides start from the same weights, see the same batches and end at the same weights (which is checked). They take
turns in one process on one thread, and a ratio is that of medians over many rounds. A line past its limit is measured
once more, longer, before it is called so; then the exit status is 1.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"  # before torch is imported

import argparse  # noqa: E402
import dataclasses  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

import fnlib  # noqa: E402
from tests.benchmarks import histories, loops, recorded, replicas  # noqa: E402
from tests.benchmarks.large import COPIES, Worker  # noqa: E402
from tests.benchmarks.measure import QUICK, Effort, interleaved  # noqa: E402


@dataclasses.dataclass
class Line:
    """One line of the table.

    Args:
        case: what is measured.
        unit: of the two sides.
        other: what fnlib is compared with; ``None`` where a limit stands by itself.
        ours: fnlib.
        ratio: what the limit is about.
        limit: at most.
        note: why there is no figure, or that it was measured twice.
    """

    case: str
    limit: float
    unit: str = "us"
    other: float | None = None
    ours: float | None = None
    ratio: float | None = None
    note: str = ""

    @property
    def within(self) -> bool | None:
        """Say whether the line is within its limit, as far as it is printed; ``None`` where it was not measured."""
        return None if self.ratio is None else round(self.ratio, 2) <= self.limit

    def __str__(self) -> str:
        other, ours = (
            "" if value is None else f"{value:,.1f}" for value in (self.other, self.ours)
        )
        ratio, within = (
            ("-", "not measured")
            if self.ratio is None
            else (f"{self.ratio:.2f}", "yes" if self.within else "NO")
        )
        note = self.note and f" ({self.note})"
        figures = f"{other:>11} {ours:>11} {self.unit:4} {ratio:>6} {self.limit:>6.2f}"
        return f"{self.case:56} {figures}  {within}{note}"


HEADING = f"{'case':56} {'other':>11} {'fnlib':>11} {'':4} {'ratio':>6} {'limit':>6}  within?"
Measure = Callable[[Effort], list[Line]]


def eager(
    case: str,
    limit: float,
    task: Callable[[], loops.Task],
    functional: type[loops.Functional] = loops.Functional,
) -> Measure:
    """Measure whole steps of the functional loop against those of the stock loop."""

    def measure(effort: Effort) -> list[Line]:
        taken = loops.measure_pair(task(), functional, lambda sides: interleaved(sides, effort))
        return [
            Line(case, limit, "us", taken["stock"], taken["fnlib"], taken["fnlib"] / taken["stock"])
        ]

    return measure


def by_hand(
    case: str, limit: float, hand: float, lr: float, task: Callable[[], loops.Task]
) -> Measure:
    """Measure SGD against the stock loop, and against the shortest functional loop without fnlib."""

    def measure(effort: Effort) -> list[Line]:
        made = task()
        sides = {
            "stock": loops.Stock(made),
            "hand": loops.ByHand(made, lr),
            "fnlib": loops.Functional(made),
        }
        taken = loops.measure_sides(sides, lambda steps: interleaved(steps, effort))
        ratio = {other: taken["fnlib"] / taken[other] for other in ("stock", "hand")}
        return [
            Line(case, limit, "us", taken["stock"], taken["fnlib"], ratio["stock"]),
            Line(
                "  the same / by hand with functional_call",
                hand,
                "us",
                taken["hand"],
                taken["fnlib"],
                ratio["hand"],
            ),
        ]

    return measure


def tensors(effort: Effort) -> list[Line]:
    """Measure whole steps of a network of 5,000 tensors: one of them takes a tenth of a second."""
    few = dataclasses.replace(effort, rounds=max(2, effort.rounds // 15), steps=1, warm_up=2)
    return by_hand("5,000 tensors (2,500 layers), SGD", 1.60, 1.25, 0.01, loops.many)(few)


SHAPES: dict[int, list[tuple[int, ...]]] = {
    4: [(64, 128), (64,), (10, 64), (10,)],
    160: [(64, 64), (64,)] * 80,
    5000: [(2, 2), (2,)] * 2500,
}


def formulas(effort: Effort) -> list[Line]:
    """Measure what the formula for one weight costs against ``_foreach`` calls, nobody's loop."""
    lines = []
    for number, shapes in SHAPES.items():
        updates = loops.Updates(shapes)
        rounds = max(2, effort.rounds * (15 if number < 1000 else 1) // 15)
        short = dataclasses.replace(effort, rounds=rounds, steps=max(1, 40 // number), warm_up=2)
        taken = interleaved({"foreach": updates.foreach, "formula": updates.formula}, short)
        loops.same_bits(*updates.states())
        case = f"Adam, update of {number:,} weights / _foreach calls"
        ratio = taken["formula"] / taken["foreach"]
        lines.append(Line(case, 2.00, "us", taken["foreach"], taken["formula"], ratio))
    return lines


MODELS = 32


def stacked(effort: Effort) -> list[Line]:
    """Measure one vmapped step of many models against stock steps of each, and the shortest by hand."""
    task = _sgd()
    sides: dict[str, loops.StockModels | loops.Stacked | loops.StackedByHand] = {
        "stock": loops.StockModels(task, MODELS),
        "fnlib": loops.Stacked(task, MODELS),
        "hand": loops.StackedByHand(task, MODELS, 0.01),
        "compiled": loops.Stacked(task, MODELS, compiled=True),
        "compiled hand": loops.StackedByHand(task, MODELS, 0.01, compiled=True),
    }
    lines = {
        ("fnlib", "stock"): Line(f"{MODELS} models of 128-64-10 in one vmapped step", 0.40),
        ("fnlib", "hand"): Line("  the same / by hand with torch.func", 1.30),
        ("compiled", "stock"): Line("  the same compiled", 0.14),
        ("compiled", "compiled hand"): Line("  the same compiled / by hand, compiled", 1.60),
    }
    for name in list(sides):
        try:
            sides[name].step()
        except torch._dynamo.exc.BackendCompilerFailed as error:  # it needs a C++ compiler
            for line in [line for pair, line in lines.items() if name in pair]:
                line.note = f"train_step: {str(error).splitlines()[0][:60]}"
            del sides[name]
    # As many steps in a turn as on other lines, because the first ones of a turn take longer.
    few = dataclasses.replace(effort, rounds=max(2, effort.rounds // 5), warm_up=2)
    taken = interleaved({name: side.step for name, side in sides.items()}, few)
    for name in sides.keys() - {"stock"}:
        loops.same_numbers(sides["stock"].state(), sides[name].state())
    for (ours, other), line in lines.items():
        if ours in sides and other in sides:
            line.other, line.ours = taken[other], taken[ours]
            line.ratio = taken[ours] / taken[other]
    torch.compiler.reset()  # the next measurement compiles as in a process of its own
    return list(lines.values())


def compiled(effort: Effort) -> list[Line]:
    """Measure the pure step under torch.compile against the stock loop and against JAX, all in one run."""
    task = _sgd()
    sides: dict[str, loops.Stock | loops.Compiled | loops.Jax] = {
        "stock": loops.Stock(task),
        "fnlib": loops.Compiled(task),
    }
    against_stock, against_jax = (
        Line("train_step compiled, 128-64-10, SGD / stock loop", 0.45),
        Line("the same / JAX + Optax jit", 1.00),
    )
    try:
        sides["jax"] = loops.Jax(task, lr=0.01)
    except ImportError as missing:
        against_jax.note = f"{missing.name} is not installed"
    try:
        sides["fnlib"].step()
    except torch._dynamo.exc.BackendCompilerFailed as error:  # torch.compile needs a C++ compiler
        against_stock.note = against_jax.note = str(error).splitlines()[0][:60]
        return [against_stock, against_jax]
    for name in sides.keys() - {"fnlib"}:
        sides[name].step()
    taken = interleaved({name: side.step for name, side in sides.items()}, effort)
    for name in sides.keys() - {"fnlib"}:
        loops.same_numbers(sides[name].state(), sides["fnlib"].state())
    against_stock.other, against_stock.ours = taken["stock"], taken["fnlib"]
    against_stock.ratio = taken["fnlib"] / taken["stock"]
    if "jax" in taken:
        against_jax.other, against_jax.ours, against_jax.ratio = (
            taken["jax"],
            taken["fnlib"],
            taken["fnlib"] / taken["jax"],
        )
    return [against_stock, against_jax]


def large(rule: str, limit: float) -> Measure:
    """Measure a large network: the memory to build it, and time and memory of its update alone."""

    def measure(effort: Effort) -> list[Line]:
        name = f"{effort.weights / 1e6:g} M weights, update alone, {rule}{' fused' if rule == 'Adam' else ''}"
        sides = ("stock", "donated", "not donated")
        workers = {side: Worker(side, rule, effort.weights) for side in sides}
        try:
            taken: dict[str, list[int]] = {side: [] for side in sides}
            for turn in range(effort.updates + 1):
                for side in sides[turn % 3 :] + sides[: turn % 3]:
                    nanoseconds = workers[side].ask("step")
                    taken[side] += [nanoseconds] if turn else []  # the first makes the moments
            peak = {side: workers[side].ask("peak") / 2**20 for side in sides}
            built = {side: workers[side].ask("built") / 2**20 for side in sides}
            if len({workers[side].ask("sum") for side in sides}) > 1:
                raise AssertionError(
                    "the sides do not compute the same: their weights differ after the same steps"
                )
        finally:
            for worker in workers.values():
                worker.close()
        stock, ours = (statistics.median(taken[side]) / 1000 for side in ("stock", "donated"))
        lines = [Line(f"{name}, donated: time", limit, "us", stock, ours, ours / stock)]
        donated, kept = (
            Line(f"{name}, donated: peak memory", limit, "MiB"),
            Line("  not donated: extra memory / what is replaced", 1.00, "MiB"),
        )
        if all(peak.values()):
            replaced = COPIES[rule] * effort.weights * 4 / 2**20
            donated.other, donated.ours, donated.ratio = (
                peak["stock"],
                peak["donated"],
                peak["donated"] / peak["stock"],
            )
            kept.other, kept.ours = replaced, peak["not donated"] - peak["stock"]
            kept.ratio = kept.ours / kept.other
        else:
            donated.note = kept.note = "only Linux says how much memory was used at most"
        building = Line(
            f"{effort.weights / 1e6:g} M weights, drawn and bound: peak memory", 1.30, "MiB"
        )
        building.other, building.ours = built["stock"] or None, built["donated"] or None
        if building.other and building.ours:
            building.ratio = building.ours / building.other
        else:
            building.note = donated.note
        return [*lines, donated, kept, *([building] if rule == "SGD" else [])]

    return measure


def recording(case: str, rule: recorded.Rule) -> Measure:
    """Measure a step of the stock loop inside of a ledger against the same step without."""

    def measure(effort: Effort) -> list[Line]:
        steps = 5 * effort.steps
        sides = {
            name: recorded.Recorded(rule, recorded=name == "recorded", steps=steps)
            for name in ("plain", "recorded")
        }
        rounds = dataclasses.replace(effort, rounds=max(2, effort.rounds // 5), steps=1, warm_up=2)
        taken = interleaved({name: side.round for name, side in sides.items()}, rounds)
        loops.same_numbers(*(side.state() for side in sides.values()))
        plain, ours = (taken[name] / steps for name in ("plain", "recorded"))
        return [Line(case, 6.00, "us", plain, ours, ours / plain)]

    return measure


def recording_large(effort: Effort) -> list[Line]:
    """Measure what the ledger takes for a statement of a large network, watched as a whole and in part."""
    weights = 10 * effort.weights // 64
    name = f"ledger, {weights / 1e6:g} M weights, Adam: a statement (limit in s)"
    whole, part = recorded.statements(weights, None), recorded.statements(weights, {"gradient"})
    return [
        Line(name, 1.00, "ms", None, 1000 * whole, whole),
        Line(
            '  watch={"gradient"} alone / all of it',
            1.00,
            "ms",
            1000 * whole,
            1000 * part,
            part / whole,
        ),
    ]


# Numbers of a state to the limit that it has: the hash of all of them takes longer than the file.
STATES = {9_000: 1.30, 26_000: 1.30, 200_000: 1.30, 9_000_000: 3.00}


def keeping(effort: Effort) -> list[Line]:
    """Measure appending a state against a safetensors file with fsync and rename."""
    found = [
        _kept(
            f"history, append {4 * weights / 1e6:g} MB / safetensors, fsync", weights, limit, effort
        )
        for weights, limit in STATES.items()
    ]
    weights = max(STATES)
    found.append(_kept("  36 MB of which a quarter changed", weights, 1.00, effort, frozen=True))
    seconds = histories.seconds_to_open(10_000)
    case = "history, opening 10,000 states (limit in s)"
    return [*found, Line(case, 1.00, "ms", None, 1000 * seconds, seconds)]


def _kept(case: str, weights: int, limit: float, effort: Effort, frozen: bool = False) -> Line:
    rounds = max(2, effort.rounds // (3 if weights < 1_000_000 else 15))
    few = dataclasses.replace(effort, rounds=rounds, steps=1, warm_up=1)
    with histories.on_disk() as folder:
        sides = histories.Sides(folder, weights, rounds + 1, frozen)
        taken = interleaved({"stock": sides.safetensors, "fnlib": sides.fnlib}, few)
    return Line(case, limit, "us", taken["stock"], taken["fnlib"], taken["fnlib"] / taken["stock"])


def distributed(effort: Effort) -> list[Line]:
    """Measure a step on two ranks beside DistributedDataParallel; reported, as ranks share cores."""
    taken = replicas.medians(max(2, effort.rounds // 5), effort.steps)
    ratio = taken["fnlib"] / taken["stock"]
    case = "two gloo ranks, 128-64-10, SGD / DDP"
    return [Line(case, 99, "us", taken["stock"], taken["fnlib"], ratio, "reported, not judged")]


def importing(effort: Effort) -> list[Line]:
    """Measure `import fnlib` in fresh processes that have imported torch, compiled before as on a user's machine."""
    code = "import time, torch; begin = time.perf_counter(); import fnlib; print(time.perf_counter() - begin)"
    run = [sys.executable, "-c", code]
    writing = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    taken = [
        float(subprocess.run(run, check=True, capture_output=True, text=True, env=writing).stdout)
        * 1000
        for _ in range(effort.starts + 1)
    ]
    milliseconds = statistics.median(taken[1:])
    return [
        Line(
            "import fnlib, beyond import torch (limit in ms)",
            50.0,
            "ms",
            None,
            milliseconds,
            milliseconds,
        )
    ]


def _sgd() -> loops.Task:
    return loops.dense(fnlib.SGD(lr=0.01), lambda weights: torch.optim.SGD(weights, lr=0.01))


def _adam(fused: bool | None) -> loops.Task:
    return loops.dense(
        fnlib.Adam(lr=0.001, fused=fused),
        lambda weights: torch.optim.Adam(weights, lr=0.001, fused=fused),
    )


def _wrapped(kind: type[torch.optim.Optimizer]) -> loops.Task:
    return loops.dense(fnlib.wrap(kind, lr=0.01), lambda weights: kind(weights, lr=0.01))  # type: ignore[call-arg]


def _momentum() -> loops.Task:
    return loops.dense(
        fnlib.SGD(lr=0.01, momentum=0.9),
        lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9),
    )


MEASURES: dict[str, Measure] = {
    "sgd": by_hand("128-64-10, batch 32, SGD", 0.90, 1.05, 0.01, _sgd),
    "adam": eager("128-64-10, batch 32, Adam", 0.95, lambda: _adam(None)),
    "adam-fused": eager("128-64-10, batch 32, Adam fused", 1.00, lambda: _adam(True)),
    "momentum": eager("128-64-10, batch 32, SGD with momentum", 1.00, _momentum),
    "wrap-sgd": eager("128-64-10, batch 32, wrap(SGD)", 1.40, lambda: _wrapped(torch.optim.SGD)),
    "wrap-adamw": eager(
        "128-64-10, batch 32, wrap(AdamW)", 1.40, lambda: _wrapped(torch.optim.AdamW)
    ),
    "wrap-rmsprop": eager(
        "128-64-10, batch 32, wrap(RMSprop)", 1.40, lambda: _wrapped(torch.optim.RMSprop)
    ),
    "formulas": formulas,
    "tensors": tensors,
    "cnn": eager(
        "CNN with BatchNorm, digits, batch 32, SGD",
        1.10,
        loops.convolutional,
        loops.FunctionalWithBuffers,
    ),
    "lstm": eager("LSTM, digits, batch 32, SGD", 1.10, loops.recurrent),
    "stacked": stacked,
    "compiled": compiled,
    "large-sgd": large("SGD", 1.10),
    "large-adam": large("Adam", 1.06),
    "ledger-sgd": recording(
        "ledger, 128-64-10, SGD: recorded step / plain step",
        lambda weights: torch.optim.SGD(weights, lr=0.01),
    ),
    "ledger-adam": recording(
        "ledger, 128-64-10, Adam: recorded step / plain step",
        lambda weights: torch.optim.Adam(weights, lr=0.001),
    ),
    "ledger-large": recording_large,
    "history": keeping,
    "distributed": distributed,
    "import": importing,
}


def measured(measure: Measure, effort: Effort) -> list[Line]:
    """Measure, and measure once more, longer, before a line is said to be past its limit."""
    lines = measure(effort)
    if all(line.within is not False for line in lines):
        return lines
    again = measure(
        dataclasses.replace(
            effort, rounds=2 * effort.rounds, updates=2 * effort.updates, starts=2 * effort.starts
        )
    )
    for first, second in zip(lines, again, strict=True):
        if first.ratio is not None and not second.note:
            second.note = f"measured again, first {first.ratio:.2f}"
    return again


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few steps of everything, to see that it runs; says nothing about speed",
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(MEASURES), help="some of the measurements"
    )
    parser.add_argument(
        "--json", type=Path, default=Path("build/bench.json"), help="where the figures go"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(HEADING, flush=True)
    lines: list[Line] = []
    for name in options.only or MEASURES:
        found = MEASURES[name](QUICK) if options.quick else measured(MEASURES[name], Effort())
        print(*found, sep="\n", flush=True)
        lines += found
    machine = {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
    }
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fnlib": fnlib.__version__,
    }
    rows = [{**dataclasses.asdict(line), "within": line.within} for line in lines]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(
        json.dumps(
            {"quick": options.quick, "machine": machine, "versions": versions, "lines": rows},
            indent=1,
        )
        + "\n"
    )
    past, missing = (
        [line for line in lines if line.within is False],
        [line for line in lines if line.within is None],
    )
    if options.quick:
        print("Quick: everything ran. The figures mean nothing; leave --quick out to measure.")
        return 0
    print(
        f"{len(lines) - len(past) - len(missing)} of {len(lines)} lines within their limits, {len(missing)} not measured. "
        f"Written to {options.json}."
    )
    return 1 if past else 0


if __name__ == "__main__":
    sys.exit(main())
