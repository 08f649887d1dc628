"""More small training scripts with one fault each, as people have reported them on forums and in issues.

Each is written twice or more, in different ways: what finds one must find the others. Their head
and their form are those of `tests.doctor.loops`; a script is given whole, with what replaces its fault.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD = """
import copy
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
X, Y = torch.randn(96, 8), torch.randint(0, 3, (96,))
loader = DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True)
"""
BATCHES = """
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
"""
LOOP = "for epoch in range(4):" + BATCHES
FIT = """
def fit(model, epochs):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
"""


@dataclass(frozen=True)
class Report:
    """One script: the code that finds its fault at a line with ``at``; ``swaps`` correct it."""

    name: str
    code: str
    at: tuple[str, ...]
    script: str
    swaps: tuple[tuple[str, str], ...]

    @property
    def bug(self) -> str:
        """The script with the fault."""
        return HEAD + self.script

    @property
    def correct(self) -> str:
        """The script without the fault."""
        text = self.bug
        for wrong, right in self.swaps:
            assert wrong in text, self.name
            text = text.replace(wrong, right)
        return text


REPORTS = [
    Report(
        "a part is thawed after the optimizer was built",
        "weight-trained-by-nobody",
        ("self.enc.requires_grad_(True)",),
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(8, 16)
        self.cls = nn.Linear(16, 3)
        self.enc.requires_grad_(False)
    def forward(self, x):
        return self.cls(torch.relu(self.enc(x)))
    def unfreeze(self):
        self.enc.requires_grad_(True)
def configure(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
model = Net()
optimizer = configure(model)
for epoch in range(5):
    if epoch == 1:
        model.unfreeze()"""
        + BATCHES,
        (("model.unfreeze()", "model.unfreeze(); optimizer = configure(model)"),),
    ),
    Report(
        "values that the model has already are loaded",
        "load-without-effect",
        ("model.load_state_dict(own)",),
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 16)
        self.head = nn.Linear(16, 3)
    def forward(self, x):
        return self.head(torch.relu(self.body(x)))"""
        + FIT
        + """first = nn.DataParallel(Net())
fit(first, 3)
torch.save(first.state_dict(), "kept.pt")
model = Net()
pretrained = torch.load("kept.pt")
own = model.state_dict()
pretrained = {k: v for k, v in pretrained.items() if k in own}
own.update(pretrained)
model.load_state_dict(own)
fit(model, 2)
""",
        (
            (
                'torch.load("kept.pt")',
                '{k.removeprefix("module."): v for k, v in torch.load("kept.pt").items()}',
            ),
        ),
    ),
    Report(
        "names that fit nowhere are updated",
        "load-without-effect",
        ("self.load_state_dict(mine)",),
        """
