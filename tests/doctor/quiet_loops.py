"""Sane training scripts that look like a fault: the doctor has nothing to say about any of them."""

from __future__ import annotations

from tests.doctor.loops import LOOP, MODEL

SHARP = """
class Sharp(torch.optim.Optimizer):
    def __init__(self, params, base, **settings):
        super().__init__(params, dict(settings))
        self.base_optimizer = base(self.param_groups, **settings)
        self.param_groups = self.base_optimizer.param_groups
    @torch.no_grad()
    def climb(self):
        for w in (w for group in self.param_groups for w in group["params"]):
            self.state[w]["old"] = w.clone()
            w.add_(0.05 * w.grad)
        self.zero_grad()
    @torch.no_grad()
    def descend(self):
        for w in (w for group in self.param_groups for w in group["params"]):
            w.copy_(self.state[w]["old"])
        self.base_optimizer.step()
        self.zero_grad()
    def step(self, closure=None):
        raise NotImplementedError
model = Net()
"""
SAM_LOOP = """
for epoch in range(3):
    for inputs, targets in loader:
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.climb()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.descend()
"""

QUIET = {
    "a mask that is the same beside fresh data": MODEL
    + """
def cycle():
    while True:
        yield torch.randn(8, 6), torch.randint(0, 3, (8,)), torch.ones(8)
for step in range(12):
    inputs, targets, mask = next(cycle())
    optimizer.zero_grad()
    loss = (F.cross_entropy(model(inputs * mask[:, None]), targets, reduction="none") * mask).sum()
    loss.backward()
    optimizer.step()
""",
    "linear probe of an unfrozen body": """
model = Net()
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
"""
    + LOOP,
    "a perceptual loss in evaluation mode": MODEL
    + """
perceptual = nn.Sequential(nn.Linear(3, 8), nn.ReLU()).eval()
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        out = model(inputs)
        loss = F.mse_loss(perceptual(out), perceptual(F.one_hot(targets, 3).float()))
        loss.backward()
        optimizer.step()
""",
    "adversarial training with FGSM": MODEL
    + """
for epoch in range(3):
    for inputs, targets in loader:
        attacked = inputs.clone().requires_grad_(True)
        F.cross_entropy(model(attacked), targets).backward()
        attacked = (inputs + 0.1 * attacked.grad.sign()).detach()
        optimizer.zero_grad()
        F.cross_entropy(model(attacked), targets).backward()
        optimizer.step()
""",
    "SAM by hand": MODEL
    + """
for epoch in range(3):
    for inputs, targets in loader:
        F.cross_entropy(model(inputs), targets).backward()
        with torch.no_grad():
            moves = [0.05 * w.grad / (w.grad.norm() + 1e-12) for w in model.parameters()]
            for w, move in zip(model.parameters(), moves):
                w.add_(move)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        with torch.no_grad():
            for w, move in zip(model.parameters(), moves):
                w.sub_(move)
        optimizer.step()
        optimizer.zero_grad()
""",
    "SAM in an optimizer of its own": SHARP
    + """
optimizer = Sharp(model.parameters(), torch.optim.SGD, lr=0.1)
"""
    + SAM_LOOP,
    "SAM whose weights become NaN": SHARP  # no byte of them changes then
    + """
optimizer = Sharp(model.parameters(), torch.optim.SGD, lr=1e12)
"""
    + SAM_LOOP,
    "a run that becomes NaN": """
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=1e12)
"""
    + LOOP,
    "a run that skips the batches whose loss is NaN": MODEL
    + """
for epoch in range(3):
    for i, (inputs, targets) in enumerate(loader):
        loss = F.cross_entropy(model(inputs if i % 2 else inputs * float("nan")), targets)
        loss.backward()
        if torch.isfinite(loss):
            optimizer.step()
        optimizer.zero_grad()
""",
    "low-rank adapters": """
class Adapter(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base
        for w in base.parameters():
            w.requires_grad = False
        self.a = nn.Linear(6, 2, bias=False)
        self.b = nn.Linear(2, 12, bias=False)
        nn.init.zeros_(self.b.weight)
    def forward(self, x):
        return self.base(x) + self.b(self.a(x))
model = Net()
model.body = Adapter(model.body)
optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=0.01)
"""
    + LOOP,
    "folds with a new model and optimizer": """
for fold in range(3):
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
""",
    "folds that reset the weights": """
model = Net()
start = copy.deepcopy(model.state_dict())
for fold in range(4):
    model.load_state_dict(start)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
""",
    "Reptile with Adam inside": """
model = Net()
for task in range(4):
    before = copy.deepcopy(model.state_dict())
    inner = torch.optim.Adam(model.parameters(), lr=0.01)
    for inputs, targets in loader:
        inner.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        inner.step()
    after = model.state_dict()
    model.load_state_dict({n: before[n] + 0.5 * (after[n] - before[n]) for n in before})
""",
    "warm-up and linear decay after each batch": MODEL
    + """
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(s / 3, (12 - s) / 9))
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        scheduler.step()
""",
    "one cycle after each batch": MODEL
    + """
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=24)
for epoch in range(6):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        scheduler.step()
""",
    "a cosine over all batches": MODEL
    + """
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=24)
for epoch in range(6):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        scheduler.step()
""",
    "a slow exponential after each batch": MODEL
    + """
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.995)
for epoch in range(6):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        scheduler.step()
""",
    "steps of a full batch": MODEL
    + """
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.1)
for epoch in range(20):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    scheduler.step()
""",
    "a regression that converges": """
target = x @ torch.arange(1.0, 7.0)
model = nn.Linear(6, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
for step in range(90):
    optimizer.zero_grad()
    F.mse_loss(model(x).squeeze(1), target).backward()
    optimizer.step()
""",
    "Fisher information before training": MODEL
    + """
fisher = {n: torch.zeros_like(w) for n, w in model.named_parameters()}
for inputs, targets in loader:
    model.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    for n, w in model.named_parameters():
        fisher[n] += w.grad ** 2
"""
    + LOOP,
    "Fisher information alone": """
model = Net()
fisher = {n: torch.zeros_like(w) for n, w in model.named_parameters()}
for inputs, targets in loader:
    model.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    for n, w in model.named_parameters():
        fisher[n] += w.grad ** 2
""",
    "samples from one seed after each epoch": MODEL
    + """
for epoch in range(4):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    torch.manual_seed(1)
    with torch.no_grad():
        model(torch.randn(4, 6))
    torch.manual_seed(100 + epoch)
""",
    "gradient norms are measured after the step": MODEL
    + """
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        norm = nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
""",
    "a scaler with clipping": MODEL
    + """
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(inputs), targets)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()
""",
    "a scaler that is switched off": MODEL
    + """
scaler = torch.amp.GradScaler("cpu", enabled=False)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(inputs), targets)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()
""",
    "layers are thawed one after the other": """
model = Net()
for w in model.body.parameters():
    w.requires_grad = False
optimizer = torch.optim.Adam(model.head.parameters(), lr=0.01)
for epoch in range(4):
    if epoch == 2:
        for w in model.body.parameters():
            w.requires_grad = True
        optimizer.add_param_group({"params": model.body.parameters(), "lr": 0.001})
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
""",
    "gradient descent by hand": """
model = Net()
for epoch in range(3):
    for inputs, targets in loader:
        loss = F.cross_entropy(model(inputs), targets)
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for w in model.parameters():
                w -= 0.1 * w.grad
""",
    "a quantised code with straight-through gradients": """
class Quantised(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 4), nn.Linear(4, 6)
        self.book = nn.Embedding(8, 4)
    def forward(self, x):
        z = self.encoder(x)
        index = torch.cdist(z, self.book.weight).argmin(1)
        q = self.book(index)
        loss = F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())
        return self.decoder(z + (q - z).detach()), loss
model = Quantised()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(3):
    for inputs, _ in loader:
        out, extra = model(inputs)
        loss = F.mse_loss(out, inputs) + extra
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
    "a book that follows by moving averages": """
class Quantised(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 4), nn.Linear(4, 6)
        self.register_buffer("book", torch.randn(8, 4))
    def forward(self, x):
        z = self.encoder(x)
        index = torch.cdist(z.detach(), self.book).argmin(1)
        q = self.book[index]
        if self.training:
            with torch.no_grad():
                for code in index.unique():
                    self.book[code].lerp_(z[index == code].mean(0), 0.1)
        return self.decoder(z + (q - z).detach()), F.mse_loss(z, q.detach())
model = Quantised()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(3):
    for inputs, _ in loader:
        out, extra = model(inputs)
        loss = F.mse_loss(out, inputs) + extra
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
    "truncated backpropagation": """
rnn, head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 3)
optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=0.01)
for epoch in range(2):
    hidden = None
    for piece in torch.randn(6, 4, 5, 6):
        if hidden is not None:
            hidden = hidden.detach()
        out, hidden = rnn(piece, hidden)
        loss = head(out).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
    "a GAN with several critic steps and clipped weights": """
G, D = nn.Linear(2, 6), nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
g_opt = torch.optim.RMSprop(G.parameters(), lr=0.01)
d_opt = torch.optim.RMSprop(D.parameters(), lr=0.01)
for epoch in range(4):
    for number, (inputs, _) in enumerate(loader):
        d_opt.zero_grad()
        fake = G(torch.randn(16, 2)).detach()
        (D(fake).mean() - D(inputs).mean()).backward()
        d_opt.step()
        for w in D.parameters():
            w.data.clamp_(-0.1, 0.1)
        if number % 3 == 2:
            g_opt.zero_grad()
            (-D(G(torch.randn(16, 2))).mean()).backward()
            g_opt.step()
""",
    "a gradient penalty": """
G, D = nn.Linear(2, 6), nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
g_opt, d_opt = torch.optim.Adam(G.parameters()), torch.optim.Adam(D.parameters())
for epoch in range(2):
    for inputs, _ in loader:
        fake = G(torch.randn(16, 2))
        between = (0.5 * inputs + 0.5 * fake.detach()).requires_grad_(True)
        slope, = torch.autograd.grad(D(between).sum(), between, create_graph=True)
        d_loss = D(fake.detach()).mean() - D(inputs).mean() + (slope.norm(2, 1) - 1).pow(2).mean()
        d_opt.zero_grad(); d_loss.backward(); d_opt.step()
        g_loss = -D(fake).mean()
        g_opt.zero_grad(); g_loss.backward(); g_opt.step()
""",
    "a head that is used in some steps": """
class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 12)
        self.a, self.b = nn.Linear(12, 3), nn.Linear(12, 3)
    def forward(self, x, which):
        h = torch.relu(self.body(x))
        return (self.a if which == 0 else self.b)(h)
