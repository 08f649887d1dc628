"""The moments in it are the optimizer's own tensors, which later steps overwrite."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(4)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches):
    for index, (feature, target) in enumerate(batches):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
        if index == 1:
            checkpoint = optimizer.state_dict()
    optimizer.load_state_dict(checkpoint)           # back to the second step?


def cure(model, optimizer, batches):
    from copy import deepcopy
    for index, (feature, target) in enumerate(batches):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
        if index == 1:
            checkpoint = deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(deepcopy(checkpoint)) # it keeps what it is given


def harm(run):
    """Step count after going back to the second step."""
    things = setup()
    run(**things)
    return things["optimizer"].state[things["model"].weight]["step"].item()


if __name__ == "__main__":
    bug(**setup())