class Enc(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    def forward(self, x):
        return self.net(x)
    def restore(self, state):
        mine = self.state_dict()
        for name, value in state.items():
            name = name.replace("encoder.", "net.")
            if name in mine and mine[name].shape == value.shape:
                mine[name] = value
        self.load_state_dict(mine)
donor = Enc()
state = {"backbone." + k: v for k, v in donor.state_dict().items()}
model = Enc()
model.restore(state)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        (('"encoder."', '"backbone.net."'),),
    ),
    Report(
        "a softmax over one output",
        "gradient-never-arrives",
        ("loss.backward()",),
        """
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1), nn.Softmax(dim=1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
target = (X[:, 0] > 0).float()
for epoch in range(12):
    optimizer.zero_grad()
    p = model(X).squeeze(1)
    loss = F.binary_cross_entropy(p.clamp(1e-6, 1 - 1e-6), target)
    loss.backward()
    optimizer.step()
""",
        (("nn.Softmax(dim=1)", "nn.Sigmoid()"),),
    ),
    Report(
        "codes are rounded",
        "gradient-never-arrives",
        ("loss.backward()",),
        """
class Auto(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(8, 6)
        self.dec = nn.Linear(6, 8)
    def forward(self, x):
        z = torch.sigmoid(self.enc(x))
        code = torch.round(z)
        return self.dec(code)
model = Auto()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(4):
    for x, _ in loader:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), x)
        loss.backward()
        optimizer.step()
""",
        (("torch.round(z)", "z + (torch.round(z) - z).detach()"),),
    ),
    Report(
        "a ratio of a policy to itself",
        "gradient-never-arrives",
        ("loss.backward()",),
        """
policy = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
gain = torch.randn(96)
def log_prob(s, a):
    return F.log_softmax(policy(s), -1).gather(1, a[:, None]).squeeze(1)
for iteration in range(5):
    for epoch in range(4):
        new = log_prob(X, Y)
        old = new
        ratio = torch.exp(new - old)
        loss = -torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
        (("        old = new\n", "        if epoch == 0:\n            old = new.detach()\n"),),
    ),
    Report(
        "the first batch in every step",
        "draws-repeated",
        ("next(iter(loader))",),
        """
loader = DataLoader(TensorDataset(X, Y), batch_size=16)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
batches = iter(loader)
for step in range(30):
    x, y = next(iter(loader))
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
""",
        (
            (
                "    x, y = next(iter(loader))\n",
                "    if step % 6 == 0:\n        batches = iter(loader)\n    x, y = next(batches)\n",
            ),
        ),
    ),
    Report(
        "a function that makes an iterator",
        "draws-repeated",
        ("= get_batch()",),
        """
def get_batch():
    it = iter(loader2)
    return next(it)
loader2 = DataLoader(TensorDataset(X, Y), batch_size=16)
def cycle():
    while True:
        yield from loader2
source = cycle()
model = nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(20):
    xb, yb = get_batch()
    loss = F.cross_entropy(model(xb), yb)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
        (("= get_batch()", "= next(source)"),),
    ),
    Report(
        "a residual that an activation changes",
        "kept-by-reference",
        ("identity = x",),
        """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(16, 16)
        self.act = nn.ReLU(inplace=True)
    def forward(self, x):
        identity = x
        x = self.act(x)
        x = self.first(x)
        return x + identity
model = nn.Sequential(nn.Linear(8, 16), Block(), Block(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
"""
        + LOOP,
        (("inplace=True", "inplace=False"),),
    ),
    Report(
        "a skip that is added to in place",
        "kept-by-reference",
        ("skip = h",),
        """
class Attn(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
    def forward(self, h):
        skip = h
        h += 0.1
        h = self.proj(h)
        out = self.norm(h + skip)
        return out
model = nn.Sequential(nn.Linear(8, 16), Attn(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        (("h += 0.1", "h = h + 0.1"),),
    ),
    Report(
        "one of two layers is typed twice",
        "gradient-never-arrives",
        ("self.fc1(x)",),
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(8, 16)
        self.fc1 = nn.Linear(16, 16)
        self.fc2 = nn.Linear(16, 16)
        self.out = nn.Linear(16, 3)
    def forward(self, x):
        x = F.relu(self.inp(x))
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc1(x))
        return self.out(x)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
"""
        + LOOP,
        (("self.fc1(x))\n        return", "self.fc2(x))\n        return"),),
    ),
    Report(
        "the mean's head is the variance's",
        "gradient-never-arrives",
        ("self.mu(h)",),
        """
class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(8, 16)
        self.mu = nn.Linear(16, 4)
        self.logvar = nn.Linear(16, 4)
        self.dec = nn.Linear(4, 8)
    def encode(self, x):
        h = torch.relu(self.enc(x))
        return self.mu(h), \\
            self.mu(h)
    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        return self.dec(z), mu, logvar
model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(4):
    for x, _ in loader:
        optimizer.zero_grad()
        out, mu, logvar = model(x)
        loss = F.mse_loss(out, x) - 0.01 * (1 + logvar - mu ** 2 - logvar.exp()).mean()
        loss.backward()
        optimizer.step()
""",
        (("            self.mu(h)\n", "            self.logvar(h)\n"),),
    ),
    Report(
        "a block with a constant index",
        "gradient-never-arrives",
        ("self.blocks[0]",),
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(8, 16)
        self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))
        self.out = nn.Linear(16, 3)
    def forward(self, x):
        x = torch.relu(self.inp(x))
        for i in range(2):
            x = torch.relu(self.blocks[0](x))
        return self.out(x)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
