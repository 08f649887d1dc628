"""Promise 3, on disk: save, load and resume are bitwise, in a new process; anything else is refused with nothing loaded."""

from __future__ import annotations

import copy
import json
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

import fnlib
from tests.core import networks as nets
from tests.core.loops import STEPS, functional_run
from tests.core.tables import NETWORKS, SPARSE, Network, loss_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("row", NETWORKS, ids=str)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_what_is_loaded_equals_what_was_saved(row: Network, tmp_path: Path) -> None:
    parameters, _ = functional_run(row, fnlib.Adam(lr=0.01), steps=2)
    parameters.save(tmp_path / "value")
    loaded = fnlib.Parameters.load(tmp_path / "value")
    assert loaded == parameters
    assert [tensor.stride() for tensor in loaded.values()] == [
        tensor.stride() for tensor in parameters.values()
    ]
    assert list(loaded) == list(parameters) and list(loaded.buffers) == list(parameters.buffers)
    assert {key: (t.stride(), t.dtype) for key, t in loaded.state_dict().items()} == {
        key: (t.stride(), t.dtype) for key, t in parameters.state_dict().items()
    }
    assert loaded == pickle.loads(pickle.dumps(parameters)) == copy.deepcopy(parameters)
    fnlib.Factory(row.build)(loaded.replace(optimizer_state=None), training=row.training)


RESUME = """
import sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
import fnlib
from tests.core.test_files import RUNS, train
parameters = fnlib.Parameters.load({path!r} + ".half")
train({run!r}, parameters, 10).save({path!r} + ".whole")
"""
RUNS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "Adam": (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)),
        lambda: fnlib.Adam(lr=lambda step: 0.1 / (1 + step), amsgrad=True),
    ),
    "momentum": (nets.TiedModule, lambda: fnlib.SGD(lr=0.1, momentum=0.9, nesterov=True)),
    "wrapped": (nets.Complex, lambda: fnlib.wrap(torch.optim.NAdam, lr=0.1)),
    "groups": (
        nets.Frozen,
        lambda: fnlib.wrap(
            torch.optim.ASGD,
            t0=3,
            groups=lambda name, weight: {"lr": 0.5} if weight.ndim == 1 else {},
        ),
    ),
}


def train(run: str, parameters: fnlib.Parameters, steps: int) -> fnlib.Parameters:
    build, rule = RUNS[run]
    ModelFactory = fnlib.Factory(build, optimizer=rule())
    for _ in range(steps):
        model = ModelFactory(parameters, seed=5)
        x = torch.randn(6, 4, generator=torch.Generator().manual_seed(model.parameters.step_count))
        output, buffers = model.with_buffers(x)
        parameters = model.step(model.backward(loss_of(output)), buffers=buffers)
    return parameters


@pytest.mark.long
@pytest.mark.parametrize("run", RUNS)
def test_a_run_resumes_to_the_bit_in_a_new_process(run: str, tmp_path: Path) -> None:
    half = train(run, fnlib.Parameters(seed=0), 10)
    half.save(tmp_path / "run.half")
    script = RESUME.format(root=str(ROOT), path=str(tmp_path / "run"), run=run)
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,  # a process that starts on a busy machine takes a minute
    )
    resumed = fnlib.Parameters.load(tmp_path / "run.whole")
    assert resumed == train(run, half, 10)
    assert resumed.step_count == STEPS


TENSORS = [
    torch.tensor(1.5), torch.arange(3), torch.ones(2, 3).t(), torch.tensor([True]), torch.tensor(1j), torch.zeros(0, 3),
    torch.tensor([1.0], dtype=torch.bfloat16),
]  # fmt: skip
KEYS = st.text(max_size=4) | st.integers() | st.floats(allow_nan=False)
trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=5) | st.complex_numbers()
    | st.sampled_from(TENSORS),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(tree=trees)
def test_any_state_survives(tree: Any) -> None:
    import tempfile

    parameters = fnlib.Parameters.from_module(nn.Linear(1, 1)).replace(
        optimizer_state={"kept": tree}
    )
    with tempfile.TemporaryDirectory() as folder:
        parameters.save(Path(folder, "value"))
        loaded = fnlib.Parameters.load(Path(folder, "value"))
    assert loaded == parameters
    assert repr(loaded.optimizer_state) == repr(parameters.optimizer_state)


