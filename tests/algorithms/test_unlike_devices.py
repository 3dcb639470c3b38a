"""Every algorithm of ours trains where devices, servers and channels differ."""

import pytest

from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.policies import load_policy
from rllib_mec.registry import ALGORITHMS

UNLIKE = {
    "devices": [
        {"count": 1, "mean_tasks": 8},
        {"count": 2, "dnn": "mobilenet_v2", "local_slowdown": 9.0, "mean_tasks": 4},
    ],
    "servers": [{"count": 1}, {"count": 1, "speed": 2.0, "latency_ms": 2.0}],
    "channels": [{"count": 1}, {"count": 1, "bandwidth_hz": 5e6}],
}


def config_of(name, **training):
    return (
        ALGORITHMS.load(name)
        .get_default_config()
        .environment("mec_task_window_v0", env_config=UNLIKE)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1, **training)
        .debugging(seed=3)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["EMH-PPO", "H-PPO", "MAHPPO", "AgileNN", "MAPPO", "MAT"])
def test_it_trains_saves_and_decides(name, ray_session, tmp_path):
    algorithm = config_of(name).build_algo()
    try:
        result = algorithm.train()
        algorithm.save_to_path(tmp_path)
    finally:
        algorithm.stop()
    assert result["env_runners"]["reward"] < 0
    policy = load_policy(str(tmp_path))
    assert evaluate(policy, episodes=4).num_tasks == (8, 4, 4)
    equal = policy.scenario.replace(devices=3, num_servers=2, servers=None)
    if policy.carries_over:
        assert evaluate(policy, equal, episodes=4)["reward"].mean < 0
    else:
        with pytest.raises(MecError, match="was made for dnn="):
            evaluate(policy, equal)


def test_the_planner_may_demonstrate():
    config_of("EMH-PPO", demonstrations=100).validate()