"""
        + LOOP,
        (("self.blocks[0]", "self.blocks[i]"),),
    ),
    Report(
        "a learned scale that is read as a number",
        "gradient-never-arrives",
        ("self.scale.item()",),
        """
class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.tensor(1.0))
    def forward(self, x):
        logits = self.body(x)
        return logits * self.scale.item()
model = Head()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
"""
        + LOOP,
        (("self.scale.item()", "self.scale"),),
    ),
    Report(
        "a gate that is read as a list",
        "gradient-never-arrives",
        ("self.gate.tolist()",),
        """
class Mix(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 3), nn.Linear(8, 3)
        self.gate = nn.Parameter(torch.zeros(2))
    def forward(self, x):
        w = torch.softmax(torch.tensor(self.gate.tolist()), 0)
        return w[0] * self.a(x) + w[1] * self.b(x)
model = Mix()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        (("torch.tensor(self.gate.tolist())", "self.gate"),),
    ),
    Report(
        "a reentrant checkpoint of the first layers",
        "gradient-never-arrives",
        ("use_reentrant=True",),
        """
from torch.utils.checkpoint import checkpoint
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16))
        self.head = nn.Linear(16, 3)
    def forward(self, x):
        h = checkpoint(self.body, x, use_reentrant=True)
        return self.head(h)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
"""
        + LOOP,
        (("use_reentrant=True", "use_reentrant=False"),),
    ),
    Report(
        "a critic that stays frozen",
        "step-without-gradient",
        ("p.requires_grad = flag",),
        """
G = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
D = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
opt_g = torch.optim.Adam(G.parameters(), lr=1e-3)
opt_d = torch.optim.Adam(D.parameters(), lr=1e-3)
def grads(net, flag):
    for p in net.parameters():
        p.requires_grad = flag
for epoch in range(4):
    for real, _ in loader:
        fake = G(torch.randn(len(real), 4))
        opt_d.zero_grad()
        loss_d = F.softplus(-D(real)).mean() + F.softplus(D(fake)).mean()
        loss_d.backward(retain_graph=True)
        opt_d.step()
        grads(D, False)
        opt_g.zero_grad()
        loss_g = F.softplus(-D(fake)).mean()
        loss_g.backward()
        opt_g.step()
""",
        (("        opt_d.zero_grad()\n", "        grads(D, True)\n        opt_d.zero_grad()\n"),),
    ),
    Report(
        "an encoder frozen to validate",
        "step-without-gradient",
        ("enc.requires_grad_(False)",),
        """
enc, dec = nn.Linear(8, 4), nn.Linear(4, 8)
opt_e = torch.optim.Adam(enc.parameters(), lr=1e-2)
opt_d = torch.optim.Adam(dec.parameters(), lr=1e-2)
def validate():
    enc.requires_grad_(False)
    v = F.mse_loss(dec(enc(X)), X).item()
    return v
for epoch in range(5):
    for x, _ in loader:
        opt_e.zero_grad(); opt_d.zero_grad()
        loss = F.mse_loss(dec(enc(x)), x)
        loss.backward()
        opt_e.step()
        opt_d.step()
    validate()
""",
        (("    return v", "    enc.requires_grad_(True)\n    return v"),),
    ),
    Report(
        "a target that is given the data",
        "kept-by-reference",
        ("t.data = p.data",),
        """
def net():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
policy, target = net(), net()
optimizer = torch.optim.SGD(policy.parameters(), lr=0.05)
def sync():
    for t, p in zip(target.parameters(), policy.parameters()):
        t.data = p.data
sync()
for step in range(40):
    s, a, n = X[step], Y[step], X[step + 1]
    with torch.no_grad():
        goal = s[0] + 0.9 * target(n).max()
    optimizer.zero_grad()
    loss = (policy(s)[a] - goal) ** 2
    loss.backward()
    optimizer.step()
    if step % 10 == 9:
        sync()
""",
        (("t.data = p.data", "t.data.copy_(p.data)"),),
    ),
    Report(
        "an average set to the weights' memory",
        "kept-by-reference",
        ("e.set_(",),
        """
class EMA:
    def __init__(self, model):
        self.model = copy.deepcopy(model)
        for e, p in zip(self.model.parameters(), model.parameters()):
            e.set_(p.detach())
    @torch.no_grad()
    def update(self, model):
        for e, p in zip(self.model.parameters(), model.parameters()):
            e.mul_(0.9).add_(p, alpha=0.1)
model = nn.Linear(8, 3)
model.requires_grad_(True)
with torch.no_grad():
    ema = EMA(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):"""
        + BATCHES
        + """        ema.update(model)
""",
        (("e.set_(p.detach())", "e.copy_(p.detach())"),),
    ),
    Report(
        "a tie of the data",
        "kept-by-reference",
        ("weight.data =",),
        """
class AE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(8, 8, bias=False)
        self.dec = nn.Linear(8, 8, bias=False)
    def forward(self, x):
        return self.dec(torch.tanh(self.enc(x)))
model = AE()
model.dec.weight.data = model.enc.weight.data
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(4):
    for x, _ in loader:
        optimizer.zero_grad()
        F.mse_loss(model(x), x).backward()
        optimizer.step()
""",
        (("model.dec.weight.data = model.enc.weight.data", "model.dec.weight = model.enc.weight"),),
    ),
    Report(
        "a running total that each batch goes through",
        "graph-kept",
        ("backward",),
        """
model = nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(3):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        total = total + loss
        total.backward(retain_graph=True)
        optimizer.step()
""",
        (
            ("total.backward(retain_graph=True)", "loss.backward()"),
            ("total + loss", "total + loss.item()"),
        ),
    ),
    Report(
        "a mean over all losses so far",
        "graph-kept",
        ("backward",),
        """
model = nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
losses = []
for epoch in range(2):
    for x, y in loader:
        losses.append(F.cross_entropy(model(x), y))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward(retain_graph=True)
        optimizer.step()
""",
        (("torch.stack(losses).mean().backward(retain_graph=True)", "losses.pop().backward()"),),
    ),
    Report(
        "a plateau of the accuracy",
        "scheduler-without-effect",
        ("scheduler.step",),
        """
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
for epoch in range(14):
    model.train()"""
        + BATCHES
        + """    model.eval()
    with torch.no_grad():
        accuracy = (model(X).argmax(1) == Y).float().mean().item()
    scheduler.step(accuracy)
""",
        (("patience=1", 'mode="max", patience=1'),),
    ),
    Report(
        "a plateau of a dice score",
        "scheduler-without-effect",
        ("sched.step",),
        """
model = nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
class T:
    def __init__(self):
        self.sched = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", factor=0.5, patience=0)
    def fit(self):
        for epoch in range(8):
            for x, y in loader:
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
            val_dice = (model(X).argmax(1) == Y).float().mean().detach()
            self.sched.step(metrics=val_dice)
T().fit()
""",
        (('"min"', '"max"'),),
    ),
    Report(
        "a schedule that is not restored",
        "scheduler-without-effect",
        ("optimizer.load_state_dict",),
        """
def build():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
def run(model, optimizer, scheduler, epochs):
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        scheduler.step()
model, optimizer, scheduler = build()
run(model, optimizer, scheduler, 4)
torch.save({"m": model.state_dict(), "o": optimizer.state_dict(), "s": scheduler.state_dict()}, "kept.pt")
model, optimizer, scheduler = build()
state = torch.load("kept.pt")
model.load_state_dict(state["m"])
optimizer.load_state_dict(state["o"])
run(model, optimizer, scheduler, 4)
""",
        (('(state["o"])\n', '(state["o"])\nscheduler.load_state_dict(state["s"])\n'),),
    ),
    Report(
        "a schedule of a run that is not restored",
        "scheduler-without-effect",
        ("second.load()", "self.opt.load_state_dict(o)"),
        """
import os
class Run:
    def __init__(self):
        self.model = nn.Linear(8, 3)
        self.opt = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.sched = torch.optim.lr_scheduler.StepLR(self.opt, 3, 0.5)
        self.epoch = 0
    def fit(self, n):
        for _ in range(n):
            for x, y in loader:
                self.opt.zero_grad()
                F.cross_entropy(self.model(x), y).backward()
                self.opt.step()
            self.sched.step()
    def save(self):
        torch.save([self.model.state_dict(), self.opt.state_dict(), self.sched.state_dict()], "kept.pt")
    def load(self):
        m, o, s = torch.load("kept.pt")
        self.model.load_state_dict(m)
        self.opt.load_state_dict(o)
first = Run(); first.fit(4); first.save()
second = Run()
second.load()
second.fit(4)
""",
        (("load_state_dict(o)\n", "load_state_dict(o)\n        self.sched.load_state_dict(s)\n"),),
    ),
    Report(
        "one cycle in steps of epochs",
        "scheduler-without-effect",
        ("scheduler.step",),
        """
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, epochs=10, steps_per_epoch=len(loader))
for epoch in range(10):"""
        + BATCHES
        + """    scheduler.step()
""",
        (("    scheduler.step()", "        scheduler.step()"),),
    ),
    Report(
        "a cosine of all batches once an epoch",
        "scheduler-without-effect",
        ("sched.step",),
        """
model = nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
epochs = 12
sched = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(loader))
for epoch in range(epochs):"""
        + BATCHES
        + """    sched.step()
""",
        (("T_max=epochs * len(loader)", "T_max=epochs"),),
    ),
    Report(
        "a load into a model that nobody keeps",
        "load-without-effect",
        ("build().load_state_dict",),
        """
def build():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))"""
        + FIT
        + """first = build()
fit(first, 3)
torch.save(first.state_dict(), "kept.pt")
model = build()
build().load_state_dict(torch.load("kept.pt"))
fit(model, 2)
""",
        (("build().load_state_dict", "model.load_state_dict"),),
    ),
    Report(
        "a load in a function that returns another",
        "load-without-effect",
        ("Net().load_state_dict",),
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 3)
    def forward(self, x):
        return self.fc(x)
