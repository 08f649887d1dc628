"""Small training scripts as people write them, each with one line wrong, and its correction.

Nobody has reported these: they are other members of the families that the doctor's questions stand
for. A case is a script with the fault, the fault's correction as a replacement, the code that finds
it, and a piece of the line at which it is found.
"""

from __future__ import annotations

from dataclasses import dataclass

PRELUDE = """
import copy
import random
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
np.random.seed(0)
x, y = torch.randn(64, 6), torch.randint(0, 3, (64,))
loader = DataLoader(TensorDataset(x, y), batch_size=16)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 12)
        self.head = nn.Linear(12, 3)
    def forward(self, x):
        h = torch.relu(self.body(x))
        return self.head(h)
"""
MODEL = """
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
"""
LOOP = """
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
"""


@dataclass(frozen=True)
class Case:
    """One loop: ``wrong`` is in the script, ``right`` replaces it."""

    name: str
    code: str
    script: str
    wrong: str
    right: str
    at: str = ""

    @property
    def bug(self) -> str:
        """The script with the fault."""
        assert self.wrong in self.script, self.name
        return PRELUDE + self.script

    @property
    def correct(self) -> str:
        """The script without the fault."""
        return PRELUDE + self.script.replace(self.wrong, self.right)


CASES = [
    # --- who is trained? -----------------------------------------------------------------------
    Case(
        "layers in a dict",
        "weight-trained-by-nobody",
        """
class Heads(nn.Module):
    def __init__(self, tasks):
        super().__init__()
        self.body = nn.Linear(6, 12)
        self.heads = {task: nn.Linear(12, 3) for task in tasks}
    def forward(self, x, task):
        return self.heads[task](torch.relu(self.body(x)))
model = Heads(["a", "b"])
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(3):
    for inputs, targets in loader:
        for task in ("a", "b"):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs, task), targets)
            loss.backward()
            optimizer.step()
""",
        "self.heads = {task: nn.Linear(12, 3) for task in tasks}",
        "self.heads = nn.ModuleDict({task: nn.Linear(12, 3) for task in tasks})",
        "loss.backward()",
    ),
    Case(
        "a list of parameters",
        "weight-trained-by-nobody",
        """
class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 3)
        self.scales = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    def forward(self, x):
        out = self.net(x)
        for scale in self.scales:
            out = out * scale
        return out
model = Scaled()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        "self.scales = [nn.Parameter(torch.ones(3)) for _ in range(2)]",
        "self.scales = nn.ParameterList([nn.Parameter(torch.ones(3)) for _ in range(2)])",
        "loss.backward()",
    ),
    Case(
        "layers on an object that is no module",
        "weight-trained-by-nobody",
        """
class Encoder:
    def __init__(self):
        self.linear = nn.Linear(6, 12)
    def __call__(self, x):
        return torch.relu(self.linear(x))
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(12, 3)
    def forward(self, x):
        return self.head(self.encoder(x))
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        "class Encoder:\n    def __init__(self):\n",
        "class Encoder(nn.Module):\n    def __init__(self):\n        super().__init__()\n",
        "loss.backward()",
    ),
    Case(
        "a criterion with weights",
        "weight-trained-by-nobody",
        """
class Margin(nn.Module):
    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(3, 3))
    def forward(self, features, targets):
        return F.cross_entropy(features @ self.centres.t(), targets)
model = Net()
criterion = Margin()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
""",
        "torch.optim.SGD(model.parameters(), lr=0.1)",
        "torch.optim.SGD([*model.parameters(), *criterion.parameters()], lr=0.1)",
        "loss.backward()",
    ),
    Case(
        "a head is added after the optimizer was built",
        "weight-trained-by-nobody",
        """
class Growing(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 12)
        self.heads = nn.ModuleList([nn.Linear(12, 3)])
    def forward(self, x):
        h = torch.relu(self.body(x))
        return sum(head(h) for head in self.heads)
model = Growing()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model.heads.append(nn.Linear(12, 3))
"""
        + LOOP,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nmodel.heads.append(nn.Linear(12, 3))",
        "model.heads.append(nn.Linear(12, 3))\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)",
        "loss.backward()",
    ),
    Case(
        "only weights and no biases are collected",
        "weight-trained-by-nobody",
        """
model = Net()
decay = [p for n, p in model.named_parameters() if n.endswith("weight")]
rest = [p for n, p in model.named_parameters() if n.endswith("biases")]
optimizer = torch.optim.SGD([{"params": decay, "weight_decay": 0.01}, {"params": rest}], lr=0.1)
"""
        + LOOP,
        'endswith("biases")',
        'endswith("bias")',
        "loss.backward()",
    ),
    Case(
        "a layer is rebuilt by a method after the optimizer was built",
        "weight-not-in-optimizer",
        """
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def reset(model):
    model.head = nn.Linear(12, 3)
reset(model)
"""
        + LOOP,
        "reset(model)\n\nfor",
        "\nfor",
        "optimizer.step()",
    ),
    Case(
        "the optimizer is given a deep copy",
        "weight-not-in-optimizer",
        """
model = Net()
student = copy.deepcopy(model)
optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
""",
        "F.cross_entropy(model(inputs), targets)",
        "F.cross_entropy(student(inputs), targets)",
        "optimizer.step()",
    ),
    Case(
        "everything is frozen",
        "step-without-gradient",
        """
class Prompt(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(6))
        self.net = Net()
    def forward(self, x):
        return self.net(x + self.shift)
model = Prompt()
for weight in model.net.parameters():
    weight.requires_grad = False
optimizer = torch.optim.SGD(model.net.parameters(), lr=0.1)
"""
        + LOOP,
        "SGD(model.net.parameters(), lr=0.1)",
        "SGD([model.shift], lr=0.1)",
        "optimizer.step()",
    ),
    Case(
        "a loss is wrapped in a new tensor",
        "step-without-gradient",
        MODEL
        + """
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        losses = F.cross_entropy(model(inputs), targets, reduction="none")
        loss = torch.tensor(losses.mean(), requires_grad=True)
        loss.backward()
        optimizer.step()
""",
        "torch.tensor(losses.mean(), requires_grad=True)",
        "losses.mean()",
        "loss.backward()",
    ),
    Case(
        "the loss is that of predicted classes",
        "step-without-gradient",
        MODEL
        + """
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        predicted = model(inputs).argmax(1).float()
        loss = F.mse_loss(predicted, targets.float())
        loss.requires_grad_(True)
        loss.backward()
        optimizer.step()
""",
        "predicted = model(inputs).argmax(1).float()",
        "predicted = model(inputs)[:, 0]",
        "loss.backward()",
    ),
    Case(
        "an actor whose log probabilities are numbers",
        "step-without-gradient",
        """
actor, critic = nn.Linear(6, 3), nn.Linear(6, 1)
actor_optimizer = torch.optim.Adam(actor.parameters(), lr=0.01)
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
for step in range(12):
    state = torch.randn(8, 6)
    probs = F.softmax(actor(state), 1)
    value = critic(state).squeeze(1)
    actions = probs.multinomial(1).squeeze(1)
    log_probs = probs.log()[torch.arange(8), actions].detach()
    advantage = torch.randn(8) - value
    loss = -(log_probs * advantage.detach()).mean() + advantage.pow(2).mean()
    actor_optimizer.zero_grad()
    critic_optimizer.zero_grad()
    loss.backward()
    actor_optimizer.step()
    critic_optimizer.step()
""",
        "actions].detach()",
        "actions]",
        "",
    ),
    Case(
        "features are detached in the middle of the network",
        "gradient-never-arrives",
        """
class Cut(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(6, 12)
        self.head = nn.Linear(12, 3)
    def forward(self, x):
        features = self.encoder(x)
        features = torch.tensor(features.detach().numpy())
        return self.head(torch.relu(features))
model = Cut()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        "torch.tensor(features.detach().numpy())",
        "features * 1.0",
        "self.encoder(x)",
    ),
    Case(
        "an encoder and a decoder with .data between them",
        "gradient-never-arrives",
        """
encoder, decoder = nn.Linear(6, 4), nn.Linear(4, 6)
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.01)
for epoch in range(3):
    for inputs, _ in loader:
        code = encoder(inputs)
        output = decoder(code.data)
        loss = F.mse_loss(output, inputs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
        "decoder(code.data)",
        "decoder(code)",
        "encoder(inputs)",
    ),
    # --- is each gradient used once, as it was made? ---------------------------------------------
    Case(
        "the step is missing",
        "never-stepped",
        MODEL
        + """
def train_epoch(model, optimizer):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        pass
for epoch in range(3):
    train_epoch(model, optimizer)
""",
        "        pass\n",
        "        optimizer.step()\n",
        "optimizer.zero_grad()",
    ),
    Case(
        "the discriminator never steps",
        "never-stepped",
        """
generator, critic = nn.Linear(2, 6), nn.Linear(6, 1)
g_optimizer = torch.optim.Adam(generator.parameters(), lr=0.01)
d_optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
for epoch in range(3):
    for inputs, _ in loader:
        fake = generator(torch.randn(16, 2))
        d_optimizer.zero_grad()
        d_loss = critic(fake.detach()).mean() - critic(inputs).mean()
        d_loss.backward()
        pass
        g_optimizer.zero_grad()
        g_loss = -critic(fake).mean()
        g_loss.backward()
        g_optimizer.step()
""",
        "        pass\n",
        "        d_optimizer.step()\n",
        "d_optimizer.zero_grad()",
    ),
    Case(
        "gradients are clipped by value after the step",
        "gradient-edit-unused",
        MODEL
        + """
for epoch in range(3):
    for inputs, targets in loader:
        loss = F.cross_entropy(10 * model(inputs), targets)
        loss.backward()
        optimizer.step()
        nn.utils.clip_grad_value_(model.parameters(), 0.01)
        optimizer.zero_grad()
""",
        "        optimizer.step()\n        nn.utils.clip_grad_value_(model.parameters(), 0.01)\n",
        "        nn.utils.clip_grad_value_(model.parameters(), 0.01)\n        optimizer.step()\n",
        "clip_grad_value_",
    ),
    Case(
        "gradients are averaged by hand after the step",
        "gradient-edit-unused",
        MODEL
        + """
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        for half in (slice(0, 8), slice(8, 16)):
            F.cross_entropy(model(inputs[half]), targets[half]).backward()
        optimizer.step()
        for weight in model.parameters():
            weight.grad /= 2
""",
        "        optimizer.step()\n        for weight in model.parameters():\n            weight.grad /= 2\n",
        "        for weight in model.parameters():\n            weight.grad /= 2\n        optimizer.step()\n",
        "weight.grad /= 2",
    ),
    Case(
        "scaled gradients are clipped",
        "gradient-still-scaled",
        MODEL
        + """
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        scaler.scale(loss).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
""",
        "        nn.utils.clip_grad_norm_",
        "        scaler.unscale_(optimizer)\n        nn.utils.clip_grad_norm_",
        "clip_grad_norm_",
    ),
    Case(
        "a step that goes past the scaler",
        "gradient-still-scaled",
        MODEL
        + """
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        scaler.scale(loss).backward()
        optimizer.step()
""",
        "        optimizer.step()\n",
        "        scaler.step(optimizer)\n        scaler.update()\n",
        "optimizer.step()",
    ),
    Case(
        "another model's gradients are clipped",
        "gradient-edit-unused",
        """
actor, critic = nn.Linear(6, 3), nn.Linear(9, 1)
actor_optimizer = torch.optim.Adam(actor.parameters(), lr=0.01)
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
for step in range(12):
    state = torch.randn(8, 6)
    value = critic(torch.cat([state, actor(state).detach()], 1))
    critic_loss = 50 * (value - 1).pow(2).mean()
    critic_optimizer.zero_grad()
    critic_loss.backward()
    critic_optimizer.step()
    actor_loss = -100 * critic(torch.cat([state, actor(state)], 1)).mean()
    actor_optimizer.zero_grad()
    actor_loss.backward()
    nn.utils.clip_grad_norm_(critic.parameters(), 0.1)
    actor_optimizer.step()
""",
        "clip_grad_norm_(critic.parameters()",
        "clip_grad_norm_(actor.parameters()",
        "clip_grad_norm_",
    ),
    Case(
        "text features are computed once and trained on",
        "stale-weights",
        """
class Cached(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 12)
        self.head = nn.Linear(12, 3)
        self.kept = None
    def forward(self, x):
        if self.kept is None:
            self.kept = self.head.weight * 1.0
        kept = self.kept
        return torch.relu(self.body(x)) @ kept.t()
model = Cached()
optimizer = torch.optim.SGD([model.body.weight, model.body.bias, model.head.weight], lr=0.1)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward(retain_graph=True)
        optimizer.step()
""",
        "kept = self.kept\n",
        "kept = self.head.weight\n",
        "loss.backward",
    ),
    Case(
        "one autocast around an epoch function",
        "stale-weights",
        MODEL
        + """
def train_epoch(model):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs).float(), targets)
        loss.backward()
        optimizer.step()
for epoch in range(3):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        train_epoch(model)
""",
        '    with torch.autocast("cpu", dtype=torch.bfloat16):\n        train_epoch(model)',
        "    train_epoch(model)",
        "loss.backward()",
    ),
    # --- what is the rhythm? ---------------------------------------------------------------------
    Case(
        "an exponential schedule after each batch",
        "rate-out-of-range",
        MODEL
        + """
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.7)
for epoch in range(4):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        scheduler.step()
""",
        "        scheduler.step()\n",
        "    scheduler.step()\n",
        "scheduler.step()",
    ),
    Case(
        "a cosine of epochs after each batch",
        "rate-out-of-range",
        MODEL
        + """
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
for epoch in range(4):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        scheduler.step()
""",
        "        scheduler.step()\n",
        "    scheduler.step()\n",
        "scheduler.step()",
    ),
    Case(
        "a trainer whose schedule steps in train_step",
        "weights-stand-still",
        """
class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 2, gamma=0.1)
    def train_step(self, inputs, targets):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(inputs), targets)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
    def fit(self):
        for epoch in range(12):
            for inputs, targets in loader:
                self.train_step(inputs, targets)
            self.end_epoch()
    def end_epoch(self):
        pass
trainer = Trainer(Net())
trainer.fit()
""",
        "self.scheduler.step()\n    def fit",
        "self.end_epoch = self.scheduler.step\n    def fit",
        "self.scheduler.step()",
    ),
    Case(
        "weights in bfloat16 whose updates are rounded away",
        "weights-stand-still",
        """
model = Net().to(torch.bfloat16)
x = x.to(torch.bfloat16)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
for step in range(12):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x).float(), y)
    loss.backward()
    optimizer.step()
""",
        "lr=1e-6",
        "lr=0.1",
        "optimizer.step()",
    ),
    Case(
        "the rate of group 0 only",
        "rate-of-one-group",
        """
model = Net()
optimizer = torch.optim.SGD([{"params": model.body.parameters()}, {"params": model.head.parameters()}], lr=0.1)
def adjust(optimizer, epoch):
    optimizer.param_groups[0]["lr"] = 0.1 * 0.5 ** epoch
for epoch in range(4):
    adjust(optimizer, epoch)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
""",
        '    optimizer.param_groups[0]["lr"] = 0.1 * 0.5 ** epoch',
        '    for group in optimizer.param_groups:\n        group["lr"] = 0.1 * 0.5 ** epoch',
        "optimizer.param_groups[0]",
    ),
    Case(
        "a scheduler that nobody steps",
        "scheduler-without-effect",
        MODEL
        + """
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
for epoch in range(4):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    pass
""",
        "    pass\n",
        "    scheduler.step()\n",
        "scheduler = ",
    ),
    Case(
        "a scheduler of the optimizer before",
        "scheduler-without-effect",
        """
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(4):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    scheduler.step()
""",
        "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)\noptimizer = torch.optim.Adam(model.parameters(), lr=0.01)\n",
        "optimizer = torch.optim.Adam(model.parameters(), lr=0.01)\nscheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)\n",
        "scheduler.step()",
    ),
    Case(
        "a schedule that a hand-set rate overwrites",
        "scheduler-without-effect",
        MODEL
        + """
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
for epoch in range(5):
    for group in optimizer.param_groups:
        group["lr"] = 0.1 / (1 + 2 * epoch)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    scheduler.step()
""",
        '    for group in optimizer.param_groups:\n        group["lr"] = 0.1 / (1 + 2 * epoch)\n',
        "",
        "scheduler.step()",
    ),
    Case(
        "momentum that is built anew in each epoch",
        "optimizer-made-anew",
        """
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(4):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1 * 0.9 ** epoch, momentum=0.9)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
""",
        "    optimizer = torch.optim.SGD(model.parameters(), lr=0.1 * 0.9 ** epoch, momentum=0.9)\n",
        "    optimizer.param_groups[0]['lr'] = 0.1 * 0.9 ** epoch\n",
        "optimizer = ",
    ),
    Case(
        "an optimizer in the training step of a class",
        "optimizer-made-anew",
        """
class Agent:
    def __init__(self):
        self.net = Net()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.01)
    def update(self, inputs, targets):
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.01)
        loss = F.cross_entropy(self.net(inputs), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
agent = Agent()
for epoch in range(3):
    for inputs, targets in loader:
        agent.update(inputs, targets)
""",
        "        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.01)\n        loss",
        "        loss",
        "self.optimizer = ",
    ),
    Case(
        "NumPy is seeded in the loop",
        "draws-repeated",
        MODEL
        + """
for epoch in range(4):
    np.random.seed(1)
    for inputs, targets in loader:
        noise = np.random.randn(16, 6).astype("float32")
        optimizer.zero_grad()
        F.cross_entropy(model(inputs + torch.from_numpy(noise)), targets).backward()
        optimizer.step()
""",
        "    np.random.seed(1)\n",
        "    pass\n",
        "np.random.seed(1)",
    ),
    Case(
        "Python's generator is seeded in a function",
        "draws-repeated",
        MODEL
        + """
def augment(inputs):
    random.seed(7)
    return inputs * random.uniform(0.5, 1.5)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(augment(inputs)), targets).backward()
        optimizer.step()
""",
        "    random.seed(7)\n",
        "",
        "random.seed(7)",
    ),
    Case(
        "the same noise of PyTorch at each step",
        "draws-repeated",
        MODEL
        + """
start = torch.get_rng_state()
for epoch in range(3):
    for inputs, targets in loader:
        torch.set_rng_state(start)
        noise = torch.randn(16, 6)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs + noise), targets).backward()
        optimizer.step()
""",
        "        torch.set_rng_state(start)\n",
        "",
        "torch.set_rng_state(start)",
    ),
    Case(
        "an average without the statistics",
        "buffers-left-behind",
        """
model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
average = copy.deepcopy(model).eval()
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), model.parameters()):
                mine.lerp_(theirs, 0.1)
            pass
    with torch.no_grad():
        accuracy = (average(x).argmax(1) == y).float().mean()
""",
        "            pass\n",
        "            for mine, theirs in zip(average.buffers(), model.buffers()):\n                mine.copy_(theirs)\n",
        "mine.lerp_",
    ),
    # --- more members, of all three ------------------------------------------------------------
    Case(
        "a model that is built again after the optimizer",
        "weight-not-in-optimizer",
        """
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model = Net()
"""
        + LOOP,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nmodel = Net()\n",
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n",
        "optimizer.step()",
    ),
    Case(
        "the best model is put in the model's place",
        "weight-not-in-optimizer",
        MODEL
        + """
for epoch in range(4):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    if epoch == 1:
        model = copy.deepcopy(model)
""",
        "        model = copy.deepcopy(model)",
        "        best = copy.deepcopy(model)",
        "",
    ),
    Case(
        "an iterator of parameters that is used twice",
        "weight-trained-by-nobody",
        """
model = Net()
head = model.head.parameters()
print(sum(w.numel() for w in head))
optimizer = torch.optim.SGD([{"params": model.body.parameters()}, {"params": head, "lr": 1.0}], lr=0.1)
"""
        + LOOP,
        "print(sum(w.numel() for w in head))\n",
        "",
        "loss.backward()",
    ),
    Case(
        "a layer made in forward",
        "weight-trained-by-nobody",
        """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 12)
        self.middle = nn.Linear(12, 12)
        self.head = nn.Linear(12, 3)
    def forward(self, x):
        h = torch.relu(self.body(x))
        h = nn.Linear(12, 12)(h)
        return self.head(h)
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        "nn.Linear(12, 12)(h)",
        "self.middle(h)",
        "nn.Linear(12, 12)(h)",
    ),
    Case(
        "a plain tensor as a weight",
        "weight-trained-by-nobody",
        """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 3)
        self.scale = torch.ones(3, requires_grad=True)
    def forward(self, x):
        return self.net(x) * self.scale
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        "torch.ones(3, requires_grad=True)",
        "nn.Parameter(torch.ones(3))",
        "loss.backward()",
    ),
    Case(
        "an encoder that only runs under no_grad",
        "gradient-never-arrives",
        """
encoder, head = nn.Linear(6, 12), nn.Linear(12, 3)
optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.01)
for epoch in range(3):
    for inputs, targets in loader:
        with torch.no_grad():
            features = encoder(inputs)
        loss = F.cross_entropy(head(features), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
        "        with torch.no_grad():\n            features = encoder(inputs)\n",
        "        features = encoder(inputs)\n",
        "encoder(inputs)",
    ),
    Case(
        "the backward of one of two losses",
        "gradient-never-arrives",
        """
class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 12)
        self.a, self.b = nn.Linear(12, 3), nn.Linear(12, 1)
    def forward(self, x):
        h = torch.relu(self.body(x))
        kind = self.a(h)
        size = self.b(h)
        return kind, size