def saved(tmp_path: Path) -> Path:
    path = tmp_path / "value.safetensors"
    train("Adam", fnlib.Parameters(seed=0), 2).save(path)
    return path


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_short_is_refused(part: float, tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(fnlib.NotAParametersFile) as caught:
        fnlib.Parameters.load(path)
    assert (
        f"{path} can't be loaded as parameters: it is truncated or not a safetensors file"
        in str(caught.value)
    )
    assert "Nothing was loaded." in str(caught.value)
    assert "parameters = fnlib.Parameters.load(path)   # reads only what `save` wrote" in str(
        caught.value
    )


def rewritten(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the description that a file carries of its tensors."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
    tree = json.loads(metadata["tree"])
    tree = change(tree) or tree
    save_file(
        load_file(path), path, metadata={"format": metadata["format"], "tree": json.dumps(tree)}
    )


def entry(tree: Any, *keys: str) -> Any:
    """Find an entry of the tree by names."""
    for key in keys:
        tree = next(value for name, value in tree["dict"] if name == key)
    return tree


DAMAGE: dict[str, Callable[[Any], Any]] = {
    "not a tree": lambda tree: 3,
    "no entries": lambda tree: {"dict": []},
    "a part is missing": lambda tree: {"dict": tree["dict"][1:]},
    "weights are a list": lambda tree: {
        "dict": [[k, {"list": []} if k == "weights" else v] for k, v in tree["dict"]]
    },
    "a weight is a number": lambda tree: entry(tree, "weights")["dict"].__setitem__(
        0, ["0.weight", 3]
    ),
    "step count is a string": lambda tree: {
        "dict": [[k, "3" if k == "step_count" else v] for k, v in tree["dict"]]
    },
    "rule is a number": lambda tree: {
        "dict": [[k, 3 if k == "rule" else v] for k, v in tree["dict"]]
    },
    "unknown kind": lambda tree: {
        "dict": [[k, {"code": "import os"} if k == "state" else v] for k, v in tree["dict"]]
    },
    "tensor is missing": lambda tree: entry(tree, "weights", "0.weight").update(tensor="999"),
    "shape is another": lambda tree: entry(tree, "weights", "0.weight").update(shape=[3, 3]),
    "shape is enormous": lambda tree: entry(tree, "weights", "0.weight").update(
        shape=[10**15, 4], stride=[4, 1]
    ),
    "strides overlap": lambda tree: entry(tree, "weights", "0.weight").update(stride=[0, 0]),
    "strides are enormous": lambda tree: entry(tree, "weights", "0.weight").update(
        stride=[10**15, 1]
    ),
    "strides are negative": lambda tree: entry(tree, "weights", "0.weight").update(stride=[-4, 1]),
    "too few strides": lambda tree: entry(tree, "weights", "0.weight").update(stride=[1]),
    "not complex": lambda tree: entry(tree, "weights", "0.weight").update(complex=True),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_description_is_refused(how: str, tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewritten(path, DAMAGE[how])
    with pytest.raises(fnlib.NotAParametersFile, match="its description doesn't fit its tensors"):
        fnlib.Parameters.load(path)


def test_a_foreign_file_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(
        fnlib.NotAParametersFile, match="`Parameters.save` didn't write this safetensors file"
    ):
        fnlib.Parameters.load(tmp_path / "other.safetensors")

    class Trap:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "sprung").touch, ())

    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "stock.pt")
    (tmp_path / "trap.pkl").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "text").write_text("weights")
    for name in ("stock.pt", "trap.pkl", "text"):
        with pytest.raises(
            fnlib.NotAParametersFile, match="it is truncated or not a safetensors file"
        ):
            fnlib.Parameters.load(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_files_that_are_not_there_are_pythons_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fnlib.Parameters.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        fnlib.Parameters.load(tmp_path)
    parameters = fnlib.Parameters.from_module(nn.Linear(1, 1))
    with pytest.raises(FileNotFoundError):
        parameters.save(tmp_path / "no" / "such" / "folder")
    with pytest.raises(OSError, match="irectory"):
        parameters.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()

    def full(tensors: Any, name: str, metadata: Any) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fnlib.values.files.serialize_file", full)
    with pytest.raises(OSError, match="No space left"):
        fnlib.Parameters.from_module(nn.Linear(1, 1)).save(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_the_file_has_ordinary_rights_and_replaces_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    path = saved(tmp_path)
    fnlib.Parameters.from_module(nn.Linear(1, 1)).save(str(path))
    assert len(fnlib.Parameters.load(str(path))) == 2
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


WITHOUT_NUMPY = """
import sys

sys.modules["numpy"] = None  # as if it weren't installed
import torch, fnlib

dtypes = [torch.float32, torch.bfloat16, torch.complex64, torch.float8_e4m3fn]
for i, dtype in enumerate(dtypes):
    module = torch.nn.Linear(2, 1)
    module.register_buffer("kept", torch.arange(3.0).to(dtype))
    module.register_buffer("none", torch.empty(0, dtype=dtype))
    value = fnlib.Parameters.from_module(module)
    value.save(sys.argv[1] + "/file")
    history = fnlib.History(sys.argv[1] + "/run")
    history.append(value)
    assert fnlib.Parameters.load(sys.argv[1] + "/file") == value == history[i]
"""


def test_files_need_no_numpy(tmp_path: Path) -> None:
    """PyTorch works without it, and so do `save` and `History`."""
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_NUMPY, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_links_rights_and_names(tmp_path: Path) -> None:
    """As writing to any file: through a link, with the rights that the file had, under any name that the system takes."""
    path = saved(tmp_path)
    value = fnlib.Parameters.load(path)
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    fnlib.Parameters.from_module(nn.Linear(1, 1)).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and len(fnlib.Parameters.load(path)) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    class Named:
        def __fspath__(self) -> str:
            return str(tmp_path / "named")

    for name in (
        Named(),
        tmp_path / "größe 模型",
        tmp_path / ("n" * 250),
        os.fsencode(tmp_path / "bytes"),
    ):
        value.save(name)  # type: ignore[arg-type]
        assert fnlib.Parameters.load(name) == value  # type: ignore[arg-type]
    assert not [found for found in tmp_path.iterdir() if found.name.startswith(".")]


MISLED: dict[str, Callable[[Any], Any]] = {
    "a list": lambda state: [],
    "no state": lambda state: {"param_groups": []},
    "no groups": lambda state: {"state": {}},
    "groups are numbers": lambda state: {"state": {}, "param_groups": [3]},
    "another weight": lambda state: {**state, "state": {**state["state"], "9.bias": {}}},
    "moments are a number": lambda state: {**state, "state": {**state["state"], "0.bias": 3}},
    "a moment is missing": lambda state: (
        state["state"]["0.bias"].pop("exp_avg") is not None and state
    ),
    "a moment is a number": lambda state: state["state"]["0.bias"].update(exp_avg=0.5) or state,
    "a moment has another shape": lambda state: (
        state["state"]["0.bias"].update(exp_avg=torch.zeros(1)) or state
    ),
}


@pytest.mark.parametrize("how", MISLED)
def test_an_impossible_state_is_refused_before_it_is_used(how: str, tmp_path: Path) -> None:
    """Refuse an optimizer state that no step could have left, before using it."""
    ModelFactory = fnlib.Sequential(nn.Linear(4, 3), optimizer=fnlib.Adam())
    model = ModelFactory(fnlib.Parameters(seed=0))
    gradient = model.backward(model(torch.ones(2, 4)).sum())
    later = model.step(gradient)
    misled = later.replace(optimizer_state=MISLED[how](later.optimizer_state))
    misled.save(tmp_path / "misled")
    for value in (
        misled,
        fnlib.Parameters.load(tmp_path / "misled"),
        pickle.loads(pickle.dumps(misled)),
    ):
        with pytest.raises(fnlib.WrongParameters) as caught:
            ModelFactory(value).step(gradient, donate=True)
        assert "The rule of this factory can't continue from this optimizer_state" in str(
            caught.value
        )
        assert (
            "ModelFactory(parameters.replace(optimizer_state=None))   # start the rule afresh"
            in str(caught.value)
        )
        assert ModelFactory(value.replace(optimizer_state=None)).step(gradient).step_count == 2, (
            "nothing was given away"
        )
    fine = later.replace(optimizer_state=later.optimizer_state)
    assert ModelFactory(fine).step(gradient) == ModelFactory(later).step(gradient)


def test_what_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    parameters, _ = functional_run(SPARSE, fnlib.SGD(lr=0.1, momentum=0.9), steps=2)
    with pytest.raises(fnlib.CannotStore, match="sparse"):
        parameters.save(tmp_path / "sparse")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(fnlib.EmptyParameters, match="so they can't be saved"):
        fnlib.Parameters().save(tmp_path / "empty")


def test_a_network_without_weights(tmp_path: Path) -> None:
    parameters = fnlib.Sequential(nn.ReLU())(fnlib.Parameters()).parameters
    parameters.save(tmp_path / "none")
    assert fnlib.Parameters.load(tmp_path / "none") == parameters