donor = Net()
torch.save(donor.state_dict(), "kept.pt")
def prepare():
    model = Net()
    Net().load_state_dict(torch.load("kept.pt"))
    return model
model = prepare()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        (("    Net().load_state_dict", "    model.load_state_dict"),),
    ),
    Report(
        "an initialisation that fits no layer",
        "set-without-effect",
        ("model.apply(",),
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 16)
        self.head = nn.Linear(16, 3)
    def forward(self, x):
        return self.head(torch.relu(self.body(x)))
def init_weights(m):
    if m is nn.Linear:
        nn.init.xavier_uniform_(m.weight)
        nn.init.zeros_(m.bias)
model = Net()
model.apply(init_weights)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
"""
        + LOOP,
        (("m is nn.Linear", "isinstance(m, nn.Linear)"),),
    ),
    Report(
        "a freeze that fits no layer",
        "set-without-effect",
        ("model.apply(",),
        """
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
def freeze_bn(module):
    if "BatchNorm2d" in type(module).__name__:
        module.weight.requires_grad_(False)
model.apply(freeze_bn)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        (("BatchNorm2d", "BatchNorm1d"),),
    ),
    Report(
        "a plateau of a metric in a dict",
        "scheduler-without-effect",
        ("sched.step",),
        """
model = nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
sched = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
for value in [0.1, 0.2, 0.3, 0.4]:"""
        + BATCHES
        + """    logs = {"valAccuracy": torch.tensor(value)}
    sched.step(logs["valAccuracy"].item())
""",
        (("patience=1", 'mode="max", patience=1'),),
    ),
    Report(
        "a length in batches that has a name",
        "scheduler-without-effect",
        ("sched.step",),
        """
model = nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def decay(optimizer, length):
    return torch.optim.lr_scheduler.PolynomialLR(optimizer, length, power=0.9)
total = 8 * len(loader)
sched = decay(optimizer, total)
for epoch in range(8):"""
        + BATCHES
        + """    sched.step()
""",
        (("8 * len(loader)", "8"),),
    ),
    Report(
        "an initialisation by another name",
        "set-without-effect",
        ("model.apply(",),
        """
class Net(nn.Linear):
    def weights(self, part):
        if not isinstance(part, nn.Conv2d):
            return
        nn.init.xavier_uniform_(part.weight)
model = Net(8, 3)
model.apply(model.weights)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        (("nn.Conv2d", "nn.Linear"),),
    ),
    Report(
        "a loop that breaks at its first batch",
        "draws-repeated",
        ("in plain",),
        """
plain = DataLoader(TensorDataset(X, Y), batch_size=16)
model = nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):
    for x, y in plain:
        break
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
""",
        (("batch_size=16)\nmodel", "batch_size=16, shuffle=True)\nmodel"),),
    ),
    Report(
        "a sign after a network",
        "gradient-never-arrives",
        ("loss.backward()",),
        """