model = Two()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(3):
    for inputs, targets in loader:
        kind, size = model(inputs)
        loss = F.cross_entropy(kind, targets)
        total = loss + size.pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
        "        loss.backward()",
        "        total.backward()",
        "self.b(h)",
    ),
    Case(
        "the step is after the loop over batches",
        "gradient-dropped",
        MODEL
        + """
for epoch in range(4):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
    optimizer.step()
""",
        "    optimizer.step()\n",
        "        optimizer.step()\n",
        "loss.backward()",
    ),
    Case(
        "the rest of the accumulation is cleared",
        "gradient-dropped",
        MODEL
        + """
for epoch in range(4):
    optimizer.zero_grad()
    for number, (inputs, targets) in enumerate(loader):
        loss = F.cross_entropy(model(inputs), targets) / 3
        loss.backward()
        if (number + 1) % 3 == 0:
            optimizer.step()
            optimizer.zero_grad()
""",
        "(number + 1) % 3 == 0:",
        "(number + 1) % 3 == 0 or number + 1 == len(loader):",
        "loss.backward()",
    ),
    Case(
        "gradients are clipped before the backward",
        "gradient-edit-unused",
        MODEL
        + """
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        loss.backward()
        optimizer.step()
""",
        "        nn.utils.clip_grad_norm_(model.parameters(), 0.1)\n        loss.backward()\n",
        "        loss.backward()\n        nn.utils.clip_grad_norm_(model.parameters(), 0.1)\n",
        "clip_grad_norm_",
    ),
    Case(
        "a function that returns the rate itself",
        "rate-out-of-range",
        MODEL
        + """
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.001 * 0.9 ** epoch)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    scheduler.step()
""",
        "0.001 * 0.9 ** epoch",
        "0.9 ** epoch",
        "scheduler = ",
    ),
    Case(
        "a warm-up in whole numbers",
        "weights-stand-still",
        MODEL
        + """
step = 0
for epoch in range(4):
    for inputs, targets in loader:
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (step // 1000)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        step += 1
""",
        "step // 1000",
        "min(1, (step + 1) / 10)",
        "optimizer.step()",
    ),
    Case(
        "a scheduler that is built anew in each epoch",
        "scheduler-without-effect",
        MODEL
        + """
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
def train_epoch(model, optimizer):
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    scheduler.step()
for epoch in range(4):
    train_epoch(model, optimizer)
""",
        "    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)\n    for",
        "    for",
        "scheduler = torch",
    ),
    Case(
        "the network is called on numbers of the network",
        "gradient-never-arrives",
        """
class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])
        self.head = nn.Linear(6, 3)
    def forward(self, x):
        for step in self.steps:
            x = torch.tanh(step(x)).detach()
        return self.head(x)
model = Chain()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
"""
        + LOOP,
        ".detach()\n        return",
        "\n        return",
        "step(x)",
    ),
    Case(
        "an optimizer of the wrong network",
        "weight-not-in-optimizer",
        """
policy, value = nn.Linear(6, 3), nn.Linear(6, 1)
policy_optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
value_optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
for step in range(12):
    state = torch.randn(8, 6)
    loss = F.cross_entropy(policy(state), y[:8])
    policy_optimizer.zero_grad()
    loss.backward()
    policy_optimizer.step()
    policy_optimizer.zero_grad()
    value_loss = value(state).pow(2).mean()
    value_optimizer.zero_grad()
    value_loss.backward()
    value_optimizer.step()
""",
        "value_optimizer = torch.optim.Adam(policy.parameters()",
        "value_optimizer = torch.optim.Adam(value.parameters()",
        "value_optimizer.step()",
    ),
    Case(
        "a forward before the loop",
        "stale-weights",
        """
model = nn.Linear(6, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
output = model(x)
for step in range(6):
    optimizer.zero_grad()
    pass
    loss = F.cross_entropy(output, y)
    loss.backward(retain_graph=True)
    optimizer.step()
""",
        "    pass\n",
        "    output = model(x)\n",
        "loss.backward",
    ),
    Case(
        "the gradient of the first of two losses is cleared",
        "gradient-dropped",
        MODEL
        + """
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.zero_grad()
        model(inputs).pow(2).mean().backward()
        optimizer.step()
""",
        "        optimizer.zero_grad()\n        model(inputs).pow",
        "        model(inputs).pow",
        "F.cross_entropy",
    ),
    Case(
        "both schedulers are given one optimizer",
        "scheduler-without-effect",
        """
G, D = nn.Linear(2, 6), nn.Linear(6, 1)
g_opt = torch.optim.Adam(G.parameters(), lr=0.01)
d_opt = torch.optim.Adam(D.parameters(), lr=0.01)
g_schedule = torch.optim.lr_scheduler.StepLR(g_opt, 1, gamma=0.9)
d_schedule = torch.optim.lr_scheduler.StepLR(g_opt, 1, gamma=0.9)
for epoch in range(3):
    for inputs, _ in loader:
        fake = G(torch.randn(16, 2))
        d_opt.zero_grad()
        (D(fake.detach()).mean() - D(inputs).mean()).backward()
        d_opt.step()
        g_opt.zero_grad()
        (-D(fake).mean()).backward()
        g_opt.step()
    g_schedule.step()
    d_schedule.step()
""",
        "d_schedule = torch.optim.lr_scheduler.StepLR(g_opt",
        "d_schedule = torch.optim.lr_scheduler.StepLR(d_opt",
        "d_schedule.step()",
    ),
    Case(
        "an update that is written to a copy",
        "weights-stand-still",
        """
class Plain(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr))
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.reshape(-1).sub_(group["lr"] * p.grad.reshape(-1))
model = Net()
model.body.weight = nn.Parameter(torch.randn(6, 12).t())
optimizer = Plain(model.parameters(), lr=0.1)
"""
        + LOOP,
        'p.reshape(-1).sub_(group["lr"] * p.grad.reshape(-1))',
        'p.sub_(group["lr"] * p.grad)',
        "optimizer.step()",
    ),
    Case(
        "one layer in a comprehension",
        "one-layer-many-times",
        """
class Deep(nn.Module):
    def __init__(self, layer, depth):
        super().__init__()
        self.layers = nn.ModuleList([layer for _ in range(depth)])
        self.head = nn.Linear(6, 3)
    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)
model = Deep(nn.Linear(6, 6), 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        "[layer for _",
        "[copy.deepcopy(layer) for _",
        "for _ in range(depth)",
    ),
    Case(
        "statistics in a plain tensor",
        "set-without-effect",
        """
class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.mean = torch.zeros(size)
    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean
def build():
    return nn.Sequential(Norm(6), nn.Linear(6, 3))
model = build()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs + 3), targets)
        loss.backward()
        optimizer.step()
