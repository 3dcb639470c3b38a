"""Callbacks, connectors, metrics and recording work as in RLlib's PPO."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from joint import make_learner, make_runner, small, train_batch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns

import rllib_mec
from rllib_mec.algorithms.columns import CREDIT, TASK_REWARDS
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.algorithms.mahppo import MAHPPOConfig
from rllib_mec.envs.task_window import TaskWindowMDP
from rllib_mec.errors import MecError
from rllib_mec.policies import load_policy


def nothing(**kwargs) -> None:
    """A callback, for which episodes grow step by step."""


class Shout(ConnectorV2):
    """Notes that it has been called."""

    calls = 0

    def __call__(self, *, rl_module, batch, episodes, **kwargs):
        type(self).calls += 1
        assert episodes
        return batch


class AlwaysLocal(ConnectorV2):
    """A module-to-env connector that has every task run on its device."""

    def __call__(self, *, rl_module, batch, episodes, **kwargs):
        self.foreach_batch_item_change_in_place(
            batch=batch, column=Columns.ACTIONS, func=lambda action, *_: self.local(action)
        )
        return batch

    def local(self, action):
        last = self.input_action_space["partition"].nvec - 1
        return {**action, "partition": np.broadcast_to(last, action["partition"].shape).copy()}


class HalveObservations(ConnectorV2):
    """An env-to-module connector that writes what the module sees back to the episode."""

    def __call__(self, *, rl_module, batch, episodes, **kwargs):
        for episode in episodes:
            seen = episode.get_observations(-1)
            episode.set_observations(new_data=seen / 2.0, at_indices=-1)
        return batch


class Count(RLlibCallback):
    """Counts what it is called for, and makes a metric of an episode's infos."""

    def __init__(self):
        super().__init__()
        self.counts = {}

    def count(self, name):
        self.counts[name] = self.counts.get(name, 0) + 1

    def on_environment_created(self, *, env_runner, env, env_context, **kwargs):
        assert env_context.worker_index == 0
        self.count("environment_created")

    def on_episode_created(self, *, episode, **kwargs):
        assert not episode.is_reset
        self.count("created")

    def on_episode_start(self, *, episode, env_index, **kwargs):
        episode.custom_data["world"] = env_index
        assert len(episode.get_observations()) == 1
        self.count("start")

    def on_episode_step(self, *, episode, env, rl_module, **kwargs):
        assert len(episode) > 0 and env.num_envs == 8 and rl_module.decides_for_all
        self.count("step")

    def on_episode_end(self, *, episode, prev_episode_chunks, metrics_logger, env_index, **kwargs):
        assert episode.is_done and episode.custom_data["world"] == env_index
        chunks = [*prev_episode_chunks, episode]
        latency = sum(sum(i["latency_ms"] for i in c.get_infos(slice(1, None))) for c in chunks)
        metrics_logger.log_value("my_latency_ms", latency, window=100)
        self.count("end")

    def on_sample_end(self, *, samples, **kwargs):
        self.count("sample_end")


def same(first, second) -> None:
    assert len(first) == len(second)
    for mine, theirs in zip(first, second, strict=True):
        assert (len(mine), mine.is_terminated, mine.t_started) == (
            len(theirs),
            theirs.is_terminated,
            theirs.t_started,
        )
        np.testing.assert_array_equal(mine.get_observations(), theirs.get_observations())
        np.testing.assert_allclose(mine.get_rewards(), theirs.get_rewards(), rtol=1e-6)
        assert mine.get_infos() == theirs.get_infos()
        for head, values in mine.get_actions().items():
            np.testing.assert_array_equal(values, theirs.get_actions()[head])
        assert mine.extra_model_outputs.keys() == theirs.extra_model_outputs.keys()
        for name in mine.extra_model_outputs:
            np.testing.assert_array_equal(
                mine.get_extra_model_outputs(name), theirs.get_extra_model_outputs(name)
            )


@pytest.mark.parametrize("batch_mode", ["truncate_episodes", "complete_episodes"])
@pytest.mark.parametrize("config_class", [EMHPPOConfig, MAHPPOConfig])
def test_episodes_are_the_same_built_in_bulk_and_step_by_step(config_class, batch_mode):
    bulk = make_runner(small(config_class).env_runners(batch_mode=batch_mode))
    watched = small(config_class).env_runners(batch_mode=batch_mode)
    live = make_runner(watched.callbacks(on_episode_step=nothing))
    for _ in range(3):
        samples = bulk.sample(), live.sample()
        same(*samples)
    batches = [train_batch(r, s) for r, s in zip((bulk, live), samples, strict=True)]
    assert batches[0].keys() == batches[1].keys()
    for name, values in batches[0].items():
        np.testing.assert_allclose(values, batches[1][name], rtol=1e-5, atol=1e-6)


