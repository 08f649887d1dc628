"""The second one loads the first one's state, and from then on a step of either changes both."""

import copy

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    teacher = nn.Linear(8, 1)
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(3)]
    return dict(teacher=teacher, batches=batches)


def train(model, optimizer, batches):
    for feature, target in batches:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()


def bug(teacher, batches):
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-2)
    train(teacher, optimizer, batches)
    student = copy.deepcopy(teacher)
    optimizer_student = torch.optim.Adam(student.parameters(), lr=1e-2)
    optimizer_student.load_state_dict(optimizer.state_dict())
    train(student, optimizer_student, batches)
    return optimizer


def cure(teacher, batches):
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-2)
    train(teacher, optimizer, batches)
    student = copy.deepcopy(teacher)
    optimizer_student = torch.optim.Adam(student.parameters(), lr=1e-2)
    optimizer_student.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(student, optimizer_student, batches)
    return optimizer


def harm(run):
    """Step count of the teacher's optimizer, which took 3 steps."""
    things = setup()
    optimizer = run(**things)
    return optimizer.state[things["teacher"].weight]["step"].item()


if __name__ == "__main__":
    bug(**setup())
