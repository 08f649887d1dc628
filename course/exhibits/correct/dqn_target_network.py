"""Q-learning with a target network that is a copy, updated now and then."""

import copy

import torch
from torch import nn


def main():
    torch.manual_seed(0)
    policy_net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    target_net = copy.deepcopy(policy_net)
    target_net.eval()
    optimizer = torch.optim.AdamW(policy_net.parameters(), lr=1e-3)
    for step in range(8):
        state, next_state = torch.randn(32, 4), torch.randn(32, 4)
        action, reward = torch.randint(0, 2, (32, 1)), torch.randn(32)
        value = policy_net(state).gather(1, action).squeeze(1)
        with torch.no_grad():
            target = reward + 0.99 * target_net(next_state).max(1).values
        loss = nn.functional.smooth_l1_loss(value, target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
        optimizer.step()
        if step % 4 == 3:
            target_net.load_state_dict(policy_net.state_dict())
    print(f"loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
