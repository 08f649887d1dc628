"""An actor and a critic (DDPG): the critic is frozen while the actor learns, the targets follow in three ways."""

import copy
import random

import torch
from torch import nn


def network(inputs):
    return nn.Sequential(nn.Linear(inputs, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))


def through_data(target, source, rate):
    for slow, fast in zip(target.parameters(), source.parameters()):
        slow.data.copy_(rate * fast.data + (1 - rate) * slow.data)


@torch.no_grad()
def all_at_once(target, source, rate):
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)


def as_a_state_dict(target, source, rate):
    slow, fast = target.state_dict(), source.state_dict()
    target.load_state_dict({name: rate * fast[name] + (1 - rate) * slow[name] for name in slow})


def main():
    torch.manual_seed(0)
    random.seed(0)
    actor, critic = network(3), network(4)
    actor_target, critic_target = copy.deepcopy(actor).eval(), copy.deepcopy(critic).eval()
    for p in critic_target.parameters():
        p.requires_grad = False
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=1e-3)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, weight_decay=1e-2)
    memory = [(torch.randn(3), torch.randn(1), torch.randn(1), torch.randn(3)) for _ in range(32)]
    for follow in (through_data, all_at_once, as_a_state_dict, through_data):
        state, action, reward, after = map(torch.stack, zip(*random.sample(memory, 8)))
        with torch.no_grad():
            target = reward + 0.99 * critic_target(torch.cat([after, actor_target(after)], 1))
        critic_loss = nn.functional.mse_loss(critic(torch.cat([state, action], 1)), target)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()

        for p in critic.parameters():
            p.requires_grad = False
        actor_loss = -critic(torch.cat([state, actor(state)], 1)).mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()
        for p in critic.parameters():
            p.requires_grad = True

        follow(actor_target, actor, 0.05)
        follow(critic_target, critic, 0.05)
    print(f"critic {critic_loss.item():.3f}, actor {actor_loss.item():.3f}")


if __name__ == "__main__":
    main()