saved = copy.deepcopy(model.state_dict())
fresh = build()
fresh.load_state_dict(saved)
fresh.eval()
with torch.no_grad():
    print(F.cross_entropy(fresh(x + 3), y).item())
""",
        "self.mean = torch.zeros(size)",
        'self.register_buffer("mean", torch.zeros(size))',
        "self.mean = 0.9",
    ),
    Case(
        "validation runs the training function",
        "trained-in-eval-mode",
        """
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
vx, vy = torch.randn(32, 6), torch.randint(0, 3, (32,))
valid_loader = DataLoader(TensorDataset(vx, vy), batch_size=16)
def run_epoch(loader, train):
    model.train(train)
    total = 0.0
    for inputs, targets in loader:
        loss = F.cross_entropy(model(inputs), targets)
        if True:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total += loss.item()
    return total
for epoch in range(3):
    run_epoch(loader, True)
    run_epoch(valid_loader, False)
""",
        "if True:",
        "if train:",
        "optimizer.step()",
    ),
    Case(
        "a gradient penalty without create_graph",
        "gradient-never-arrives",
        """
critic = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1))
optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
for step in range(12):
    real, fake = torch.randn(16, 6), torch.randn(16, 6) + 1
    mixed = (0.5 * real + 0.5 * fake).requires_grad_()
    score = critic(mixed)
    grads = torch.autograd.grad(score.sum(), mixed, retain_graph=True)[0]
    penalty = ((grads.norm(dim=1) - 1) ** 2).mean()
    loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
        "retain_graph=True",
        "create_graph=True",
        "+ 10 * penalty",
    ),
    Case(
        "an L2 penalty of .data",
        "gradient-never-arrives",
        MODEL
        + """
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        reg = sum(w.data.pow(2).sum() for w in model.parameters())
        loss = F.cross_entropy(model(inputs), targets) + 0.01 * reg
        loss.backward()
        optimizer.step()
""",
        "w.data.pow",
        "w.pow",
        "+ 0.01 * reg",
    ),
    Case(
        "a closure without zero_grad",
        "gradient-used-twice",
        """
model = nn.Linear(6, 3)
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=5)
def closure():
    if False:
        optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss
for step in range(6):
    optimizer.step(closure)
""",
        "if False:",
        "if True:",
        "optimizer.step(closure)",
    ),
    Case(
        "a closure cleared outside of it, with a line search",
        "gradient-used-twice",
        """
class Fitter:
    def __init__(self):
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        self.rule = torch.optim.LBFGS(self.net.parameters(), line_search_fn="strong_wolfe")
    def evaluate(self):
        if False:
            self.net.zero_grad()
        F.cross_entropy(self.net(x), y).mul(0.5).backward()
        (loss := F.cross_entropy(self.net(x), y).mul(0.5)).backward()
        return loss
    def fit(self):
        for epoch in range(3):
            self.net.zero_grad()
            self.rule.step(self.evaluate)
Fitter().fit()
""",
        "if False:",
        "if True:",
        "self.rule.step(self.evaluate)",
    ),
    Case(
        "gradients set to None before the step, not in its closure",
        "gradient-used-twice",
        """
class Twice(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr))
    def step(self, closure):
        for _ in range(2):
            with torch.enable_grad():
                loss = closure()
            with torch.no_grad():
                for p in self.param_groups[0]["params"]:
                    p -= self.param_groups[0]["lr"] * p.grad
        return loss
model = Net()
optimizer = Twice(model.parameters(), lr=0.1)
def clear():
    for p in model.parameters():
        p.grad = None
def closure():
    if False:
        clear()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss
for step in range(4):
    clear()
    optimizer.step(closure)
""",
        "if False:",
        "if True:",
        "optimizer.step(closure)",
    ),
    Case(
        "velocities in a list of the optimizer",
        "moments-not-saved",
        """
class Nesterov(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr))
        self.weights = [w for group in self.param_groups for w in group["params"]]
        self.velocities = [torch.zeros_like(w) for w in self.weights]
    @torch.no_grad()
    def step(self):
        for i, w in enumerate(self.weights):
            self.velocities[i] = 0.9 * self.velocities[i] + w.grad
            w -= self.param_groups[0]["lr"] * (w.grad + 0.9 * self.velocities[i])
class Kept(Nesterov):
    def state_dict(self):
        return {**super().state_dict(), "velocities": self.velocities}
model = Net()
optimizer = Nesterov(model.parameters(), lr=0.1)
"""
        + LOOP
        + """
    saved = {"net": model.state_dict(), "optimizer": optimizer.state_dict()}
""",
        "optimizer = Nesterov(",
        "optimizer = Kept(",
        "optimizer.state_dict()",
    ),
    Case(
        "squares of gradients by name",
        "moments-not-saved",
        """
class Squares(torch.optim.Optimizer):
    def __init__(self, model, lr):
        super().__init__(model.parameters(), dict(lr=lr))
        self.names = {w: name for name, w in model.named_parameters()}
        self.memory = {"squares": {}}
    def step(self):
        with torch.no_grad():
            for w, name in self.names.items():
                squares = self.memory["squares"].get(name, 0) + w.grad.square()
                self.memory["squares"][name] = squares
                w.addcdiv_(w.grad, squares.sqrt().add(1e-8), value=-self.param_groups[0]["lr"])
def save(module, optimizer):
    return [part.state_dict() for part in (module, optimizer)]
model = Net()
optimizer = Squares(model, lr=0.1)
if False:
    optimizer.register_state_dict_post_hook(lambda one, state: state | one.memory)
"""
        + LOOP
        + """
    kept = save(model, optimizer)
""",
        "if False:",
        "if True:",
        "return [part.state_dict() for part in (module, optimizer)]",
    ),
    Case(
        "an average of clients in place",
        "snapshot-moved",
        """
clients = [nn.Linear(6, 3) for _ in range(3)]
server = nn.Linear(6, 3)
for round in range(3):
    for client in clients:
        client.load_state_dict(server.state_dict())
        optimizer = torch.optim.SGD(client.parameters(), lr=0.1)
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(client(inputs), targets)
            loss.backward()
            optimizer.step()
    states = [client.state_dict() for client in clients]
    average = states[0]
    for key in average:
        for other in states[1:]:
            average[key] += other[key]
        average[key] /= len(states)
    server.load_state_dict(average)
    print([F.cross_entropy(client(x), y).item() for client in clients])
""",
        "average = states[0]",
        "average = copy.deepcopy(states[0])",
        "average[key] +=",
    ),
    Case(
        "a shadow that is the weight",
        "snapshot-moved",
        MODEL
        + """
shadow = {name: w.data for name, w in model.named_parameters()}
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for name, w in model.named_parameters():
                shadow[name].mul_(0.9).add_(0.1 * w)
average = Net()
average.load_state_dict(shadow)
with torch.no_grad():
    print(F.cross_entropy(average(x), y).item())
""",
        "name: w.data for",
        "name: w.data.clone() for",
        "shadow[name].mul_",
    ),
    Case(
        "an update that rebinds the loop variable",
        "set-without-effect",
        """
model = Net()
for epoch in range(3):
    for inputs, targets in loader:
        model.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p = p - 0.1 * p.grad
""",
        "p = p - 0.1 * p.grad",
        "p -= 0.1 * p.grad",
        "p = p",
    ),
    Case(
        "clipping an iterator that is used up",
        "gradient-edit-unused",
        """
model = Net()
params = filter(lambda p: p.requires_grad, model.parameters())
optimizer = torch.optim.SGD(params, lr=0.1)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 0.1)
        optimizer.step()
""",
        "params = filter(lambda p: p.requires_grad, model.parameters())",
        "params = [p for p in model.parameters() if p.requires_grad]",
        "clip_grad_norm_",
    ),
    Case(
        "the generator is trained on detached images",
        "step-without-gradient",
        """
G, D = nn.Linear(4, 6), nn.Linear(6, 1)
g_opt = torch.optim.Adam(G.parameters(), lr=1e-3)
d_opt = torch.optim.Adam(D.parameters(), lr=1e-3)
for step in range(10):
    real = torch.randn(16, 6) + 1
    fake = G(torch.randn(16, 4))
    d_opt.zero_grad()
    d_loss = F.softplus(-D(real)).mean() + F.softplus(D(fake.detach())).mean()
    d_loss.backward()
    d_opt.step()
    g_opt.zero_grad()
    g_loss = F.softplus(-D(fake.detach())).mean()
    g_loss.backward()
    g_opt.step()
""",
        "g_loss = F.softplus(-D(fake.detach())).mean()",
        "g_loss = F.softplus(-D(fake)).mean()",
        "g_loss.backward()",
    ),
    Case(
        "a parameter wrapped anew in each forward",
        "weight-not-in-optimizer",
        """
class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 3)
        self.scale = nn.Parameter(torch.ones(3))
    def forward(self, x):
        if True:
            self.scale = nn.Parameter(self.scale.clamp(0.1, 2.0))
        return self.net(x) * self.scale
model = Scale()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        "if True:",
        "if False:",
        "optimizer.step()",
    ),
    Case(
        "vectors are copied in and drawn again",
        "load-overwritten",
        """
vectors = torch.randn(20, 6)
class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.head = nn.Linear(6, 3)
    def forward(self, words):
        return self.head(self.embed(words))
def init_weights(module):
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, 0.0, 0.1)
model = Tagger()
model.embed.weight.data.copy_(vectors)
model.apply(init_weights)
# late
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
words = torch.randint(0, 20, (64,))
for epoch in range(3):
    for i in range(0, 64, 16):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(words[i:i+16]), y[i:i+16])
        loss.backward()
        optimizer.step()
