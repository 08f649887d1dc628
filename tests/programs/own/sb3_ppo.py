"""Train PPO on CartPole with Stable-Baselines3."""

from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

if __name__ == "__main__":
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=32, n_epochs=2, seed=0)
    model.learn(total_timesteps=256)
    print(evaluate_policy(model, model.get_env(), n_eval_episodes=2))
