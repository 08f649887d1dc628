"""Stand-in for `gym` before version 0.26: the interface that older programs call, over gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium


class _Old:
    """An environment with `seed`, a `reset` of one value and a `step` of four."""

    def __init__(self, environment: gymnasium.Env[Any, Any]) -> None:
        self._environment = environment
        self._seed: int | None = None
        self._max_episode_steps = environment.spec.max_episode_steps if environment.spec else 1000

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)

    def seed(self, seed: int) -> None:
        """Seed the next reset."""
        self._seed = seed

    def reset(self) -> Any:
        """Begin an episode; returns the observation."""
        observation, _ = self._environment.reset(seed=self._seed)
        self._seed = None
        return observation

    def step(self, action: Any) -> tuple[Any, float, bool, dict[str, Any]]:
        """Act; returns observation, reward, whether the episode has ended, and more."""
        observation, reward, ended, cut, more = self._environment.step(action)
        return observation, float(reward), ended or cut, more


def make(name: str) -> _Old:
    """Make an environment by its name."""
    return _Old(gymnasium.make(name))