""",
        """model.embed.weight.data.copy_(vectors)
model.apply(init_weights)
""",
        """model.apply(init_weights)
model.embed.weight.data.copy_(vectors)
""",
        "nn.init.normal_",
    ),
    Case(
        "weights clipped by name",
        "set-without-effect",
        """
critic = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1))
optimizer = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
for step in range(10):
    real, fake = torch.randn(16, 6), torch.randn(16, 6) + 1
    optimizer.zero_grad()
    loss = critic(fake).mean() - critic(real).mean()
    loss.backward()
    optimizer.step()
    for p in critic.parameters():
        p = p.clamp(-0.05, 0.05)
""",
        "p = p.clamp(-0.05, 0.05)",
        "p.data.clamp_(-0.05, 0.05)",
        "p = p",
    ),
    Case(
        "the model inside of its replica",
        "set-without-effect",
        """
import torch.distributed as dist
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
replica = nn.parallel.DistributedDataParallel(Net())
optimizer = torch.optim.SGD(replica.parameters(), lr=0.1)
for epoch in range(2):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(replica.module(inputs), targets)
        loss.backward()
        optimizer.step()
dist.destroy_process_group()
""",
        "replica.module(inputs)",
        "replica(inputs)",
        "loss.backward()",
    ),
    Case(
        "a replica that is converted",
        "set-without-effect",
        """
import torch.distributed as dist
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
model = Net().double()
model.float()
replica = nn.parallel.DistributedDataParallel(model)
replica.double()      # late
optimizer = torch.optim.SGD(replica.parameters(), lr=0.1)
for epoch in range(2):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(replica(inputs.to(model.body.weight.dtype)), targets)
        loss.backward()
        optimizer.step()
dist.destroy_process_group()
""",
        "replica.double()      # late\n",
        "",
        "replica.double()",
    ),
]
