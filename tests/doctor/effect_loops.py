"""Training scripts with one fault each about evaluation, effects, copies and checkpoints.

Nobody has reported these: they are other members of the families that the doctor's questions are
about. A line that ends with ``# wrong`` is the fault; `Case.right` has a line for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD = """
import copy
import random
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
X, Y = torch.randn(120, 8), torch.randint(0, 3, (120,))
VX, VY = torch.randn(40, 8), torch.randint(0, 3, (40,))
"""
LOOP = """
def train(model, optimizer, epochs=3):
    for epoch in range(epochs):
        model.train()
        for i in range(0, 120, 40):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X[i:i + 40]), Y[i:i + 40])
            loss.backward()
            optimizer.step()
        evaluate(model)

def evaluate(model):
    model.eval()
    with torch.no_grad():
        return (model(VX).argmax(1) == VY).float().mean().item()

def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
"""

MARK = "  # wrong"


@dataclass(frozen=True)
class Case:
    """One script: the code that finds its fault, at the lines that are wrong or at line ``at``."""

    name: str
    code: str
    body: str
    right: tuple[str, ...]
    at: str = ""
    head: str = HEAD + LOOP

    @property
    def bug(self) -> str:
        """Return the script with its fault."""
        return (self.head + self.body).replace(MARK, "")

    @property
    def lines(self) -> list[int]:
        """Return the numbers of the lines at which the fault may be reported."""
        marked = (self.head + self.body).splitlines()
        sign = self.at or MARK
        return [number for number, line in enumerate(marked, 1) if sign in line]

    @property
    def corrected(self) -> str:
        """Return the script without its fault."""
        right, lines = iter(self.right), []
        for line in (self.head + self.body).splitlines():
            indent = line[: len(line) - len(line.lstrip())]
            lines.append(indent + next(right) if line.endswith(MARK) else line)
        return "\n".join(lines) + "\n"


CASES = [
    Case(
        "dropout_in_forward",
        "mask-in-evaluation",
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)
    def forward(self, x):
        x = nn.Dropout(0.5)(F.relu(self.a(x)))  # wrong
        return self.b(x)
model = Net()
train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
""",
        ("x = F.dropout(F.relu(self.a(x)), 0.5, self.training)",),
    ),
    Case(
        "sdpa_dropout_p",
        "mask-in-evaluation",
        """
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 3)
    def forward(self, x):
        q, k, v = self.qkv(x.view(-1, 2, 4)).chunk(3, -1)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1)  # wrong
        return self.out(y).mean(1)
model = Attention()
train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
""",
        ("y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1 if self.training else 0.0)",),
    ),
    Case(
        "drop_path_by_hand",
        "mask-in-evaluation",
        """
class DropPath(nn.Module):
    def forward(self, x):
        if True:  # wrong
            mask = (torch.rand(x.shape[0], 1) > 0.2).float()
            x = x * mask / 0.8
        return x
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), DropPath(), nn.Linear(16, 3))
train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
""",
        ("if self.training:",),
        at="mask = (torch.rand",
    ),
    Case(
        "attribute_dropout_list",
        "mask-in-evaluation",
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 16), nn.Linear(16, 3)])
        self.drops = [nn.Dropout(0.3)]  # wrong
    def forward(self, x):
        return self.layers[1](self.drops[0](F.relu(self.layers[0](x))))
