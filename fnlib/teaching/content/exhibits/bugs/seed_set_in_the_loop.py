"""The helper sets the global seed at every evaluation, so each epoch draws the same dropout masks."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.randn(32, 8), torch.randint(0, 3, (32,))
    return dict(model=model, optimizer=optimizer, data=data)


def evaluate(model, generator=None):
    if generator is None:
        torch.manual_seed(42)                       # the same test noise every time
    model.eval()
    with torch.no_grad():
        score = model(torch.randn(64, 8, generator=generator)).std()
    model.train()
    return score.item()


def bug(model, optimizer, data, epochs=5):
    feature, label = data
    for epoch in range(epochs):
        evaluate(model)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def cure(model, optimizer, data, epochs=5):
    feature, label = data
    for epoch in range(epochs):
        evaluate(model, torch.Generator().manual_seed(42))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def harm(run):
    """Different dropout masks in five epochs."""
    things = setup()
    things["optimizer"].param_groups[0]["lr"] = 0.0     # what is dropped then depends on the mask alone
    masks = set()
    things["model"][2].register_forward_hook(
        lambda layer, inputs, output: masks.add(output.detach().numpy().tobytes()) if layer.training else None)
    run(**things)
    return len(masks)


if __name__ == "__main__":
    bug(**setup())