def test_an_episode_that_is_cut_goes_on_under_its_id_and_an_ended_one_shows_empty_queues():
    runner = make_runner(small())
    first, second = runner.sample(num_timesteps=8), runner.sample(num_timesteps=80)
    assert [len(episode) for episode in first] == [1] * 8
    going_on = {episode.id_: episode for episode in second}
    for episode in first:
        if not episode.is_terminated:
            follower = next(e for e in second if e.id_ == episode.id_)
            assert follower.t_started == 1
            np.testing.assert_array_equal(
                follower.get_observations(0), episode.get_observations(-1)
            )
    ended = [episode for episode in going_on.values() if episode.is_terminated]
    assert ended
    for episode in ended:
        assert (episode.get_observations(-1)[:2] == 0).all()
        assert (episode.get_observations(-2)[:2] > 0).any()


def test_rows_stand_in_the_order_in_which_they_were_sampled():
    runner = make_runner(small())
    observations = []
    for _ in range(2):
        episodes = runner.sample(num_timesteps=16)
        batch = train_batch(runner, episodes)
        observations.append(batch[Columns.OBS].numpy())
        assert batch[Columns.OBS].shape == (16, 4)
    # Row 8 is the second step of world 0, whose first is row 0.
    for world, row in ((0, 0), (5, 5)):
        episode = next(e for e in episodes if (e.get_observations(0) == observations[1][row]).all())
        expected = episode.get_observations(1)
        if not episode.is_terminated:
            np.testing.assert_array_equal(observations[1][8 + world], expected)


def test_a_changed_reward_is_learned_from():
    plain, changed = (make_runner(small(EMHPPOConfig)) for _ in range(2))
    for runner in (plain, changed):
        runner.config.training(gamma=0.0, reward_scale=1.0)
    episodes = changed.sample()
    for episode in episodes:
        episode.set_rewards(new_data=episode.get_rewards() - 5.0)
    targets = [
        train_batch(runner, samples)[Columns.VALUE_TARGETS]
        for runner, samples in ((plain, plain.sample()), (changed, episodes))
    ]
    np.testing.assert_allclose(targets[1], targets[0] - 1.0, atol=1e-4)  # of five task slots


def test_callbacks_are_called_as_often_as_things_happen():
    runner = make_runner(small().callbacks(Count))
    episodes = [*runner.sample(), *runner.sample()]
    counts = runner._callbacks[0].counts
    ended = sum(episode.is_terminated for episode in episodes)
    assert counts == {
        "environment_created": 1,
        "created": 8 + ended,
        "start": counts["start"],
        "step": 128,
        "end": ended,
        "sample_end": 2,
    }
    # One that ended with the last step begins its next episode with the next decision.
    assert 8 <= counts["start"] <= 8 + ended and ended > 8
    metrics = runner.get_metrics()
    assert metrics["my_latency_ms"].peek() == pytest.approx(metrics["latency_ms"].peek())


@pytest.mark.parametrize(
    "name", ["env_to_module_connector", "module_to_env_connector", "learner_connector"]
)
def test_connectors_of_the_users_are_called(name):
    Shout.calls = 0
    config = small()
    section = config.learners if name == "learner_connector" else config.env_runners
    section(**{name: lambda *args, **kwargs: Shout()})
    runner = make_runner(config)
    plain = make_runner(small())
    if name == "learner_connector":
        make_learner(config, runner).update(episodes=runner.sample(), minibatch_size=32)
        assert Shout.calls == 1
    else:
        same(runner.sample(), plain.sample())  # it does nothing, and that's all it does
        assert Shout.calls == 8


def test_a_module_to_env_connector_may_change_what_is_played():
    config = small().env_runners(module_to_env_connector=lambda *a, **k: AlwaysLocal())
    runner = make_runner(config)
    runner.sample()
    assert runner.get_metrics()["per_window"]["local_share"].peek() == 1.0


def test_an_env_to_module_connector_may_change_what_is_seen_and_learned_from():
    config = small().env_runners(env_to_module_connector=lambda *a, **k: HalveObservations())
    halved, plain = make_runner(config), make_runner(small())
    first = train_batch(halved, halved.sample(num_timesteps=8))[Columns.OBS]
    expected = train_batch(plain, plain.sample(num_timesteps=8))[Columns.OBS]
    np.testing.assert_allclose(first, expected / 2)


def test_an_observation_filter_standardises_and_is_part_of_the_state():
    config = small().env_runners(observation_filter="MeanStdFilter")
    runner = make_runner(config)
    runner.sample(num_timesteps=640)
    seen = train_batch(runner, runner.sample(num_timesteps=640))[Columns.OBS]
    assert seen.mean(0).abs().max() < 0.5 and 0.5 < seen.std(0).min() < 1.5
    other = make_runner(config)
    other.set_state(runner.get_state())
    filters = [r.get_state()["env_to_module_connector"]["MeanStdFilter"] for r in (runner, other)]
    counts = [state[None]["running_stats"][0]["num_pushes"] for state in filters]
    assert counts[0] == counts[1] > 1000


