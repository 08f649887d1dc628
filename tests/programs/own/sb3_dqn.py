"""Train DQN on CartPole with Stable-Baselines3: a target network that follows."""

from stable_baselines3 import DQN

if __name__ == "__main__":
    model = DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_starts=50,
        target_update_interval=40,
        seed=0,
        device="cpu",
    )
    model.learn(total_timesteps=250)
    action, _ = model.predict(model.get_env().reset(), deterministic=True)
    print(action)