body, head = nn.Sequential(nn.Linear(8, 16), nn.Tanh()), nn.Linear(16, 3)
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
def model(x):
    return head(torch.sign(body(x)))
"""
        + LOOP,
        (("torch.sign(body(x))", "body(x)"),),
    ),
    Report(
        "a projection of a dict is typed twice",
        "gradient-never-arrives",
        ("key =",),
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({name: nn.Linear(8, 8) for name in ("query", "key", "value")})
        self.out = nn.Linear(8, 3)
    def forward(self, x):
        query = self.parts["query"](x)
        key = self.parts["query"](x)
        return self.out(torch.softmax(query @ key.T, -1) @ self.parts["value"](x))
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP,
        (('key = self.parts["query"]', 'key = self.parts["key"]'),),
    ),
    Report(
        "a generator of the shuffle that is made anew",
        "draws-repeated",
        ("for x, y in batches:",),
        """
def epoch_of(model, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    batches = DataLoader(TensorDataset(X, Y), 16, shuffle=True, generator=generator)
    for x, y in batches:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
model = nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    epoch_of(model, optimizer, 7)
""",
        (("optimizer, 7)", "optimizer, epoch)"),),
    ),
    Report(
        "a sampler whose epoch is set once",
        "draws-repeated",
        ("for number, (x, y) in enumerate(batches):",),
        """
from torch.utils.data.distributed import DistributedSampler
class Job:
    def __init__(self):
        self.model = nn.Linear(8, 3)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.order = DistributedSampler(X, num_replicas=2, rank=0, seed=3)
        self.order.set_epoch(1)
    def run(self, epochs):
        batches = DataLoader(TensorDataset(X, Y), batch_size=12, sampler=self.order)
        for epoch in range(epochs):
            for number, (x, y) in enumerate(batches):
                self.optimizer.zero_grad()
                loss = F.cross_entropy(self.model(x), y)
                loss.backward()
                self.optimizer.step()
Job().run(4)
""",
        (("        for number,", "        self.order.set_epoch(epoch)\n            for number,"),),
    ),
    Report(
        "a sampler with a weight for each class",
        "draws-repeated",
        ("for x, y in balanced:",),
        """
from torch.utils.data import WeightedRandomSampler
rare = [len(Y) / int((Y == c).sum()) for c in range(3)]
balanced = DataLoader(
    TensorDataset(X, Y), 16, sampler=WeightedRandomSampler(rare, 96, replacement=True)
)
model = nn.Linear(8, 3)
optimizer = torch.optim.Adam(model.parameters())
for epoch in range(2):
    for x, y in balanced:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
""",
        (("WeightedRandomSampler(rare,", "WeightedRandomSampler([rare[c] for c in Y],"),),
    ),
    Report(
        "a loader over all of a split data set",
        "trained-on-validation-data",
        ("for batch in loaders['train']:",),
        """
from torch.utils.data import Subset
data = TensorDataset(X, Y)
rest, held = Subset(data, range(64)), Subset(data, range(64, 96))
loaders = {"train": DataLoader(data, 16, shuffle=True), "held": DataLoader(held, 16)}
model = nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def validate():
    with torch.no_grad():
        return sum(float(F.cross_entropy(model(x), y)) for x, y in loaders["held"])
for epoch in range(3):
    for batch in loaders['train']:
        optimizer.zero_grad()
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
    print(validate())
""",
        (("DataLoader(data, 16,", "DataLoader(rest, 16,"),),
    ),
    Report(
        "a setting of both parts of a split",
        "kept-by-reference",
        ("test_part.dataset.noisy = False",),
        """
from torch.utils.data import Dataset, random_split
class Noisy(Dataset):
    noisy = True
    def __len__(self):
        return 96
    def __getitem__(self, i):
        return X[i] + self.noisy * torch.randn(8), Y[i]
def main():
    train_part, test_part = random_split(Noisy(), [64, 32])
    test_part.dataset.noisy = False
    model = nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        for x, y in DataLoader(train_part, 16, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        with torch.no_grad():
            for x, y in DataLoader(test_part, 16):
                print(F.cross_entropy(model(x), y).item())
main()
""",
        (
            (
                "    test_part.dataset.noisy",
                "    test_part.dataset = Noisy()\n    test_part.dataset.noisy",
            ),
        ),
    ),
    Report(
        "a clip after each of two losses",
        "gradient-edit-unused",
        ("clip_grad_value_(net.parameters(), 0.01)",),
        """
from torch.nn.utils import clip_grad_value_
net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
opt = torch.optim.RMSprop(net.parameters(), lr=1e-3)
def learn(chunks):
    for x, y in chunks:
        F.cross_entropy(net(x), y).backward()
        clip_grad_value_(net.parameters(), 0.01)
    opt.step()
    opt.zero_grad()
for turn in range(4):
    learn([(X[:32], Y[:32]), (X[32:64], Y[32:64]), (X[64:], Y[64:])])
""",
        (("        clip_grad_value_", "    clip_grad_value_"),),
    ),
    Report(
        "a mask that is laid on weights once",
        "set-without-effect",
        ("layer.weight[layer.weight.abs() < 0.2] = 0.0",),
        """
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP
        + """
for layer in (model[0], model[2]):
    with torch.no_grad():
        layer.weight[layer.weight.abs() < 0.2] = 0.0
for layer in (model[0], model[2]):
    layer.keep = (layer.weight != 0).float()
for epoch in range(2):
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        pass
        optimizer.step()
""",
        (
            (
                "        pass\n",
                "        for layer in (model[0], model[2]):\n            layer.weight.grad.mul_(layer.keep)\n",
            ),
        ),
    ),
    Report(
        "rows without gradient that momentum moves",
        "moved-without-gradient",
        ("table.weight.grad[:40] *= 0",),
        """
table, head = nn.Embedding(48, 8), nn.Linear(8, 3)
words = torch.randint(0, 48, (96, 6))
optimizer = torch.optim.SGD([*table.parameters(), *head.parameters()], lr=0.1, weight_decay=0.1)
for step in range(8):
    optimizer.zero_grad()
    F.cross_entropy(head(table(words).mean(1)), Y).backward()
    table.weight.grad[:40] *= 0
    optimizer.step()
""",
        ((", weight_decay=0.1", ""),),
    ),
    Report(
        "a sigmoid before a loss of raw scores",
        "gradient-never-arrives",
        ("p = torch.sigmoid(self.body(x))",),
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        self.loss = nn.BCEWithLogitsLoss()
    def forward(self, x, target):
        p = torch.sigmoid(self.body(x))
        return self.loss(p.flatten(), target)
net = Net()
opt = torch.optim.Adam(net.parameters())
for _ in range(6):
    opt.zero_grad()
    value = net(X, (Y == 1).float())
    value.backward()
    opt.step()
""",
        (("torch.sigmoid(self.body(x))", "self.body(x)"),),
    ),
    Report(
        "a loss of log-probabilities that gets probabilities",
        "gradient-never-arrives",
        ("loss = criterion(classify(x), y)",),
        """
classify = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(dim=-1))
criterion = nn.NLLLoss()
optimizer = torch.optim.Adam(classify.parameters(), lr=1e-2)
for epoch in range(2):
    for x, y in loader:
        loss = criterion(classify(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
        (("nn.Softmax(", "nn.LogSoftmax("),),
    ),
    Report(
        "an average that knows other names",
        "set-without-effect",
        ("track(shell, average)",),
        """
def track(source, average, rate=0.1):
    for key, value in source.state_dict().items():
        if key in average:
            average[key] += rate * (value - average[key])
net = nn.Linear(8, 3)
average = {"module." + key: value.clone() for key, value in net.state_dict().items()}
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
shell = net
for epoch in range(2):
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        track(shell, average)
""",
        (('"module." + key', "key"),),
    ),
    Report(
        "a model that goes from setting to setting",
        "optimizer-made-anew",
        ("opt = torch.optim.AdamW(net.parameters(), lr=rate)",),
        """
def search(rates):
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    for rate in rates:
        opt = torch.optim.AdamW(net.parameters(), lr=rate)
        for epoch in range(3):
            for part in torch.randperm(96).split(32):
                opt.zero_grad()
                loss = F.cross_entropy(net(X[part]), Y[part])
                loss.backward()
                opt.step()
        print(rate, loss.item())
search([0.1, 0.01, 0.001])
""",
        (
            ("    net = nn", "    make = lambda: nn"),
            ("        opt = ", "        net = make()\n        opt = "),
        ),
    ),
    Report(
        "the best weights are kept for nobody",
        "load-without-effect",
        ("self.best = {k: v.clone() for k, v in self.net.state_dict().items()}",),
        """
class Keeper:
    def __init__(self):
        self.net, self.best, self.least = nn.Linear(8, 3), None, 1e9
        self.opt = torch.optim.SGD(self.net.parameters(), lr=0.1)
    def fit(self):
        for epoch in range(5):
            self.opt.zero_grad()
            loss = F.cross_entropy(self.net(X), Y)
            loss.backward()
            self.opt.step()
            if loss.item() < self.least:
                self.least = loss.item()
                self.best = {k: v.clone() for k, v in self.net.state_dict().items()}
        return self.net
Keeper().fit()
""",
        (
            (
                "        return self.net",
                "        self.net.load_state_dict(self.best)\n        return self.net",
            ),
        ),
    ),
    Report(
        "a padding row that is drawn",
        "set-without-effect",
        ("nn.init.normal_(self.words.weight, std=0.1)",),
        """
class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 8, padding_idx=29)
        self.out = nn.Linear(8, 3)
        nn.init.normal_(self.words.weight, std=0.1)
    def forward(self, ids):
        return self.out(self.words(ids).sum(1))
model = Bag()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
ids = torch.randint(0, 30, (96, 5))
for _ in range(6):
    optimizer.zero_grad()
    F.cross_entropy(model(ids), Y).backward()
    optimizer.step()
""",
        (("std=0.1)", "std=0.1)\n        nn.init.zeros_(self.words.weight.data[29])"),),
    ),
    Report(
        "a function that is given the batch changes it",
        "data-changed-in-place",
        ("masked(seen)",),
        """
def masked(values):
    values[torch.rand_like(values) < 0.1] = 0.0
pieces = list(X.split(24))
net = nn.Linear(8, 8)
optimizer = torch.optim.Adam(net.parameters())
for epoch in range(4):
    for seen in pieces:
        masked(seen)
        optimizer.zero_grad()
        F.mse_loss(net(seen), seen).backward()
        optimizer.step()
""",
        (("        masked(seen)", "        seen = seen.clone()\n        masked(seen)"),),
    ),
    Report(
        "statistics that are estimated with momentum 0",
        "buffers-left-behind",
        ("mean_net(X)",),
        """
net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
mean_net = copy.deepcopy(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(4):
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        for mine, theirs in zip(mean_net.parameters(), net.parameters()):
            mine.lerp_(theirs, 0.5)
mean_net[1].reset_running_stats()
mean_net[1].momentum = 0
mean_net.train()
with torch.no_grad():
    mean_net(X)
    mean_net.eval()
    print(F.cross_entropy(mean_net(X), Y).item())
""",
        (("momentum = 0\n", "momentum = None\n"),),
    ),
]