model = Two()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(3):
    for number, (inputs, targets) in enumerate(loader):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs, int(number == 3)), targets).backward()
        optimizer.step()
""",
    "an optimizer that edits gradients in its step": """
class Centred(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr))
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.dim() > 1:
                    p.grad.sub_(p.grad.mean(1, keepdim=True))
                p.grad.add_(p, alpha=0.01)
                p.add_(p.grad, alpha=-group["lr"])
model = Net()
optimizer = Centred(model.parameters(), lr=0.1)
"""
    + LOOP,
    "two groups with rates of their own": """
model = Net()
optimizer = torch.optim.SGD([{"params": model.body.parameters(), "lr": 0.001},
                             {"params": model.head.parameters(), "lr": 0.1}], lr=0.1)
for epoch in range(4):
    optimizer.param_groups[1]["lr"] = 0.1 * 0.5 ** epoch
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
""",
    "an optimizer for each layer": """
class Layer(nn.Linear):
    def __init__(self, a, b):
        super().__init__(a, b)
        self.opt = torch.optim.Adam(self.parameters(), lr=0.03)
    def fit(self, h):
        for _ in range(3):
            loss = self(h).pow(2).mean()
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()
        return self(h).detach()
class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [Layer(6, 8), Layer(8, 8)]
    def fit(self, x):
        h = x
        for layer in self.layers:
            h = layer.fit(h)
