"""One thread, the same random numbers, warnings as errors (pyproject.toml): a test that fails once fails always."""

from __future__ import annotations

import os

# Before torch is imported anywhere: two workers with the default thread count are a hundred times slower than with one.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("FNLIB_PROGRESS", "off")  # a test that passes an exercise is no learner

import gc  # noqa: E402
import random  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import numpy  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
# derandomize: the same examples on every machine; no limits of time: a loaded machine is not a failure
hypothesis.settings.register_profile(
    "kit",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("kit")


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Every test starts from the same state of every generator, in whatever order the tests run."""
    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def only_new_objects() -> Iterator[None]:
    """Let `gc.get_objects` leave out what other tests have left, and the objects of libraries.

    There are hundreds of thousands of those, so each look takes a hundredth of the time.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


# Files of 15 to 70 s of a processor: run last with --dist loadfile, they leave the other workers without work.
# By hand, because xdist sorts files by their number of tests, and a fresh clone has no durations of an earlier run.
LONGEST = (
    "lessons/test_investigate_13.py",
    "lessons/test_investigate.py",
    "binder/test_binder.py",
    "nbgrader/test_course.py",
    "frame/test_offline.py",
    "lessons/test_investigate_15.py",
    "lessons/test_investigate_11.py",
    "doctor/test_command.py",
    "benchmarks/test_bench.py",
    "frame/test_action.py",
    "frame/test_environment.py",
    "lessons/test_investigate_12.py",
    "museum/test_dataset.py",
    "teaching/test_exercises.py",
    "doctor/test_questions.py",
    "core/test_compiled.py",
    "history/test_verify.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the others stay in their order."""
    place = {str(Path(__file__).parent / name): number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(str(item.path), len(LONGEST)))


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Doctests are collected from every module; helpers and benchmarks among the tests are not modules of the kit."""
    if (
        collection_path.suffix == ".py"
        and not collection_path.name.startswith("test_")
        and "tests" in collection_path.parts
    ):
        return collection_path.name != "conftest.py"
    return None
