"""Sane training scripts that look like a reported fault; their parts are those of `reported_loops`."""

from __future__ import annotations

from textwrap import indent

from tests.doctor.reported_loops import BATCHES, LOOP

NET = """
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
STEP = """
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
"""
INNER = indent(STEP, "    ")
SGD = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"


def plateau(mode: str, name: str, values: str, metric: str) -> str:
    """Write a script whose scheduler waits for a metric with these values."""
    return f"""{NET}
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "{mode}", patience=1)
for {name} in {values}:{BATCHES}
    scheduler.step({metric})
"""


RISES, FALLS = "[1.0, 1.1, 1.2, 1.3]", "[0.9, 0.8, 0.7, 0.6]"
QUIET = {
    "the negative of a loss should be high": plateau("max", "val_loss", RISES, "-val_loss"),
    "what an accuracy lacks should be low": plateau("min", "accuracy", FALLS, "1 - accuracy"),
    "a score that should be low": plateau("min", "fid_score", RISES, "fid_score"),
    "an accumulated loss": plateau("min", "accumulated", RISES, "accumulated"),
    "a loss at a recall": plateau("min", "recall", RISES, "float(recall * 2)"),
    "a schedule in steps of which each is five of the optimizer": """
critic, maker = nn.Linear(8, 1), nn.Linear(4, 8)
optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
n_steps = 40
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=n_steps)
for step in range(6):
    for _ in range(5):
        optimizer.zero_grad()
        (critic(maker(torch.randn(16, 4)).detach()).mean() - critic(X[:16]).mean()).backward()
        optimizer.step()
    scheduler.step()
""",
    "a schedule that stops early": NET
    + """
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60)
for epoch in range(8):"""
    + BATCHES
    + """    scheduler.step()
""",
    "all data are one batch": NET
    + """
whole = DataLoader(TensorDataset(X, Y), batch_size=96)
for step in range(12):
    x, y = next(iter(whole))"""
    + STEP,
    "a draw that rarely changes the batch": NET
    + """
def augment(x):
    return x.flip(1) if torch.rand(()) < 0.0001 else x + 0
for step in range(12):
    x, y = augment(X), Y"""
    + STEP,
    "counters are reset by apply": """
class Counts(nn.Linear):
    seen = 0
    def forward(self, x):
        self.seen += 1
        return super().forward(x)
def reset(module):
    if hasattr(module, "seen"):
        module.seen = 0
model = Counts(8, 3)
model.apply(reset)
"""
    + SGD
    + LOOP,
    "names are collected by apply": NET
    + """
kinds = []
def prefix_of(module):
    kinds.append(type(module).__name__)
model.apply(prefix_of)
"""
    + LOOP,
    "an initialisation that is there already": NET
    + """
def init(module):
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
model.apply(init)
model.apply(init)
"""
    + LOOP,
    "a model loads while it is made": """
class Net(nn.Linear):
    def __init__(self, state):
        super().__init__(8, 3)
        super().load_state_dict(state)
model = Net(nn.Linear(8, 3).state_dict())
"""
    + SGD
    + LOOP,
    "a model that a cache keeps": """
import functools
@functools.cache
def get_model():
    return nn.Linear(8, 3)
get_model().load_state_dict(nn.Linear(8, 3).state_dict())
model = get_model()
"""
    + SGD
    + LOOP,
    "a part of the loss has the factor zero": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.side, self.head = nn.Linear(8, 16), nn.Linear(16, 1), nn.Linear(16, 3)
    def forward(self, x):
        hidden = torch.relu(self.body(x))
        side = self.side(hidden)
        return self.head(hidden), side
model, factor = Net(), 0.0
"""
    + SGD
    + """
for epoch in range(3):
    for x, y in loader:
        optimizer.zero_grad()
        logits, side = model(x)
        loss = F.cross_entropy(logits, y) + factor * side.pow(2).mean()
        loss.backward()
        optimizer.step()
""",
    "weights that are unused are in the loss": """
model = nn.ModuleDict({"body": nn.Linear(8, 3), "spare": nn.Linear(8, 3)})
"""
    + SGD
    + """
for epoch in range(3):
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model["body"](x), y) + 0 * sum(w.sum() for w in model.parameters())
        loss.backward()
        optimizer.step()
""",
    "two views for the first of three heads": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(8, 3) for _ in range(3))
    def forward(self, x):
        return self.heads[0](x) + self.heads[0](x + 0.1 * torch.randn_like(x))
model = Net()
"""
    + SGD
    + LOOP,
    "a second name, and then a copy is changed": """
class Net(nn.Linear):
    def forward(self, x):
        raw = x
        x = x.clone()
        x.sub_(x.mean())
        return super().forward(x + raw)
model = Net(8, 3)
"""
    + SGD
    + LOOP,
    "a part is thawed to look at its gradient": """
body, head = nn.Linear(8, 16), nn.Linear(16, 3)
model = nn.Sequential(body, nn.ReLU(), head)
body.requires_grad_(False)
optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
for epoch in range(4):"""
    + BATCHES
    + """    body.requires_grad_(True)
    F.cross_entropy(model(X), Y).backward()
    print(body.weight.grad.norm())
    body.requires_grad_(False)
    model.zero_grad()
""",
    "the accuracy on what is trained": NET
    + """
held = DataLoader(TensorDataset(torch.randn(32, 8), torch.randint(0, 3, (32,))), batch_size=16)
from torch.utils.data import Subset
few = DataLoader(Subset(loader.dataset, range(32)), batch_size=16)
for epoch in range(4):"""
    + BATCHES
    + """    with torch.no_grad():
        for part in (few, held):
            for x, y in part:
                print(F.cross_entropy(model(x), y).item())