model = Stack()
for epoch in range(3):
    model.fit(x)
""",
    "distillation": """
teacher, model = Net().eval(), Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(3):
    for inputs, _ in loader:
        with torch.no_grad():
            goal = teacher(inputs)
        loss = F.mse_loss(model(inputs), goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
    "a target that follows, with BatchNorm": """
online = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
target = copy.deepcopy(online).eval()
for w in target.parameters():
    w.requires_grad = False
predictor = nn.Linear(4, 4)
optimizer = torch.optim.Adam([*online.parameters(), *predictor.parameters()], lr=0.01)
for epoch in range(3):
    for inputs, _ in loader:
        with torch.no_grad():
            goal = target(inputs + 0.1 * torch.randn_like(inputs))
        loss = F.mse_loss(predictor(online(inputs)), goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for mine, theirs in zip(target.parameters(), online.parameters()):
                mine.lerp_(theirs, 0.01)
            for mine, theirs in zip(target.buffers(), online.buffers()):
                mine.copy_(theirs)
""",
    "stochastic weight averaging": """
model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
averaged = torch.optim.swa_utils.AveragedModel(model)
schedule = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.05, anneal_epochs=2)
for epoch in range(5):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    averaged.update_parameters(model)
    schedule.step()
torch.optim.swa_utils.update_bn(loader, averaged)
averaged.eval()
with torch.no_grad():
    averaged(x)
""",
    "a rate finder": """
model = Net()
start = copy.deepcopy(model.state_dict())
optimizer = torch.optim.SGD(model.parameters(), lr=1e-7)
for step in range(12):
    for group in optimizer.param_groups:
        group["lr"] = 1e-7 * 4 ** step
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
model.load_state_dict(start)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + LOOP,
    "pretraining and then another optimizer": """
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for inputs, targets in loader:
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for inputs, targets in loader:
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
""",
    "a learnable temperature that is trained": """
class Contrast(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))
    def forward(self, a, b):
        return F.cross_entropy(self.log_scale.exp() * a @ b.t(), torch.arange(len(a)))
