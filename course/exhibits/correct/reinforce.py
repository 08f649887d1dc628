"""REINFORCE on a corridor of five cells: the policy learns to walk right."""

import torch
from torch import nn
from torch.distributions import Categorical


class Corridor:
    def reset(self):
        self.place, self.time = 2, 0
        return self.place

    def step(self, action):
        self.place = max(0, min(4, self.place + (1 if action == 1 else -1)))
        self.time += 1
        return self.place, float(self.place == 4), self.place == 4 or self.time == 10


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine1, self.affine2 = nn.Linear(5, 16), nn.Linear(16, 2)
        self.saved_log_probs, self.rewards = [], []

    def forward(self, x):
        return torch.softmax(self.affine2(torch.relu(self.affine1(x))), dim=-1)


def select_action(policy, place):
    distribution = Categorical(policy(torch.eye(5)[place]))
    action = distribution.sample()
    policy.saved_log_probs.append(distribution.log_prob(action))
    return action.item()


def finish_episode(policy, optimizer):
    value, returns = 0.0, []
    for reward in policy.rewards[::-1]:
        value = reward + 0.99 * value
        returns.insert(0, value)
    returns = torch.tensor(returns)
    loss = -(torch.stack(policy.saved_log_probs) * returns).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    del policy.rewards[:], policy.saved_log_probs[:]


def main():
    torch.manual_seed(0)
    environment, policy = Corridor(), Policy()
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    running_reward = 0.0
    for episode in range(8):
        place, done, total = environment.reset(), False, 0.0
        while not done:
            place, reward, done = environment.step(select_action(policy, place))
            policy.rewards.append(reward)
            total += reward
        running_reward = 0.05 * total + 0.95 * running_reward
        finish_episode(policy, optimizer)
    print(f"running reward {running_reward:.3f}")


if __name__ == "__main__":
    main()