model = Net()
train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
""",
        ("self.drops = nn.ModuleList([nn.Dropout(0.3)])",),
        at="self.drops[0](",
    ),
    Case(
        "train_overridden",
        "training-mode-without-gradient",
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 3))
    def train(self, mode=True):
        self.training = mode  # wrong
        return self
    def forward(self, x):
        return self.body(x)
model = Net()
train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
""",
        ("super().train(mode)",),
        at="return (model(VX)",
    ),
    Case(
        "eval_without_parentheses",
        "set-without-effect",
        """
model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 3))
optimizer = torch.optim.Adam(model.parameters())
for epoch in range(3):
    model.train()
    for i in range(0, 120, 40):
        optimizer.zero_grad()
        F.cross_entropy(model(X[i:i + 40]), Y[i:i + 40]).backward()
        optimizer.step()
    model.eval  # wrong
    with torch.no_grad():
        print((model(VX).argmax(1) == VY).float().mean())
""",
        ("model.eval()",),
    ),
    Case(
        "no_grad_bare",
        "set-without-effect",
        """
model = mlp()
optimizer = torch.optim.Adam(model.parameters())
def check():
    torch.no_grad()  # wrong
    return F.cross_entropy(model(VX), VY).item()
for epoch in range(4):
    optimizer.zero_grad()
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
    check()
""",
        ("pass",),
    ),
    Case(
        "detach_ignored",
        "result-ignored",
        """
rnn, head = nn.GRUCell(8, 16), nn.Linear(16, 3)
optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()])
h = torch.zeros(40, 16)
for step in range(3):
    optimizer.zero_grad()
    h = rnn(X[40 * step:40 * step + 40], h)
    loss = F.cross_entropy(head(h), Y[40 * step:40 * step + 40])
    loss.backward(retain_graph=True)
    h.detach()  # wrong
    h = torch.zeros(40, 16)
    optimizer.step()
""",
        ("h = h.detach()",),
    ),
    Case(
        "clamp_ignored",
        "result-ignored",
        """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
    for p in model.parameters():
        p.data.clamp(-0.1, 0.1)  # wrong
""",
        ("p.data.clamp_(-0.1, 0.1)",),
    ),
    Case(
        "require_grad_typo",
        "set-without-effect",
        """
model = mlp()
for p in model[0].parameters():
    p.require_grad = False  # wrong
train(model, torch.optim.SGD(model.parameters(), lr=0.1))
""",
        ("p.requires_grad = False",),
    ),
    Case(
        "module_flag_in_a_loop",
        "set-without-effect",
        """
model = mlp()
for layer in model[:1]:
    layer.requires_grad = False  # wrong
train(model, torch.optim.SGD(model.parameters(), lr=0.1))
""",
        ("layer.requires_grad_(False)",),
    ),
    Case(
        "load_module_prefix",
        "load-without-effect",
        """
class Wrap(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module
    def forward(self, x):
        return self.module(x)
old = Wrap(mlp())
train(old, torch.optim.Adam(old.parameters(), lr=1e-2))
torch.save(old.state_dict(), "a.pt")
new = mlp()
state = torch.load("a.pt")
new.load_state_dict(state, strict=False)  # wrong
train(new, torch.optim.Adam(new.parameters(), lr=1e-3))
""",
        (
            "new.load_state_dict({k.removeprefix('module.'): v for k, v in state.items()}, strict=False)",
        ),
    ),
    Case(
        "load_partly_another_prefix",
        "load-without-effect",
        """
class Old(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.fc = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16)), nn.Linear(16, 3)
    def forward(self, x):
        return self.fc(self.encoder(x))
class New(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.fc = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16)), nn.Linear(16, 3)
    def forward(self, x):
        return self.fc(self.backbone(x))
old = Old()
train(old, torch.optim.Adam(old.parameters(), lr=1e-2))
state = copy.deepcopy(old.state_dict())
new = New()
new.load_state_dict(state, strict=False)  # wrong
train(new, torch.optim.Adam(new.parameters(), lr=1e-3))
""",
        (
            "new.load_state_dict({k.replace('encoder', 'backbone'): v for k, v in state.items()}, strict=False)",
        ),
    ),
    Case(
        "init_after_load",
        "load-overwritten",
        """
def init(m):
    if isinstance(m, nn.Linear):
        nn.init.xavier_uniform_(m.weight)
old = mlp()
train(old, torch.optim.Adam(old.parameters(), lr=1e-2))
torch.save(old.state_dict(), "a.pt")
new = mlp()
new.load_state_dict(torch.load("a.pt"))
new.apply(init)  # wrong
train(new, torch.optim.Adam(new.parameters(), lr=1e-3))
""",
        ("pass",),
        at="xavier_uniform_",
    ),
    Case(
        "rebuilt_after_load",
        "load-overwritten",
        """
old = mlp()
train(old, torch.optim.Adam(old.parameters(), lr=1e-2))
torch.save(old.state_dict(), "a.pt")
net = mlp()
net.load_state_dict(torch.load("a.pt"))
net = mlp()  # wrong
train(net, torch.optim.Adam(net.parameters(), lr=1e-3))
""",
        ("pass",),
    ),
    Case(
        "codebook_drawn_again",
        "load-overwritten",
        """
class VQ(nn.Module):
    def __init__(self):
        super().__init__()
        self.ready = False  # wrong
        self.encode, self.decode = nn.Linear(8, 4), nn.Linear(4, 3)
        self.register_buffer("codes", torch.zeros(5, 4))
    def forward(self, x):
        z = self.encode(x)
        if not self.ready:
            self.codes.copy_(z[torch.randperm(len(z))[:5]].detach())
            self.ready = True  # wrong
        q = self.codes[torch.cdist(z, self.codes).argmin(1)]
        return self.decode(z + (q - z).detach())
old = VQ()
train(old, torch.optim.Adam(old.parameters(), lr=1e-2))
state = copy.deepcopy(old.state_dict())
new = VQ()
new.load_state_dict(state)
train(new, torch.optim.Adam(new.parameters(), lr=1e-3))
""",
        ("self.register_buffer('ready', torch.tensor(False))", "self.ready.fill_(True)"),
        at="self.codes.copy_",
    ),
    Case(
        "freeze_then_thaw_all",
        "freeze-undone",
        """
model = mlp()
for p in model[0].parameters():
    p.requires_grad = False
model.requires_grad_(True)  # wrong
train(model, torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-2))
""",
        ("pass",),
    ),
    Case(
        "thawed_elsewhere_after_an_evaluation",
        "freeze-undone",
        """
def freeze(model):
    model[0].requires_grad_(False)
def prepare(model):
    model.requires_grad_(True)  # wrong
model = mlp()
freeze(model)
evaluate(model)
prepare(model)
train(model, torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-2))
""",
        ("pass",),
    ),
    Case(
        "frozen_layer_replaced",
        "freeze-undone",
        """
model = mlp()
model[0].requires_grad_(False)
model[0] = nn.Linear(8, 16)  # wrong
train(model, torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2))
""",
        ("pass",),
    ),
    Case(
        "ema_state_loaded",
        "changed-to-evaluate",
        """
model = mlp(); ema = copy.deepcopy(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    model.train()
    for i in range(0, 120, 40):
        optimizer.zero_grad()
        F.cross_entropy(model(X[i:i + 40]), Y[i:i + 40]).backward()
        optimizer.step()
        with torch.no_grad():
            for a, b in zip(ema.parameters(), model.parameters()):
                a.lerp_(b, 0.1)
    kept = copy.deepcopy(model.state_dict())
    model.load_state_dict(ema.state_dict())
    evaluate(model)
    pass  # wrong
""",
        ("model.load_state_dict(kept)",),
        at="model.load_state_dict(ema",
    ),
    Case(
        "ema_apply_shadow_class",
        "changed-to-evaluate",
        """
class EMA:
    def __init__(self, model, decay):
        self.model, self.decay = model, decay
        self.shadow = {n: p.data.clone() for n, p in model.named_parameters()}
        self.backup = {}
    def update(self):
        for n, p in self.model.named_parameters():
            self.shadow[n] = self.decay * self.shadow[n] + (1 - self.decay) * p.data
    def apply_shadow(self):
        for n, p in self.model.named_parameters():
            self.backup[n] = p.data
            p.data = self.shadow[n]
    def restore(self):
        for n, p in self.model.named_parameters():
            p.data = self.backup[n]
class Trainer:
    def __init__(self):
        self.model = mlp()
        self.ema = EMA(self.model, 0.9)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
    def fit(self):
        for epoch in range(4):
            self.model.train()
            for i in range(0, 120, 40):
                self.optimizer.zero_grad()
                F.cross_entropy(self.model(X[i:i + 40]), Y[i:i + 40]).backward()
                self.optimizer.step()
                self.ema.update()
            self.ema.apply_shadow()
            evaluate(self.model)
            pass  # wrong
Trainer().fit()
""",
        ("self.ema.restore()",),
        at="self.ema.apply_shadow()",
    ),
    Case(
        "half_to_evaluate",
        "changed-to-evaluate",
        """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    model.train()
    for i in range(0, 120, 40):
        optimizer.zero_grad()
        F.cross_entropy(model(X[i:i + 40]), Y[i:i + 40]).backward()
        optimizer.step()
    net = model  # wrong
    for p in net.parameters():
        p.data = (p.data * 16).round() / 16
    evaluate(net)
""",
        ("net = copy.deepcopy(model)",),
        at="p.data = (p.data",
    ),
    Case(
        "validation_names_in_a_class",
        "trained-on-validation-data",
        """
class Trainer:
    def __init__(self):
        self.model = mlp()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
    def fit(self):
        inputs, labels = X[:40], Y[:40]
        for step in range(12):
            if step % 3 == 0:
                self.model.eval()
                with torch.no_grad():
                    inputs, labels = VX[step:step + 20], VY[step:step + 20]  # wrong
                    F.cross_entropy(self.model(inputs), labels)  # wrong
                self.model.train()
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(inputs), labels)
            loss.backward()
            self.optimizer.step()
            start = 40 * (step % 3)
            inputs, labels = X[start:start + 40], Y[start:start + 40]
Trainer().fit()
""",
        ("vi, vl = VX[step:step + 20], VY[step:step + 20]", "F.cross_entropy(self.model(vi), vl)"),
    ),
    Case(
        "validation_loop_names",
        "trained-on-validation-data",
        """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train_batches = list(zip(X.split(40), Y.split(40)))
valid_batches = list(zip(VX.split(20), VY.split(20)))
stream = iter(train_batches * 10)
data, target = next(stream)
for step in range(15):
    optimizer.zero_grad()
    output = model(data)
    F.cross_entropy(output, target).backward()
    optimizer.step()
    data, target = next(stream)
    if step % 5 == 4:
        model.eval()
        with torch.no_grad():
            for data, target in valid_batches:  # wrong
                model(data)  # wrong
        model.train()
""",
        ("for vdata, vtarget in valid_batches:", "model(vdata)"),
    ),
    Case(
        "best_attribute",
        "kept-by-reference",
        """
class Trainer:
    def __init__(self):
        self.model, self.best_model, self.best = mlp(), None, 0.0
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)
    def fit(self):
        for epoch in range(5):
            train(self.model, self.optimizer, 1)
            accuracy = evaluate(self.model)
            if accuracy >= self.best or True:
                self.best = accuracy
                self.best_model = self.model  # wrong
            if epoch > 2:
                break
        train(self.model, self.optimizer, 1)
        return evaluate(self.best_model)
print(Trainer().fit())
""",
        ("self.best_model = copy.deepcopy(self.model)",),
    ),
    Case(
        "snapshots_in_a_list",
        "kept-by-reference",
        """
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
history = []
for epoch in range(5):
    train(model, optimizer, 1)
    history.append(model.state_dict())  # wrong
""",
        ("history.append(copy.deepcopy(model.state_dict()))",),
    ),
    Case(
        "weights_in_a_list",
        "kept-by-reference",
        """
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
history = []
for epoch in range(5):
    train(model, optimizer, 1)
    history.append(model[0].weight.detach().numpy())  # wrong
""",
        ("history.append(model[0].weight.detach().numpy().copy())",),
    ),
    Case(
        "ensemble_of_one",
        "kept-by-reference",
        """
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
ensemble = []
for epoch in range(5):
    train(model, optimizer, 1)
    if epoch > 0:
        ensemble.append(model)  # wrong
print(sum(evaluate(one) for one in ensemble))
""",
        ("ensemble.append(copy.deepcopy(model))",),
    ),
    Case(
        "checkpoints_in_a_dict",
        "kept-by-reference",
        """
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
checkpoints = {}
for epoch in range(5):
    train(model, optimizer, 1)
    checkpoints[epoch] = {k: v for k, v in model.state_dict().items()}  # wrong
""",
        ("checkpoints[epoch] = {k: v.clone() for k, v in model.state_dict().items()}",),
    ),
    Case(
        "states_in_a_buffer",
        "kept-by-reference",
        """
policy = mlp()
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
state, buffer = torch.zeros(8), []
for step in range(12):
    with torch.no_grad():
        action = policy(state).argmax()
    state += 0.1 * torch.randn(8)
    buffer.append(state)  # wrong
    if len(buffer) > 4:
        batch = torch.stack(random.sample(buffer, 4))
        optimizer.zero_grad()
        policy(batch).pow(2).mean().backward()
        optimizer.step()
""",
        ("buffer.append(state.clone())",),
    ),
    Case(
        "start_attribute",
        "snapshot-moved",
        """
class Search:
    def __init__(self):
        self.model = mlp()
        self.start = self.model.state_dict()  # wrong
    def run(self):
        for rate in (1e-2, 1e-1):
            self.model.load_state_dict(self.start)
            train(self.model, torch.optim.SGD(self.model.parameters(), lr=rate), 1)
Search().run()
""",
        ("self.start = copy.deepcopy(self.model.state_dict())",),
        at="load_state_dict(self.start)",
    ),
    Case(
        "start_shallow_dict",
        "snapshot-moved",
        """
model = mlp()
start = dict(model.state_dict())  # wrong
for rate in (1e-2, 1e-1):
    model.load_state_dict(start)
    train(model, torch.optim.SGD(model.parameters(), lr=rate), 1)
""",
        ("start = copy.deepcopy(model.state_dict())",),
        at="load_state_dict(start)",
    ),
    Case(
        "start_list_of_data",
        "kept-by-reference",
        """
model = mlp()
before = [p.data for p in model.parameters()]  # wrong
train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
print(sum((a - b).norm() for a, b in zip(before, model.parameters())))
""",
        ("before = [p.data.clone() for p in model.parameters()]",),
    ),
    Case(
        "target_attribute",
        "one-module-two-names",
        """
class Agent:
    def __init__(self):
        self.policy = mlp()
        self.target = self.policy  # wrong
        self.optimizer = torch.optim.Adam(self.policy.parameters())
    def learn(self):
        for step in range(6):
            with torch.no_grad():
                wanted = self.target(VX).max(1).values
            loss = (self.policy(X[:40]).max(1).values - wanted).pow(2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
Agent().learn()
""",
        ("self.target = copy.deepcopy(self.policy)",),
        at="(self.policy(X[:40])",
    ),
    Case(
        "data_in_the_loop",
        "data-changed-in-place",
        """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    for i in range(0, 120, 40):
        x, y = X[i:i + 40], Y[i:i + 40]
        x += 0.1 * torch.randn(40, 8)  # wrong
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
""",
        ("x = x + 0.1 * torch.randn(40, 8)",),
    ),
    Case(
        "data_list_dataset",
        "data-changed-in-place",
        """
from torch.utils.data import DataLoader, Dataset
class Items(Dataset):
    def __init__(self):
        self.items = [X[i].clone() for i in range(60)]
    def __len__(self):
        return 60
    def __getitem__(self, index):
        x = self.items[index]
        x.sub_(0.5).div_(2)  # wrong
        return x, Y[index]
DATA = Items()
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    for x, y in DataLoader(DATA, batch_size=20, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
""",
        ("x = (x - 0.5) / 2",),
    ),
    Case(
        "moments_groups_swapped",
        "moments-of-another-weight",
        """
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
def optimizer_of(model, first, second):
    return torch.optim.Adam([{"params": model[first].parameters()}, {"params": model[second].parameters(), "lr": 1e-3}], lr=1e-2)
optimizer = optimizer_of(model, 0, 2)
train(model, optimizer)
torch.save({"m": model.state_dict(), "o": optimizer.state_dict()}, "c.pt")
state = torch.load("c.pt")
model2 = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
model2.load_state_dict(state["m"])
optimizer2 = optimizer_of(model2, 2, 0)  # wrong
optimizer2.load_state_dict(state["o"])
train(model2, optimizer2)
""",
        ("optimizer2 = optimizer_of(model2, 0, 2)",),
        at="optimizer2.load_state_dict",
    ),
    Case(
        "moments_sorted_names",
        "moments-of-another-weight",
        """
class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.value, self.actor = nn.Linear(8, 3, bias=False), nn.Linear(8, 3, bias=False)
    def forward(self, x):
        return self.value(x) + 3 * self.actor(x)
model = Agent()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
train(model, optimizer)
saved = copy.deepcopy({"m": model.state_dict(), "o": optimizer.state_dict()})
fresh = Agent()
weights = [p for _, p in sorted(fresh.named_parameters())]  # wrong
other = torch.optim.Adam(weights, lr=1e-2)
fresh.load_state_dict(saved["m"])
other.load_state_dict(saved["o"])
train(fresh, other)
""",
        ("weights = [p for _, p in fresh.named_parameters()]",),
        at="other.load_state_dict",
    ),
    Case(
        "teacher_batchnorm",
        "statistics-moved-without-gradient",
        """
teacher = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
student = mlp()
optimizer = torch.optim.Adam(student.parameters())
pass  # wrong
for step in range(6):
    with torch.no_grad():
        wanted = teacher(X)
    optimizer.zero_grad()
    F.mse_loss(student(X), wanted).backward()
    optimizer.step()
""",
        ("teacher.eval()",),
        at="wanted = teacher(X)",
    ),
    Case(
        "eval_method_overwritten",
        "set-without-effect",
        """
model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 3))
optimizer = torch.optim.Adam(model.parameters())
for epoch in range(3):
    model.train()
    optimizer.zero_grad()
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
model.train = False  # wrong
with torch.no_grad():
    print(model(VX).argmax(1))
""",
        ("model.eval()",),
    ),
    Case(
        "losses_keep_graphs",
        "graph-kept",
        """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses = []
for step in range(12):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X), Y)
    loss.backward()
    optimizer.step()
    losses.append(loss)  # wrong
print(sum(losses) / len(losses))
""",
        ("losses.append(loss.item())",),
    ),
    Case(
        "trained_in_eval_throughout",
        "trained-in-eval-mode",
        """
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3))
model.eval()  # wrong
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X), Y)
    loss.backward()
    optimizer.step()
""",
        ("pass",),
        at="loss = F.cross_entropy",
    ),
    Case(
        "one_layer_repeated",
        "one-layer-many-times",
        """
class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(8, 8)] * 4)  # wrong
        self.head = nn.Linear(8, 3)
    def forward(self, x):
        for block in self.blocks:
            x = F.relu(block(x))
        return self.head(x)
model = Deep()
train(model, torch.optim.Adam(model.parameters()))
""",
        ("self.blocks = nn.ModuleList([nn.Linear(8, 8) for _ in range(4)])",),
    ),
]
