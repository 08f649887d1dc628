"""Sane training scripts that look like a fault of evaluation, effect, copy or checkpoint."""

from __future__ import annotations

QUIET = {
    "a_second_name": """
model = mlp()
raw_model = model
optimizer = torch.optim.Adam(raw_model.parameters())
train(model, optimizer)
evaluate(raw_model)
train(raw_model, optimizer)
evaluate(model)
""",
    "a_vae_samples_in_evaluation": """
class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(8, 6), nn.Linear(3, 3)
    def forward(self, x):
        mean, width = self.encode(x).chunk(2, 1)
        return self.decode(mean + torch.randn_like(width) * width.exp())
model = VAE()
train(model, torch.optim.Adam(model.parameters()))
""",
    "weights_clipped_in_each_step": """
critic = mlp()
optimizer = torch.optim.RMSprop(critic.parameters(), lr=1e-2)
for step in range(8):
    optimizer.zero_grad()
    critic(X).mean().backward()
    optimizer.step()
    for p in critic.parameters():
        p.data.clamp_(-0.05, 0.05)
    evaluate(critic)
    critic.train()
""",
    "lookahead_by_hand": """
model = mlp()
slow = [p.detach().clone() for p in model.parameters()]
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):
    optimizer.zero_grad()
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
    if step % 3 == 2:
        with torch.no_grad():
            for p, s in zip(model.parameters(), slow):
                s.lerp_(p, 0.5)
                p.copy_(s)
    if step % 6 == 5:
        evaluate(model)
        model.train()
""",
    "averaged_weights_at_the_end": """
model = mlp()
average = torch.optim.swa_utils.AveragedModel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    train(model, optimizer, 1)
    average.update_parameters(model)
model.load_state_dict(average.module.state_dict())
evaluate(model)
""",
    "rollback_to_the_best": """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
best, worst = copy.deepcopy(model.state_dict()), 0.0
for epoch in range(5):
    train(model, optimizer, 1)
    if epoch % 2:
        model.load_state_dict(best)
        evaluate(model)
    else:
        best = copy.deepcopy(model.state_dict())
""",
    "pruned_evaluated_and_trained_on": """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for round in range(3):
    train(model, optimizer, 1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.where(p.abs() > 0.05, p, torch.zeros(())))
    evaluate(model)
""",
    "a_rollout_buffer": """
policy = mlp()
optimizer = torch.optim.Adam(policy.parameters())
states = torch.zeros(5, 8)
for rollout in range(4):
    for t in range(5):
        state = torch.randn(8)
        states[t] = state
        with torch.no_grad():
            policy(state)
    optimizer.zero_grad()
    policy(states).pow(2).mean().backward()
    optimizer.step()
""",
    "a_critic_frozen_for_a_while": """
generator, critic = mlp(), nn.Linear(3, 1)
first = torch.optim.Adam(generator.parameters())
second = torch.optim.Adam(critic.parameters())
for step in range(4):
    critic.requires_grad_(True)
    second.zero_grad()
    critic(generator(X).detach()).mean().backward()
    second.step()
    critic.requires_grad_(False)
    first.zero_grad()
    critic(generator(X)).mean().neg().backward()
    first.step()
""",
    "all_frozen_but_the_head": """
model = mlp()
model.requires_grad_(False)
model[2].requires_grad_(True)
train(model, torch.optim.Adam(model[2].parameters()))
""",
    "a_new_head_after_a_load": """
old = mlp()
state = copy.deepcopy(old.state_dict())
model = mlp()
model.load_state_dict(state)
nn.init.xavier_uniform_(model[2].weight)
train(model, torch.optim.Adam(model.parameters()))
""",
    "a_partial_load": """
class Pretrained(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Linear(8, 16)
        self.head = nn.Linear(16, classes)
    def forward(self, x):
        return self.head(self.body(x).relu())
state = copy.deepcopy({k: v for k, v in Pretrained(10).state_dict().items() if "head" not in k})
model = Pretrained(3)
model.load_state_dict(state, strict=False)
train(model, torch.optim.Adam(model.parameters()))
""",
    "another_head_has_another_name": """
class Old(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.decoder = nn.Linear(8, 16), nn.Linear(16, 3)
class New(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.classifier = nn.Linear(8, 16), nn.Linear(16, 3)
    def forward(self, x):
        return self.classifier(self.body(x).relu())
model = New()
model.load_state_dict(copy.deepcopy(Old().state_dict()), strict=False)
train(model, torch.optim.Adam(model.parameters()))
""",
    "a_target_that_follows": """
policy = mlp()
target = copy.deepcopy(policy)
target.requires_grad_(False)
optimizer = torch.optim.Adam(policy.parameters())
for step in range(6):
    with torch.no_grad():
        wanted = target(VX).max(1).values
    optimizer.zero_grad()
    (policy(VX).max(1).values - wanted).pow(2).mean().backward()
    optimizer.step()
    with torch.no_grad():
        for a, b in zip(target.parameters(), policy.parameters()):
            a.lerp_(b, 0.1)
""",
    "normalisation_kept_in_evaluation": """
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
model[1].requires_grad_(False)
optimizer = torch.optim.Adam(model.parameters())
for step in range(6):
    model.train()
    model[1].eval()
    optimizer.zero_grad()
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
""",
    "each_batch_is_evaluated_first": """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    for x, y in zip(X.split(40), Y.split(40)):
        model.eval()
        with torch.no_grad():
            before = F.cross_entropy(model(x), y)
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
""",
    "the_first_batch_is_tried_first": """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
stream = iter(list(zip(X.split(20), Y.split(20))) * 3)
x, y = next(stream)
with torch.no_grad():
    model(x)
for step in range(8):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    x, y = next(stream)
""",
    "log_probabilities_in_a_list": """
policy = mlp()
optimizer = torch.optim.Adam(policy.parameters())
for episode in range(4):
    chances = []
    for step in range(4):
        chance = F.log_softmax(policy(X[step]), 0)[0]
        chances.append(chance)
    optimizer.zero_grad()
    torch.stack(chances).mean().neg().backward()
    optimizer.step()
""",
    "losses_added_before_the_backward": """
model = mlp()
optimizer = torch.optim.Adam(model.parameters())
for step in range(4):
    losses = []
    for i in range(3):
        loss = F.cross_entropy(model(X[i::3]), Y[i::3])
        losses.append(loss)
    optimizer.zero_grad()
    sum(losses).backward()
    optimizer.step()
""",
    "an_average_keeps_handles": """
class EMA:
    def __init__(self, model):
        self.weights = list(model.parameters())
        self.shadow = [p.detach().clone() for p in self.weights]
    def update(self):
        for s, p in zip(self.shadow, self.weights):
            s.lerp_(p.detach(), 0.1)
model = mlp()
ema = EMA(model)
optimizer = torch.optim.Adam(model.parameters())
for epoch in range(4):
    train(model, optimizer, 1)
    ema.update()
""",
    "a_copy_changed_in_place": """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    for i in range(0, 120, 40):
        x = X[i:i + 40].clone()
        x.add_(0.1 * torch.randn(40, 8))
        x /= 2
        optimizer.zero_grad()
        F.cross_entropy(model(x), Y[i:i + 40]).backward()
        optimizer.step()
""",
    "a_dataset_that_changes_copies": """
from torch.utils.data import DataLoader, Dataset
class Items(Dataset):
    def __len__(self):
        return 60
    def __getitem__(self, index):
        x = X[index].clone()
        x.sub_(0.5).div_(2)
        return x, Y[index]
model, data = mlp(), Items()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    for x, y in DataLoader(data, batch_size=20, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
""",
    "folds_from_one_start": """
start = copy.deepcopy(mlp().state_dict())
for fold in range(3):
    model = mlp()
    model.load_state_dict(start)
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer, 1)
""",
    "an_ensemble_of_new_models": """
models = []
for number in range(4):
    model = mlp()
    train(model, torch.optim.Adam(model.parameters()), 1)
    models.append(model)
for model in models:
    evaluate(model)
""",
    "a_resume_in_the_same_order": """
model = mlp()
optimizer = torch.optim.Adam(model.parameters())
train(model, optimizer)
saved = copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.module = mlp()
    def forward(self, x):
        return self.module(x)
other = Wrapped()
again = torch.optim.Adam(other.parameters())
other.module.load_state_dict(saved["model"])
again.load_state_dict(saved["optimizer"])
train(other, again)
""",
    "numbers_and_copies_in_lists": """
model = mlp()
optimizer = torch.optim.Adam(model.parameters())
losses, outputs, weights, states = [], [], [], {}
for step in range(6):
    optimizer.zero_grad()
    output = model(X)
    loss = F.cross_entropy(output, Y)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    outputs.append(output.detach())
    weights.append(model[0].weight.detach().clone())
    states[step] = {k: v.clone() for k, v in model.state_dict().items()}
""",
    "a_state_made_anew_in_each_step": """
policy = mlp()
optimizer = torch.optim.Adam(policy.parameters())
state, buffer = torch.zeros(8), []
for step in range(12):
    buffer.append(state)
    state = state + 0.1 * torch.randn(8)
    if len(buffer) > 4:
        optimizer.zero_grad()
        policy(torch.stack(buffer[-4:])).pow(2).mean().backward()
        optimizer.step()
""",
    "one_relu_at_many_places": """
model = nn.Sequential(nn.Linear(8, 16), *[nn.ReLU()] * 2, nn.Linear(16, 3))
train(model, torch.optim.Adam(model.parameters()))
""",
    "a_teacher_in_evaluation": """
teacher = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 3)).eval()
student = mlp()
optimizer = torch.optim.Adam(student.parameters())
for step in range(6):
    with torch.no_grad():
        wanted = teacher(X)
    optimizer.zero_grad()
    F.mse_loss(student(X), wanted).backward()
    optimizer.step()
""",
    "a_flag_that_its_own_module_reads": """
class Scale(nn.Module):
    def __init__(self, requires_grad):
        super().__init__()
        self.requires_grad = requires_grad
        self.scale = nn.Parameter(torch.ones(8))
    def forward(self, x):
        return x * (self.scale if self.requires_grad else self.scale.detach())
model = nn.Sequential(Scale(True), *mlp())
train(model, torch.optim.Adam(model.parameters()))
""",
    "weights_on_a_grid_after_each_step": """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(8):
    optimizer.zero_grad()
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((p * 64).round() / 64)
    if step % 4 == 3:
        evaluate(model)
        model.train()
""",
    "frozen_for_an_evaluation": """
def accuracy(model):
    for p in model.parameters():
        p.requires_grad = False
    found = evaluate(model)
    model.requires_grad_(True)
    return found
model = mlp()
accuracy(model)
train(model, torch.optim.Adam(model.parameters()))
accuracy(model)
""",
}
