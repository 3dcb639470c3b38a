"""Other libraries' algorithms train on our environments, and their checks pass."""

import gymnasium
import pytest

import rllib_mec  # noqa: F401
from rllib_mec.envs import task_window_v0
from rllib_mec.envs.wrappers import WithoutInfos

SHORT = {"num_devices": 2, "mean_tasks": 5.0}
STEPS = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "device": "cpu"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.no_cover,  # what an environment does is measured elsewhere
    pytest.mark.filterwarnings("ignore"),
]


def changed_by(learn, algorithm):
    """Whether training moves the weights."""
    before = [value.clone() for value in algorithm.policy.state_dict().values()]
    learn()
    after = algorithm.policy.state_dict().values()
    return any(not old.equal(new) for old, new in zip(before, after, strict=True))


def test_stable_baselines_trains_one_agent_for_all():
    from stable_baselines3 import PPO

    algorithm = PPO("MlpPolicy", gymnasium.make("rllib_mec/TaskWindow-v0", **SHORT), **STEPS)
    assert changed_by(lambda: algorithm.learn(64), algorithm)


def test_stable_baselines_masks_what_makes_no_sense():
    from sb3_contrib import MaskablePPO

    env = gymnasium.make("rllib_mec/TaskWindow-v0", memory_mb=60.0, **SHORT)
    algorithm = MaskablePPO("MlpPolicy", env, **STEPS)
    assert changed_by(lambda: algorithm.learn(64), algorithm)
    state, _ = env.reset(seed=0)
    masks = env.unwrapped.action_masks()
    action, _ = algorithm.predict(state, action_masks=masks)
    starts = env.action_space.nvec.cumsum() - env.action_space.nvec
    assert masks[starts + action].all()


def test_stable_baselines_trains_all_agents_by_supersuit():
    import supersuit
    from stable_baselines3 import PPO

    env = task_window_v0.parallel_env(actions="flat", **SHORT)
    worlds = supersuit.concat_vec_envs_v1(
        supersuit.pettingzoo_env_to_vec_env_v1(env), 2, base_class="stable_baselines3"
    )
    algorithm = PPO("MlpPolicy", worlds, **STEPS)
    assert changed_by(lambda: algorithm.learn(128), algorithm)


def test_torchrl_takes_both():
    from torchrl.envs import GymWrapper, PettingZooWrapper, check_env_specs

    one = GymWrapper(gymnasium.make("rllib_mec/TaskWindow-v0", **SHORT))
    check_env_specs(one)
    each = PettingZooWrapper(WithoutInfos(task_window_v0.parallel_env(actions="flat", **SHORT)))
    check_env_specs(each)
    rewards = each.rollout(3)["next", "md", "reward"]
    assert rewards.shape[1:] == (2, 1) and (rewards < 0).all()
