"""EMH-PPO trains on the time-slot MDP as on task windows, with a decision a slot."""

from __future__ import annotations

import numpy as np
import pytest
from joint import train_batch
from ray.rllib.core.columns import Columns

from rllib_mec.algorithms.columns import PLAYED
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.algorithms.env_runner import TaskWindowEnvRunner
from rllib_mec.envs import TimeSlotMDP
from rllib_mec.errors import MecError
from rllib_mec.evaluation import comparison_table, evaluate
from rllib_mec.policies import LocalOnly, load_policy

ENV_CONFIG = {"num_devices": 2, "mean_tasks": 4, "slot_ms": 10.0}


def small(**env_config):
    return (
        EMHPPOConfig()
        .environment("mec_time_slot_v0", env_config={**ENV_CONFIG, **env_config})
        .env_runners(num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1)
        .debugging(seed=1)
    )


def make_runner(**env_config):
    return TaskWindowEnvRunner(config=small(**env_config), worker_index=0, num_workers=0)


@pytest.mark.parametrize(("observe_progress", "size"), [(False, 4), (True, 10)])
def test_the_networks_see_what_the_worlds_observe(observe_progress, size):
    runner = make_runner(observe_progress=observe_progress)
    rows = train_batch(runner, runner.sample(num_timesteps=64))
    assert rows[Columns.OBS].shape == (64, size)
    assert rows["partition"].shape == (64, 2, 1) and rows[Columns.ADVANTAGES].shape == (64, 1)
    # A local inference takes four slots: decisions made during it were not played.
    assert 0.0 < rows[PLAYED].mean() < 1.0


def test_a_restored_runner_goes_on_with_the_tasks_in_flight():
    runner = make_runner()
    runner.sample(num_timesteps=64)
    state = runner.get_state()
    assert state["worlds"]["scenarios"][0]["worlds"]["flight"]["stage"].any()
    expected = train_batch(runner, runner.sample(num_timesteps=64))
    other = make_runner()
    other.set_state(state)
    batch = train_batch(other, other.sample(num_timesteps=64))
    for name, values in expected.items():
        np.testing.assert_array_equal(batch[name], values, err_msg=name)


def test_a_checkpoint_is_evaluated_in_its_own_slots_beside_local_only(ray_session, tmp_path):
    algorithm = small(observe_progress=True).build_algo()
    try:
        algorithm.train()
        policy = load_policy(algorithm.save_to_path(tmp_path / "checkpoint"))
    finally:
        algorithm.stop()
    assert isinstance(policy.mdp, TimeSlotMDP)
    assert policy.mdp.slot_ms == 10.0 and policy.mdp.observe_progress
    evaluations = [evaluate(each, episodes=3) for each in (LocalOnly(policy.mdp), policy)]
    assert evaluations[0]["latency_ms"].mean == pytest.approx(4 * 43.015)
    assert evaluations[1].to_dict()["env"] == "mec_time_slot_v0"
    table = comparison_table(evaluations)
    assert "time slots of 10 ms" in table and "the paper's" not in table
    with pytest.raises(MecError, match=r"made for observation=.*progress.*, but .* observation="):
        evaluate(policy, TimeSlotMDP(policy.scenario), episodes=3)


@pytest.mark.parametrize(
    ("env_config", "message"),
    [
        ({"slot_ms": -1}, "slot_ms must be positive"),
        ({"max_window": 5}, "max_window must be 1 in a time slot"),
        ({"slotms": 10}, "did you mean 'slot_ms'"),
    ],
)
def test_a_bad_env_config_is_refused_before_training(env_config, message):
    with pytest.raises(MecError, match=message):
        small(**env_config).validate()
