"""What a lesson needs, tried once while the image is built: the kit, a step of training, the digits, a plot, a kernel."""

import sys
import tempfile

import torch
from jupyter_client.manager import run_kernel
from sklearn.datasets import load_digits
from torch import nn

import fnlib

if torch.version.cuda is not None:
    sys.exit(
        "smoke test: this is the CUDA build of PyTorch; binder/requirements.txt asks for the CPU build"
    )

digits = load_digits()
feature = torch.tensor(digits.data[:32], dtype=torch.float32)
label = torch.tensor(digits.target[:32])
ModelFactory = fnlib.Sequential(
    nn.Linear(64, 10), nn.LogSoftmax(dim=1), optimizer=fnlib.SGD(lr=0.01)
)
first = ModelFactory(fnlib.Parameters(seed=0))
loss = nn.NLLLoss()(first(feature), label)
later = ModelFactory(first.step(first.backward(loss)))
if not nn.NLLLoss()(later(feature), label) < loss:
    sys.exit("smoke test: a step of training did not lower the loss")

with (
    tempfile.TemporaryDirectory() as elsewhere,
    run_kernel(kernel_name="python3", cwd=elsewhere) as client,
):
    code = "import fnlib, ipywidgets, matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()"
    answer = client.execute_interactive(code, timeout=120, output_hook=lambda message: None)[
        "content"
    ]
    if answer["status"] != "ok":
        sys.exit("smoke test: in a kernel: " + answer["evalue"])
print(f"smoke test: torch {torch.__version__}, Python {sys.version.split()[0]}: good")