def test_counterfactuals_do_not_hang_on_an_observation_filter():
    config = small().training(counterfactuals=2).rl_module(model_config={"compare_queues": False})
    credits = []
    for name in ("NoFilter", "MeanStdFilter"):
        runner = make_runner(config.copy(copy_frozen=False).env_runners(observation_filter=name))
        for module in runner.module.values():  # decides the same, whatever it sees
            module.agent_heads.weight.data.zero_()
        credits.append(train_batch(runner, runner.sample(num_timesteps=64))[CREDIT])
    assert credits[0].std() > 0
    np.testing.assert_allclose(*credits, rtol=1e-5, atol=1e-6)


def test_random_actions_are_uniform():
    runner = make_runner(small())
    actions = [e.get_actions() for e in runner.sample(num_timesteps=1600, random_actions=True)]
    windows = np.concatenate([action["window"] for action in actions])
    assert windows.mean() == pytest.approx(2.0, abs=0.15)  # of 0 to 4


@dataclasses.dataclass(frozen=True)
class HalfTheTasks(TaskWindowMDP):
    """An MDP of a user's."""

    env_id = "half_the_tasks_v0"

    def make(self, num_envs, seed=0, *, num_tasks=None, distance_m=None):
        half = self.scenario.replace(mean_tasks=self.scenario.mean_tasks / 2)
        kwargs = {"num_tasks": num_tasks, "distance_m": distance_m}
        return TaskWindowMDP(half).make(num_envs, seed, **kwargs)


def test_an_mdp_of_a_users_trains_with_counterfactuals():
    rllib_mec.register_env(HalfTheTasks)
    config = small().environment(HalfTheTasks.env_id).training(counterfactuals=1)
    config.validate()
    runner = make_runner(config)
    assert runner.env.queues.mean() < 5
    assert CREDIT in train_batch(runner, runner.sample())


@pytest.mark.parametrize("num_devices", [2, 30])
def test_metrics_of_windows_exist_before_an_episode_has_ended(num_devices):
    runner = make_runner(small(num_devices=num_devices, mean_tasks=500))
    episodes = runner.sample(num_timesteps=8)
    metrics = runner.get_metrics()
    assert "reward" not in metrics
    mean = np.mean([episode.get_rewards()[0] for episode in episodes])
    assert metrics["per_window"]["reward"].peek() == pytest.approx(mean)
    assert set(metrics["per_window"]) == {
        "reward", "latency_ms", "energy_j", "waiting_ms", "window_size", "local_share"
    }  # fmt: skip


@pytest.mark.slow
def test_sampled_steps_are_recorded(tmp_path, ray_session):
    import pandas as pd

    config = small().offline_data(
        output=str(tmp_path),
        output_write_episodes=False,
        output_max_rows_per_file=40,
        output_write_remaining_data=True,
    )
    runner = make_runner(config)
    episodes = runner.sample()
    runner.stop()
    files = sorted(tmp_path.rglob("*.parquet"))
    rows = pd.concat([pd.read_parquet(file) for file in files])
    assert len(rows) == sum(map(len, episodes)) == 64
    assert sorted(rows[Columns.EPS_ID].unique()) == sorted({e.id_ for e in episodes})
    assert rows[Columns.TERMINATEDS].sum() == sum(e.is_terminated for e in episodes)
    assert rows[Columns.REWARDS].sum() == pytest.approx(sum(e.get_return() for e in episodes))
    assert TASK_REWARDS in rows


@pytest.mark.slow
def test_callbacks_and_custom_metrics_reach_the_result_and_a_filter_the_checkpoint(
    ray_session, tmp_path
):
    config = (
        small()
        .callbacks(
            Count, on_sample_end=lambda metrics_logger, **k: metrics_logger.log_value("a", 7)
        )
        .env_runners(observation_filter="MeanStdFilter")
        .rl_module(model_config={"compare_queues": False})
        .training(use_kl_loss=True, vf_clip_param=1.0)
    )
    algorithm = config.build_algo()
    try:
        result = algorithm.train()
        assert result["env_runners"]["a"] == 7
        assert result["env_runners"]["my_latency_ms"] > 0
        assert result["learners"][DEFAULT_MODULE_ID]["curr_kl_coeff"] > 0
        path = algorithm.save_to_path(tmp_path / "checkpoint")
        with pytest.raises(MecError, match="trained with connectors or an observation_filter"):
            load_policy(path)
        restored = Algorithm.from_checkpoint(path)
        first, second = algorithm.train(), restored.train()
        for key in ("policy_loss", "mean_kl_loss", "vf_loss"):
            mine, theirs = (r["learners"][DEFAULT_MODULE_ID][key] for r in (first, second))
            assert mine == theirs, key
        restored.stop()
    finally:
        algorithm.stop()