model, criterion = Net(), Contrast()
optimizer = torch.optim.Adam([*model.parameters(), *criterion.parameters()], lr=0.01)
for epoch in range(3):
    for inputs, _ in loader:
        loss = criterion(model(inputs), model(inputs + 0.1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
    "a random target network": """
predictor, goal = nn.Linear(6, 4), nn.Linear(6, 4)
optimizer = torch.optim.Adam(predictor.parameters(), lr=0.01)
for epoch in range(3):
    for inputs, _ in loader:
        loss = F.mse_loss(predictor(inputs), goal(inputs).detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
    "an actor and a critic with one loss each": """
actor, critic = nn.Linear(6, 3), nn.Linear(6, 1)
actor_optimizer = torch.optim.Adam(actor.parameters(), lr=0.01)
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
for step in range(12):
    state = torch.randn(8, 6)
    policy = torch.distributions.Categorical(logits=actor(state))
    action = policy.sample()
    value = critic(state).squeeze(1)
    advantage = torch.randn(8) - value
    actor_loss = -(policy.log_prob(action) * advantage.detach()).mean()
    critic_loss = advantage.pow(2).mean()
    actor_optimizer.zero_grad()
    actor_loss.backward()
    actor_optimizer.step()
    critic_optimizer.zero_grad()
    critic_loss.backward()
    critic_optimizer.step()
""",
    "inversion of a frozen generator": """
G = nn.Linear(4, 6)
for w in G.parameters():
    w.requires_grad = False
code = torch.zeros(64, 4, requires_grad=True)
optimizer = torch.optim.Adam([code], lr=0.1)
for step in range(12):
    optimizer.zero_grad()
    loss = F.mse_loss(G(code), x)
    loss.backward()
    optimizer.step()
""",
    "style transfer with LBFGS": """
net = nn.Sequential(nn.Linear(6, 8), nn.ReLU()).eval()
image = torch.randn(4, 6, requires_grad=True)
optimizer = torch.optim.LBFGS([image], max_iter=3)
for step in range(3):
    def closure():
        optimizer.zero_grad()
        loss = net(image).pow(2).mean()
        loss.backward()
        return loss
    optimizer.step(closure)
""",
    "second-order meta-learning": """
model = Net()
meta = torch.optim.Adam(model.parameters(), lr=0.01)
for task in range(4):
    weights = dict(model.named_parameters())
    loss = F.cross_entropy(torch.func.functional_call(model, weights, (x,)), y)
    slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    fast = {n: w - 0.1 * g for (n, w), g in zip(weights.items(), slopes)}
    outer = F.cross_entropy(torch.func.functional_call(model, fast, (x,)), y)
    meta.zero_grad()
    outer.backward()
    meta.step()
""",
    "a plateau schedule and an early stop": MODEL
    + """
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.1)
best = float("inf")
for epoch in range(6):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    with torch.no_grad():
        loss = F.cross_entropy(model(x), y).item()
    scheduler.step(loss)
    if loss > best:
        break
    best = loss
""",
    "an unused pooler": """
class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.pool, self.head = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 3)
    def forward(self, x):
        return self.head(torch.relu(self.body(x)))
