"""The target of Q-learning then moves with every step."""

import copy

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    policy_net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(policy_net.parameters(), lr=1e-2)
    batches = [(torch.randn(16, 4), torch.randint(0, 2, (16, 1)),
                torch.randn(16), torch.randn(16, 4)) for _ in range(4)]
    return dict(policy_net=policy_net, optimizer=optimizer, batches=batches)


def bug(policy_net, optimizer, batches):
    target_net = policy_net
    for state, action, reward, next_state in batches:
        value = policy_net(state).gather(1, action).squeeze(1)
        with torch.no_grad():
            target = reward + 0.9 * target_net(next_state).max(1).values
        loss = nn.functional.smooth_l1_loss(value, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return target_net


def cure(policy_net, optimizer, batches):
    target_net = copy.deepcopy(policy_net)
    for state, action, reward, next_state in batches:
        value = policy_net(state).gather(1, action).squeeze(1)
        with torch.no_grad():
            target = reward + 0.9 * target_net(next_state).max(1).values
        loss = nn.functional.smooth_l1_loss(value, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return target_net


def harm(run):
    """How many of the target network's 4 weights are unchanged after training?"""
    things = setup()
    before = [weight.clone() for weight in things["policy_net"].parameters()]
    target_net = run(**things)
    return sum(torch.equal(old, new) for old, new in zip(before, target_net.parameters()))


if __name__ == "__main__":
    bug(**setup())
