"""Training scripts whose fault comes 200 steps and more after the first, and their corrections.

A line that ends with ``# wrong`` is the fault; `right` has a line for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.doctor.effect_loops import Case

HEAD = """
import copy
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
X, Y = torch.randn(120, 8), torch.randint(0, 3, (120,))
VX, VY = torch.randn(40, 8), torch.randint(0, 3, (40,))

def net():
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))

def step(model, optimizer, number):
    at = number % 6 * 20
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X[at:at + 20]), Y[at:at + 20])
    loss.backward()
    optimizer.step()

def evaluate(model):
    model.eval()
    with torch.no_grad():
        loss = F.cross_entropy(model(VX), VY)
    model.train()
    return loss.item()
"""


@dataclass(frozen=True)
class Late(Case):
    """A script whose fault the first steps don't show."""

    head: str = HEAD


LATE = [
    Late(
        "the best weights are an alias, loaded after 300 steps",
        "load-without-effect",
        """
class Keeper:
    def __init__(self):
        self.lowest, self.kept = 1e9, None
    def look(self, model):
        loss = evaluate(model)
        if loss < self.lowest:
            self.lowest = loss
            self.kept = model.state_dict()  # wrong
    def restore(self, model):
        model.load_state_dict(self.kept)

def main():
    model, keeper = net(), Keeper()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for number in range(300):
        step(model, optimizer, number)
        if number % 150 == 149:
            keeper.look(model)
    keeper.restore(model)
    evaluate(model)
main()
""",
        ("self.kept = copy.deepcopy(model.state_dict())",),
        "model.load_state_dict(self.kept)",
    ),
    Late(
        "evaluation mode stays after the evaluation at step 250",
        "trained-in-eval-mode",
        """
def accuracy(model):
    model.eval()
    with torch.no_grad():
        found = (model(VX).argmax(1) == VY).float().mean().item()
    pass  # wrong
    return found

model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for number in range(400):
    step(model, optimizer, number)
    if number == 250:
        accuracy(model)
""",
        ("model.train()",),
        "loss = F.cross_entropy(model(X",
    ),
    Late(
        "a new Adam for each epoch of 120 steps",
        "optimizer-made-anew",
        """
def main():
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(5):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)  # wrong
        for number in range(120):
            step(model, optimizer, number)
main()
""",
        ("pass",),
    ),
    Late(
        "statistics move in the evaluation after 250 steps",
        "statistics-moved-without-gradient",
        """
def validate(model):
    model.train()  # wrong
    with torch.no_grad():
        found = F.cross_entropy(model(VX), VY).item()
    model.train()
    return found

def main():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for number in range(400):
        step(model, optimizer, number)
        if number % 250 == 249:
            validate(model)
main()
""",
        ("model.eval()",),
        "found = F.cross_entropy(model(VX), VY)",
    ),
    Late(
        "a layer that is thawed in epoch 2 is not in the optimizer",
        "weight-trained-by-nobody",
        """
def main():
    model = net()
    model[0].requires_grad_(False)
    held = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.Adam(held, lr=1e-3)
    for epoch in range(4):
        if epoch == 2:
            model.requires_grad_(True)
            pass  # wrong
        for number in range(120):
            step(model, optimizer, number)
main()
""",
        ("optimizer.add_param_group({'params': [*model[0].parameters()]})",),
        "model.requires_grad_(True)",
    ),
    Late(
        "a schedule is at zero from step 300 on",
        "weights-stand-still",
        """
def main():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    total = 300  # wrong
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: max(0.0, 1 - n / total))
    for number in range(600):
        step(model, optimizer, number)
        schedule.step()
main()
""",
        ("total = 600",),
        "schedule.step()",
    ),
    Late(
        "a schedule is at zero from the first step that is not recorded on",
        "weights-stand-still",
        """
def main():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    total = 40  # wrong
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: max(0.0, 1 - n / total))
    for number in range(200):
        step(model, optimizer, number)
        schedule.step()
main()
""",
        ("total = 200",),
        "schedule.step()",
    ),
    Late(
        "evaluation mode begins at the first step that is not recorded",
        "trained-in-eval-mode",
        """
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for number in range(200):
    model.train(number < 40)  # wrong
    step(model, optimizer, number)
""",
        ("model.train()",),
        "loss = F.cross_entropy(model(X",
    ),
    Late(
        "the fine-tuning after 200 steps never clears its gradients",
        "gradient-used-twice",
        """
def main():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for number in range(200):
        step(model, optimizer, number)
    for number in range(100):
        loss = F.cross_entropy(model(X), Y)
        pass  # wrong
        loss.backward()
        optimizer.step()
main()
""",
        ("optimizer.zero_grad()",),
        "optimizer.step()",
    ),
    Late(
        "a functional dropout in the evaluation after 250 steps",
        "mask-in-evaluation",
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 3)
    def forward(self, x):
        return self.head(F.dropout(self.body(x).relu(), 0.1, True))  # wrong

def main():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for number in range(400):
        step(model, optimizer, number)
        if number % 250 == 249:
            evaluate(model)
main()
""",
        ("return self.head(F.dropout(self.body(x).relu(), 0.1, self.training))",),
    ),
]