model = Pooled()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + LOOP,
    "evaluation between two backwards": MODEL
    + """
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        with torch.no_grad():
            for w in model.parameters():
                w.grad += 0.001 * w
        optimizer.step()
""",
    "a bad batch is skipped": MODEL
    + """
for epoch in range(4):
    for number, (inputs, targets) in enumerate(loader):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        if number == 2:
            continue
        optimizer.step()
""",
    "the order is seeded by the epoch": MODEL
    + """
for epoch in range(3):
    torch.manual_seed(epoch)
    np.random.seed(epoch)
    for index in torch.randperm(64).split(16):
        optimizer.zero_grad()
        F.cross_entropy(model(x[index] + torch.randn(16, 6)), y[index]).backward()
        optimizer.step()
""",
    "terms that are constant, or measured by the way": """
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
start = {name: w.detach().clone() for name, w in model.named_parameters()}
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        auxiliary = torch.zeros(())
        loss = F.cross_entropy(model(inputs), targets) + auxiliary
        drift = sum(((w - start[name]) ** 2).sum() for name, w in model.named_parameters())
        loss = loss + 0.1 * drift
        loss.backward()
        optimizer.step()
        print(loss.item() + drift.item())
""",
    "an error of a value and the value after it": """
critic = nn.Linear(6, 1)
optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
for step in range(12):
    state, after = torch.randn(6), torch.randn(6)
    with torch.no_grad():
        later = critic(after)
    delta = 1.0 + 0.9 * later - critic(state)
    loss = delta.pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
    "fine-tuned in evaluation mode from some epoch on": """
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    model.train(epoch < 2)
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
""",
    "fine-tuned to evaluate, and loaded back": """
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def train(steps):
    for inputs, targets in list(loader)[:steps]:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
for epoch in range(3):
    model.train()
    train(4)
    kept = copy.deepcopy(model.state_dict())
    model.eval()
    train(2)
    model.load_state_dict(kept)
""",
    "a hidden state in an attribute": """
class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.RNNCell(6, 8), nn.Linear(8, 3)
        self.hidden = torch.zeros(16, 8)
        self.calls = 0
    def forward(self, x):
        self.calls = self.calls + 1
        self.hidden = self.cell(x, self.hidden.detach())
        return self.head(self.hidden)
model = Recurrent()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        model(x[:16])
    saved = copy.deepcopy(model.state_dict())
""",
    "weights that are read under a new name": """
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
    norms, large = [], 0
    for p in model.parameters():
        p = p.detach().flatten()
        norms.append(p.norm().item())
    for p in model.parameters():
        p = p.detach()
        if p.norm() > 10:
            large += 1
""",
    "a layer is used twice on purpose": """
class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])
        self.names = [name for name, _ in self.layers.named_parameters()]
        self.head = nn.Linear(6, 3)
    def forward(self, x):
        for layer in [layer for layer in self.layers]:
            x = torch.relu(layer(layer(x)))
        return self.head(x)
model = Shared()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
""",
    "LBFGS with a closure that clears first": """
model = nn.Linear(6, 3)
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=5)
def closure():
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss
for step in range(6):
    optimizer.step(closure)
""",
    "LBFGS with a closure that sets gradients to None": """
model = nn.Linear(6, 3)
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=5)
def closure():
    for weight in model.parameters():
        weight.grad = None
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss
for step in range(6):
    optimizer.step(closure)
""",
    "a closure with two losses, and one that SAM evaluates": (
        SHARP.replace("raise NotImplementedError", "self.climb(); closure(); self.descend()")
        + """
optimizer = Sharp(model.parameters(), torch.optim.SGD, lr=0.1)
def closure():
    with torch.enable_grad():
        F.cross_entropy(model(x[:32]), y[:32]).backward()
        F.cross_entropy(model(x[32:]), y[32:]).backward()
for step in range(4):
    closure()
    optimizer.step(closure)
"""
    ),
    "an optimizer that pulls towards the weights of the start": """
class Pulled(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr))
        self.start = [w.detach().clone() for w in self.param_groups[0]["params"]]
    @torch.no_grad()
    def step(self):
        for w, start in zip(self.param_groups[0]["params"], self.start):
            w -= self.param_groups[0]["lr"] * (w.grad + 0.1 * (w - start))
model = Net()
optimizer = Pulled(model.parameters(), lr=0.1)
"""
    + LOOP
    + """
    saved = {"net": model.state_dict(), "optimizer": optimizer.state_dict()}
""",
}
