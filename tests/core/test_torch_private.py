"""fnlib trains without any private name of PyTorch: slower, to the same bits.

One process imports fnlib anew for each name that is hidden from `torch_private`, and trains.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The registries of nn.Module (`_parameters` and so on) are not here: nn.Module is made of them.
COMPILER = ["skip", "set_code_exec_strategy", "_FrameExecStrategy", "_FrameAction"]
MAP = [
    "get_eval_frame_callback",
    "maybe_get_level",
    "get_unwrapped",
    "maybe_get_bdim",
    "_add_batch_dim",
    "CVmapInterpreterPtr",
    "mark_static",
]
NAMES = [
    "_lazy_clone",
    "_is_cow_tensor",
    "_cdata",
    "is_functorch_wrapped_tensor",
    "peek_interpreter_stack",
    "temporarily_clear_interpreter_stack",
    *MAP,
    "run_backward",
    "_backward_hooks",
    "_post_accumulate_grad_hooks",
    "_base",
    "_non_persistent_buffers_set",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_flat_weights_names",
    "_flat_weight_refs",
    "_pytree",
    "GenerationTracker",
    "generation_values",
    "refs",
    *COMPILER,
]

RUN = '''
import importlib.util, json, sys
import torch
from torch import nn


class Reader(nn.Module):
    """An RNN, a buffer that a state dict leaves out, an output that is a weight."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(4, 3, batch_first=True), nn.Linear(3, 2)
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x):
        self.seen += 1
        return {"output": [self.out(self.rnn(x)[0][:, -1])], "bias": self.out.bias}


def mapped():
    """Take a compiled step of two models at once, and return their weights."""
    import fnlib

    torch._dynamo.reset()
    ModelFactory = fnlib.Sequential(nn.Linear(4, 2), optimizer=fnlib.Adam(lr=0.1))
    step = torch.compile(fnlib.train_step(ModelFactory, nn.MSELoss()), backend="eager")
    models = fnlib.stack([ModelFactory(fnlib.Parameters(seed=s)).parameters for s in (0, 1)])
    x = torch.linspace(-1, 1, 24).reshape(6, 4)
    for _ in range(2):
        models, _ = torch.vmap(step, (0, None, None))(models, x, x[:, :2])
    return json.dumps([weight.tolist() for weight in models.values()])


def train(compiled):
    """Train for three steps, the last one donated, and return everything."""
    import fnlib

    ModelFactory = fnlib.Factory(Reader, optimizer=fnlib.Adam(lr=0.1))
    parameters = fnlib.Parameters(seed=0)
    x = torch.linspace(-1, 1, 24).reshape(2, 3, 4)
    for step in range(3):
        model = ModelFactory(parameters, seed=1)
        output, buffers = model.with_buffers(x)
        gradient = model.backward(output["output"][0].square().mean())
        before = model.parameters["out.bias"].tolist()
        output["bias"].detach().zero_()
        model.parameters["out.bias"].zero_()
        assert model.parameters["out.bias"].tolist() == before, "a write reached the value"
        parameters = model.step(gradient, buffers=buffers, donate=step == 2)
    assert set(parameters.state_dict()) == set(Reader().state_dict())
    step = fnlib.train_step(ModelFactory, lambda output, label: output["output"][0].square().mean())
    step = torch.compile(step, backend="eager") if compiled else step
    parameters, _ = step(parameters, x, x)
    parameters.diff(ModelFactory(fnlib.Parameters(seed=0)).parameters)
    return json.dumps([tensor.tolist() for tensor in [*parameters.values(), *parameters.buffers.values()]])


def without(hidden):
    """Import fnlib anew with a name hidden from the one module that may look for it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "fnlib"]:
        del sys.modules[name]
    spec = importlib.util.spec_from_file_location("fnlib.torch_private", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    module.getattr = lambda thing, name, *default: (
        default[0] if name == hidden else getattr(thing, name, *default)
    )
    sys.modules["fnlib.torch_private"] = module
    spec.loader.exec_module(module)
    return train(hidden in compiler), mapped() if hidden in of_map else of_two


compiler, of_map = json.loads(sys.argv[3]), json.loads(sys.argv[4])
of_two = mapped()
expected, found = (train(False), of_two), {}
for name in json.loads(sys.argv[2]):
    try:
        found[name] = "same bits" if without(name) == expected else "other bits"
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
'''


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What training gives, by the name that is hidden."""
    private = ROOT / "fnlib" / "torch_private.py"
    names = json.dumps(NAMES), json.dumps(COMPILER), json.dumps(MAP)
    command = [sys.executable, "-W", "ignore", "-c", RUN, str(private), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result: dict[str, str] = json.loads(done.stdout)
    return result


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_training_without_a_private_name(name: str, found: dict[str, str]) -> None:
    """Same bits, and no write reaches a value."""
    assert found[name] == "same bits"


def test_the_table_is_whole() -> None:
    """Every private name that `torch_private` looks up above the ledger's part is in the table."""
    source = (ROOT / "fnlib" / "torch_private.py").read_text().partition("# --- ledger")[0]
    calls = [call for call in ast.walk(ast.parse(source)) if isinstance(call, ast.Call)]
    found = [call for call in calls if getattr(call.func, "id", "") == "_found"]
    assert all(isinstance(call.args[0], ast.Constant) for call in found), "a name that is computed"
    looked_up = {
        text.value.rpartition(".")[2]
        for call in [*found, *(c for c in calls if getattr(c.func, "id", "") == "getattr")]
        for text in call.args
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    }
    assert looked_up == set(NAMES)


CORE = [
    path
    for folder in ("", "values", "network", "show", "updates")
    for path in sorted((ROOT / "fnlib" / folder).glob("*.py"))
    if path.name != "torch_private.py"
]
# The fused kernels of PyTorch have no public name.
ELSEWHERE = {"fused.py"}


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_file_uses_a_private_name(path: Path) -> None:
    """No `torch._x`, no `from torch import _x`, no private attribute of the table."""
    private = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in NAMES:
            private.append(node.attr)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            parts = [*(node.module or "").split("."), *(name.name for name in node.names)]
            private += [part for part in parts if part.startswith("_")]
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            root = ast.unparse(node.value)
            private += [node.attr] if root == "torch" or root.startswith("torch.") else []
    if path.name not in ELSEWHERE:
        assert private == []
