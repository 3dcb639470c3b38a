"""Training where tasks arrive: a cut is no end, and the value of what follows it counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from joint import train_batch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns

from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.algorithms.env_runner import TaskWindowEnvRunner
from rllib_mec.envs import TaskStreamMDP
from rllib_mec.errors import MecError
from rllib_mec.evaluation import comparison_table, evaluate
from rllib_mec.experiments.names import algorithm_class
from rllib_mec.policies import LocalOnly, load_policy

PRESENCE = {
    "outages": "random",
    "server_up_ms": 100.0,
    "server_down_ms": 50.0,
    "visits": "random",
    "stay_ms": 100.0,
}
ENV_CONFIG = {"num_devices": 2, "arrival_rate_hz": 40.0, "horizon_ms": 250.0, "deadline_ms": 90.0}


def small(**changes):
    return (
        EMHPPOConfig()
        .environment("mec_task_stream_v0", env_config=ENV_CONFIG)
        .env_runners(num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1, **changes)
        .debugging(seed=1)
    )


def make_runner(config=None):
    return TaskWindowEnvRunner(config=config or small(), worker_index=0, num_workers=0)


def start_callback(**kwargs) -> None:
    """Makes the runner build its episodes step by step."""


def test_episodes_are_truncated_and_keep_their_last_observation_however_they_are_built():
    live = small().callbacks(on_episode_step=start_callback)
    samples = [make_runner(config).sample(num_timesteps=200) for config in (small(), live)]
    layout = TaskStreamMDP.from_dict(ENV_CONFIG).observation_layout
    for own in samples:
        whole = [episode for episode in own if episode.is_done]
        assert len(whole) > 4
        for episode in whole:
            assert episode.is_truncated and not episode.is_terminated
            last = episode.get_observations(-1)
            assert last[layout["time_left"]] == 0.0
            # 80 tasks a second on two devices of 23 each: something waits or is in flight.
            assert last[layout["queues"]].any() or last[layout["progress"]].any()
    assert [len(episode) for episode in samples[0]] == [len(episode) for episode in samples[1]]
    for one, other in zip(*samples, strict=True):
        assert one.is_truncated == other.is_truncated
        np.testing.assert_array_equal(one.get_observations(-1), other.get_observations(-1))


def test_the_value_of_the_state_at_the_horizon_is_bootstrapped():
    runner = make_runner(small(lambda_=0.0, gamma=0.9))
    episodes = runner.sample(num_timesteps=200)
    rows = train_batch(runner, episodes)
    module = runner.module[DEFAULT_MODULE_ID]

    def values(observation):
        with torch.no_grad():
            return module.compute_values({Columns.OBS: torch.as_tensor(observation)}).numpy()

    targets = {}
    for seen, target in zip(rows[Columns.OBS], rows[Columns.VALUE_TARGETS], strict=True):
        targets[np.asarray(seen).tobytes()] = np.asarray(target)
    truncated = [episode for episode in episodes if episode.is_truncated]
    assert truncated
    for episode in truncated:
        before, last = episode.get_observations(-2), episode.get_observations(-1)
        shares = episode.get_extra_model_outputs("task_rewards", -1) / runner.config.reward_scale
        expected = shares + 0.9 * values(last[None])[0]
        np.testing.assert_allclose(targets[before.tobytes()], expected, rtol=1e-4, atol=1e-5)


def test_a_restored_runner_goes_on_with_the_same_tasks():
    runner = make_runner()
    runner.sample(num_timesteps=64)
    state = runner.get_state()
    expected = train_batch(runner, runner.sample(num_timesteps=64))
    other = make_runner()
    other.set_state(state)
    batch = train_batch(other, other.sample(num_timesteps=64))
    for name, values in expected.items():
        np.testing.assert_array_equal(batch[name], values, err_msg=name)


def test_what_is_measured_of_tasks_that_arrive_is_among_the_metrics():
    runner = make_runner()
    runner.sample(num_timesteps=200)
    metrics = runner.get_metrics()
    for name in ("sojourn_ms", "sojourn_p95_ms", "deadline_hit_rate", "throughput_hz", "backlog"):
        assert np.isfinite(metrics[name].peek()), name


@pytest.mark.parametrize("name", ["demonstrations", "counterfactuals"])
def test_what_needs_a_simulation_is_refused(name):
    with pytest.raises(MecError, match=f"{name} need steps that can be simulated"):
        small(**{name: 8}).validate()


def test_a_cut_without_a_critic_is_refused():
    config = small(use_critic=False).env_runners(batch_mode="complete_episodes")
    with pytest.raises(MecError, match="use_critic must be true for mec_task_stream_v0"):
        config.validate()


@pytest.mark.slow
def test_emh_ppo_trains_and_its_checkpoint_is_evaluated_beside_local_only(ray_session, tmp_path):
    algorithm = small().build_algo()
    try:
        assert np.isfinite(algorithm.train()["env_runners"]["sojourn_ms"])
        policy = load_policy(algorithm.save_to_path(tmp_path / "checkpoint"))
    finally:
        algorithm.stop()
    evaluations = [evaluate(each, episodes=3) for each in (LocalOnly(policy.mdp), policy)]
    found = evaluations[1].to_dict()
    assert found["env"] == "mec_task_stream_v0" and found["num_tasks"] is None
    assert found["sojourn_p99_ms"]["mean"] >= found["sojourn_p50_ms"]["mean"] > 0.0
    table = comparison_table(evaluations)
    for title in ("sojourn, ms", "p99", "in time, %", "tasks/s", "backlog", "fairness"):
        assert title in table
    assert "tasks as they come, 50 m" in table


def test_who_is_not_there_plays_nothing():
    config = small().environment("mec_task_stream_v0", env_config={**ENV_CONFIG, **PRESENCE})
    runner = make_runner(config)
    rows = train_batch(runner, runner.sample(num_timesteps=200))
    layout = TaskStreamMDP.from_dict({**ENV_CONFIG, **PRESENCE}).observation_layout
    is_up = np.asarray(rows[Columns.OBS])[:, layout["devices_up"]] > 0.0
    played = np.asarray(rows["played"]).any(-1)
    assert (~is_up).any() and not played[~is_up].any() and played[is_up].any()


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "presence"), [("PPO", PRESENCE), ("APPO", {})])
def test_stock_algorithms_train_on_it(ray_session, algorithm, presence):
    from rllib_mec.algorithms.multi_agent_env import one_policy_for_all

    config: Any = algorithm_class(algorithm).get_default_config()
    env_config = {**ENV_CONFIG, **presence, "actions": "flat"}
    config = (
        config.environment("mec_task_stream_v0", env_config=env_config)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .multi_agent(policies={"shared"}, policy_mapping_fn=one_policy_for_all)
        .training(train_batch_size_per_learner=256, num_epochs=1)
        .reporting(min_time_s_per_iteration=0)  # APPO's are of 10 s
    )
    built = config.build_algo()
    try:
        found = built.train()["env_runners"]
        while "episode_return_mean" not in found:
            found = built.train()["env_runners"]
        assert np.isfinite(found["episode_return_mean"])
    finally:
        built.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["H-PPO", "MAHPPO", "AgileNN", "MAPPO", "MAT"])
def test_the_rivals_train_on_it(ray_session, name):
    config: Any = algorithm_class(name).get_default_config()
    config = (
        config.environment("mec_task_stream_v0", env_config={**ENV_CONFIG, **PRESENCE})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1)
    )
    algorithm = config.build_algo()
    try:
        assert np.isfinite(algorithm.train()["env_runners"]["sojourn_ms"])
    finally:
        algorithm.stop()
