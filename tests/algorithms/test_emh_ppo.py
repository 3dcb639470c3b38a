import os
import signal
import time

import numpy as np
import pytest
from joint import most_likely
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_mec.algorithms.emh_ppo import EMHPPO, EMHPPOConfig
from rllib_mec.errors import MecError
from rllib_mec.policies import load_policy

pytestmark = pytest.mark.usefixtures("ray_session")


def small(**env_runners):
    return (
        EMHPPOConfig()
        .environment("mec_task_window_v0", env_config={"num_devices": 2, "mean_tasks": 10})
        .env_runners(num_envs_per_env_runner=8, num_cpus_per_env_runner=0.25, **env_runners)
        .training(train_batch_size_per_learner=128, minibatch_size=64, num_epochs=2)
        .debugging(seed=3)
    )


def weights(algorithm):
    return algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID]


def assert_same_weights(first, second):
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def steps(result):
    return result["env_runners"]["num_env_steps_sampled_lifetime"]


@pytest.fixture
def algorithm():
    algorithm = small().build_algo()
    yield algorithm
    algorithm.stop()


def test_a_result_has_the_papers_metrics_by_name(algorithm):
    for _ in range(3):
        result = algorithm.train()
    runners, learner = result["env_runners"], result["learners"][DEFAULT_MODULE_ID]
    for name in ("reward", "latency_ms", "energy_j", "waiting_ms", "window_size", "local_share"):
        assert np.isfinite(runners[name]), name
    assert steps(result) == 3 * 128
    assert runners["latency_ms"] > 0 > runners["reward"]
    assert 1 <= runners["window_size"] <= 5
    assert runners["episode_return_mean"] < runners["reward"]  # a sum and a mean of many rewards
    for head in ("partition", "channel", "server", "power", "window"):
        assert np.isfinite(learner[f"entropy_{head}"])
    assert learner["entropy_channel"] == pytest.approx(np.log(2), abs=0.05)


def test_saved_restored_and_as_a_policy_it_acts_the_same(algorithm, tmp_path):
    algorithm.train()
    path = algorithm.save_to_path(tmp_path / "checkpoint")
    observation = np.random.default_rng(0).random((16, 4), dtype=np.float32)
    restored = Algorithm.from_checkpoint(path)
    try:
        assert isinstance(restored, EMHPPO)
        assert_same_weights(algorithm, restored)
        policy = load_policy(path)
        assert policy.scenario.num_devices == 2
        for each in (algorithm, restored):
            played = most_likely(each.env_runner, observation)
            for head, value in policy.decide(observation).items():
                np.testing.assert_array_equal(value, played[head], err_msg=head)
    finally:
        restored.stop()


def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(algorithm, tmp_path):
    algorithm.train()
    path = algorithm.save_to_path(tmp_path / "checkpoint")
    uninterrupted = algorithm.train()
    second = Algorithm.from_checkpoint(path)
    try:
        resumed = second.train()
        assert steps(resumed) == steps(uninterrupted) == 256
        assert resumed["training_iteration"] == 2
        assert_same_weights(algorithm, second)
    finally:
        second.stop()


@pytest.mark.slow
def test_remote_env_runners_go_back_to_a_checkpoint_too(tmp_path):
    algorithm = small(num_env_runners=2).build_algo()
    try:
        algorithm.train()
        path = algorithm.save_to_path(tmp_path / "checkpoint")
        uninterrupted, expected = algorithm.train(), weights(algorithm)
        algorithm.train()
        algorithm.restore_from_path(path)
        resumed = algorithm.train()
        assert steps(resumed) == steps(uninterrupted) == 256
        for name, value in weights(algorithm).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
    finally:
        algorithm.stop()


def test_an_older_checkpoint_wins_over_newer_weights(algorithm, tmp_path):
    algorithm.train()
    path = algorithm.save_to_path(tmp_path / "checkpoint")
    old = weights(algorithm)
    algorithm.train()
    algorithm.restore_from_path(path)
    for name, value in weights(algorithm).items():
        np.testing.assert_array_equal(value, old[name])
    runner = algorithm.env_runner.module.get_state()[DEFAULT_MODULE_ID]
    np.testing.assert_array_equal(runner["critic.0.weight"], old["critic.0.weight"])