""",
    "a part of the data is trained on first": NET
    + """
from torch.utils.data import Subset
whole = loader
for part in (Subset(whole.dataset, range(32)), Subset(whole.dataset, range(64)), whole.dataset):
    loader = DataLoader(part, batch_size=16)
    for epoch in range(2):
        for x, y in loader:"""
    + indent(INNER, "    ")
    + """    with torch.no_grad():
        for x, y in DataLoader(Subset(whole.dataset, range(96)), batch_size=32):
            print(F.cross_entropy(model(x), y).item())
""",
    "a setting of both parts is set before each": NET
    + """
from torch.utils.data import random_split
data = TensorDataset(X, Y)
data.noise = 0.1
first, second = random_split(data, [64, 32])
for epoch in range(3):
    first.dataset.noise = 0.1
    for x, y in DataLoader(first, batch_size=16, shuffle=True):
        x = x + data.noise * torch.randn_like(x)"""
    + INNER
    + """    second.dataset.noise = 0.0
    with torch.no_grad():
        for x, y in DataLoader(second, batch_size=16):
            print(F.cross_entropy(model(x), y).item())
""",
    "a loader without shuffle and one with a generator": NET
    + """
generator = torch.Generator().manual_seed(1)
mixed = DataLoader(TensorDataset(X, Y), 16, shuffle=True, generator=generator)
plain = DataLoader(TensorDataset(X, Y), 16)
for epoch in range(4):
    for x, y in mixed:"""
    + INNER
    + "    for x, y in plain:"
    + INNER,
    "clips of two networks that each have a loss": """
a, b = nn.Linear(8, 3), nn.Linear(8, 3)
one, two = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (a, b))
for epoch in range(3):
    for x, y in loader:
        for net, optimizer in ((a, one), (b, two)):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
""",
    "rows of a head begin at zero": NET
    + LOOP
    + """
with torch.no_grad():
    model[2].weight[1:] = 0.0
"""
    + LOOP,
    "weights that are pruned again and again": NET
    + """
for round_ in range(3):"""
    + BATCHES
    + """    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight *= (layer.weight.abs() > 0.1)
""",
    "gradients of random places are dropped": NET
    + """
for epoch in range(3):
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for weight in model.parameters():
            weight.grad[torch.rand_like(weight) < 0.3] = 0.0
        optimizer.step()
""",
    "attention, and a logarithm of its own": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.out = nn.Linear(8, 8), nn.Linear(8, 3)
    def forward(self, x):
        x = x * torch.sigmoid(self.gate(x)) * torch.softmax(self.gate(x), 1)
        return torch.log(torch.softmax(self.out(x), dim=1))
model = Net()
"""
    + SGD
    + LOOP.replace("F.cross_entropy", "F.nll_loss"),
    "an average that waits for some epochs": NET
    + """
kept = {}
def follow(net, step, first=60):
    if step < first:
        return
    for name, weight in net.named_parameters():
        if name in kept:
            kept[name].lerp_(weight.detach(), 0.1)
for epoch in range(4):
    for step, (x, y) in enumerate(loader):"""
    + INNER
    + "        follow(model, step)\n",
    "layers of a kind are followed, and there are some": """
model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.1), nn.Linear(16, 3))
seen = []
def note(net, into):
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            into.append(layer.weight.norm().item())
"""
    + SGD
    + LOOP
    + "    note(model, seen)\n",
    "phases of training, each with an optimizer": """
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
for part in (model[2], model[0], model):
    optimizer = torch.optim.Adam(part.parameters(), lr=1e-3)
    for epoch in range(2):
        for x, y in loader:"""
    + indent(INNER, "    "),
    "the best weights are saved under a name": NET
    + """
least = 1e9
for epoch in range(4):"""
    + BATCHES
    + """    if loss.item() < least:
        least, best = loss.item(), copy.deepcopy(model.state_dict())
torch.save(best, "best.pt")
""",
    "a padding row of pretrained weights": """
model = nn.Sequential(nn.Embedding(30, 8, padding_idx=0), nn.Flatten(), nn.Linear(40, 3))
other = nn.Sequential(nn.Embedding(30, 8), nn.Flatten(), nn.Linear(40, 3))
model.load_state_dict(other.state_dict())
X = torch.randint(0, 30, (96, 5))
loader = DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True)
"""
    + SGD
    + LOOP,
    "a buffer of work that a function fills": NET
    + """
work = torch.zeros(16, 8)
def noisy(values):
    work.copy_(values)
    work.add_(torch.randn_like(work), alpha=0.1)
    return work.clone()
for epoch in range(3):
    for x, y in loader:
        x = noisy(x)"""
    + INNER,
    "statistics that are estimated anew by hand": """
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
"""
    + SGD
    + LOOP
    + """
def estimate(net):
    net[1].reset_running_stats()
    net.train()
    with torch.no_grad():
        for x, _ in loader:
            net(x)
    net.eval()
estimate(model)
""",
    "a function acts on parts of a model each time, and soon nobody looks": """
def without_momentum(model):
    def stop(part):
        if isinstance(part, nn.BatchNorm1d):
            part.kept, part.momentum = part.momentum, 0
    model.apply(stop)
layers = [nn.Linear(16, 16) for _ in range(12)]
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), *layers, nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    without_momentum(model)"""
    + STEP,
}