@pytest.mark.slow
def test_training_survives_kill_9_of_the_only_remote_env_runner():
    algorithm = small(num_env_runners=1).build_algo()
    try:
        algorithm.train()
        at_checkpoint = algorithm.get_state()["remote_worlds"][0]["worlds"]
        pids = algorithm.env_runner_group.foreach_env_runner(
            lambda runner: os.getpid(), local_env_runner=False
        )
        os.kill(pids[0], signal.SIGKILL)
        offered = []
        offer = algorithm._offer_worlds

        def offer_and_look(restored):
            offer(restored)
            offered.extend(
                algorithm.env_runner_group.foreach_env_runner(
                    lambda runner: (runner.get_state(), runner.worker_index),
                    local_env_runner=False,
                )
            )

        algorithm._offer_worlds = offer_and_look
        before = steps(algorithm.train())
        for _ in range(300):
            result = algorithm.train()
            if algorithm.env_runner_group.num_healthy_remote_workers() == 1:
                break
            time.sleep(0.2)  # the runner is starting again
        assert algorithm.env_runner_group.num_healthy_remote_workers() == 1
        assert steps(result) > before
        ((state, index),) = offered
        assert index == 1
        for world, saved in zip(
            state["worlds"]["scenarios"][0]["observation"],
            at_checkpoint["scenarios"][0]["observation"],
            strict=True,
        ):
            np.testing.assert_array_equal(world, saved)
        np.testing.assert_array_equal(state["worlds"]["generator"], at_checkpoint["generator"])
        assert np.isfinite(result["env_runners"]["reward"])
    finally:
        algorithm.stop()


@pytest.mark.slow
def test_two_learners_train_the_same_weights():
    algorithm = small().learners(num_learners=2, num_cpus_per_learner=0.5).build_algo()
    try:
        algorithm.train()
        states = [
            result.get()
            for result in algorithm.learner_group.foreach_learner(
                lambda learner: learner.module.get_state()[DEFAULT_MODULE_ID]
            )
        ]
        for name, value in states[0].items():
            np.testing.assert_array_equal(value, states[1][name])
    finally:
        algorithm.stop()


@pytest.mark.parametrize("num_env_runners", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_evaluation_during_training_follows_the_papers_protocol(num_env_runners):
    algorithm = (
        small()
        .evaluation(
            evaluation_interval=1,
            evaluation_duration=6,
            evaluation_num_env_runners=num_env_runners,
            evaluation_config={"explore": False, "num_cpus_per_env_runner": 0.25},
        )
        .build_algo()
    )
    try:
        first = algorithm.train()["evaluation"]["env_runners"]
        assert first["num_episodes"] == 6
        # 10 tasks an MD, whatever the windows: the protocol's queues are not drawn.
        assert first["window_size"] * first["episode_len_mean"] == pytest.approx(10, rel=0.05)
        assert 0 < first["latency_ms"] < 2000
    finally:
        algorithm.stop()


def test_remote_runners_do_not_share_worlds():
    runners = small(num_env_runners=2)
    from rllib_mec.algorithms.env_runner import TaskWindowEnvRunner

    first, second = (
        TaskWindowEnvRunner(config=runners, worker_index=i, num_workers=2) for i in (1, 2)
    )
    assert not np.array_equal(first.env.distances_m, second.env.distances_m)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.environment("CartPole-v1"), "EMH-PPO trains on mec_task_window_v0"),
        (lambda c: c.environment(env_config={"num_device": 3}), "did you mean 'num_devices'"),
        (lambda c: c.training(reward_scale=0), "reward_scale must be positive"),
    ],
)
def test_bad_configs_are_named_in_one_line(change, message):
    with pytest.raises(MecError, match=message) as error:
        change(small()).validate()
    assert "\n" not in str(error.value)


def test_a_run_without_samples_fails_instead_of_returning_nan(algorithm, monkeypatch):
    monkeypatch.setattr(
        "ray.rllib.algorithms.ppo.ppo.synchronous_parallel_sample",
        lambda **kwargs: ([], []),
    )
    monkeypatch.setattr("rllib_mec.algorithms.joint_ppo.algorithm.RESTART_PATIENCE_S", 1.0)
    with pytest.raises(RuntimeError, match="no env runner has returned a sample for 1 s"):
        algorithm.training_step()
