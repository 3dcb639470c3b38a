"""What the baselines have of their own, and that each trains, is saved and comes back the same."""

import math

import numpy as np
import pytest
import torch
from joint import loss_of, make_learner, make_runner, most_likely, train_batch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns

from rllib_mec.algorithms.agile_nn import AgileNNConfig
from rllib_mec.algorithms.columns import PLAYED, TASK_LOGP, WINDOW_ADVANTAGES, WINDOW_LOGP
from rllib_mec.algorithms.distributions import HEADS, TASK_HEADS
from rllib_mec.algorithms.h_ppo import HPPOConfig
from rllib_mec.algorithms.mahppo import MAHPPOAdvantages, MAHPPOConfig
from rllib_mec.errors import MecError
from rllib_mec.policies import load_policy
from rllib_mec.registry import ALGORITHMS

BASELINES = ("H-PPO", "MAHPPO", "AgileNN")
ONE_DECISION_A_WINDOW = (HPPOConfig, MAHPPOConfig)
BAD = 0.3
CLIPPED_UP = 1.2  # e^0.3 is above it


def small(config_class, **training):
    return (
        config_class()
        .environment("mec_task_window_v0", env_config={"num_devices": 2, "mean_tasks": 10})
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1, **training)
        .debugging(seed=3)
    )


def policy_loss(config_class, *, shifts, idle=(), **training):
    """Loss of 64 windows with advantage 1, where new log-probabilities are ``shifts`` above old."""
    config = small(config_class, entropy_coeff=0.0, vf_loss_coeff=0.0, **training)
    runner = make_runner(config)
    data = train_batch(runner, runner.sample())
    data[WINDOW_ADVANTAGES] = torch.ones_like(data[WINDOW_ADVANTAGES])
    data[PLAYED] = torch.ones_like(data[PLAYED])
    data[PLAYED][:, list(idle)] = 0.0
    for (head, device), shift in shifts.items():
        if head == "window":
            data[WINDOW_LOGP][:, device] -= shift
        else:
            data[TASK_LOGP][:, device, :, TASK_HEADS.index(head)] -= shift
    return loss_of(make_learner(config, runner), data).item()


@pytest.mark.parametrize("name", BASELINES)
def test_saved_restored_and_as_a_policy_it_acts_the_same(name, ray_session, tmp_path):
    config_class = type(ALGORITHMS.load(name).get_default_config())
    algorithm = small(config_class).build_algo()
    restored = None
    try:
        result = algorithm.train()
        assert np.isfinite(result["env_runners"]["energy_j"])
        assert np.isfinite(result["learners"][DEFAULT_MODULE_ID]["policy_loss"])
        path = algorithm.save_to_path(tmp_path / "checkpoint")
        restored = Algorithm.from_checkpoint(path)
        policy = load_policy(path)
        assert policy.name == name
        assert policy.scenario.remote_feature_share == (0.5 if name == "AgileNN" else 1.0)
        observation = np.random.default_rng(0).random((16, 4), dtype=np.float32)
        expected = policy.decide(observation)
        for each in (algorithm, restored):
            played = most_likely(each.env_runner, observation)
            for head in HEADS:
                np.testing.assert_array_equal(played[head], expected[head], err_msg=head)
    finally:
        algorithm.stop()
        if restored is not None:
            restored.stop()


@pytest.mark.parametrize("config_class", ONE_DECISION_A_WINDOW)
def test_all_tasks_of_a_window_share_its_one_decision(config_class, monkeypatch):
    runner = make_runner(small(config_class))
    played = []
    step = runner.env.step
    monkeypatch.setattr(runner.env, "step", lambda actions: played.append(actions) or step(actions))
    batch = train_batch(runner, runner.sample(num_timesteps=16))
    for head in TASK_HEADS:
        assert batch[head].shape == (16, 2, 1)
        drawn = batch[head].numpy()
        drawn = drawn.clip(0, 1) if head == "power" else drawn
        shared = np.concatenate([actions[head] for actions in played])
        np.testing.assert_array_equal(shared, drawn.repeat(5, axis=2))
    assert batch["window"].max() > 0
    assert batch[Columns.ADVANTAGES].shape == batch[Columns.VALUE_TARGETS].shape == (16, 1)


def test_h_ppo_clips_the_joint_ratio_of_all_devices():
    # e^(0.3 - 0.3) = 1, though each device's own ratio is far outside [0.8, 1.2].
    opposite = {("partition", 0): BAD, ("channel", 1): -BAD}
    assert policy_loss(HPPOConfig, shifts=opposite) == pytest.approx(-1.0, rel=1e-4)
    # e^(0.15 + 0.15), each device's own being within.
    together = {("power", 0): BAD / 2, ("window", 1): BAD / 2}
    assert policy_loss(HPPOConfig, shifts=together) == pytest.approx(-CLIPPED_UP, rel=1e-4)


def test_mahppo_clips_each_devices_own_ratio():
    opposite = {("partition", 0): BAD, ("channel", 1): -BAD}
    expected = -(CLIPPED_UP + math.exp(-BAD))  # a ratio below 0.8 is no gain to clip
    assert policy_loss(MAHPPOConfig, shifts=opposite) == pytest.approx(expected, rel=1e-4)
    together = {("power", 0): BAD / 2, ("window", 1): BAD / 2}
    expected = -2 * math.exp(BAD / 2)
    assert policy_loss(MAHPPOConfig, shifts=together) == pytest.approx(expected, rel=1e-4)


def test_h_ppo_may_clip_discrete_decisions_and_powers_apart():
    shifts = {("partition", 0): BAD / 2, ("window", 1): BAD / 2, ("power", 1): -BAD}
    loss = policy_loss(HPPOConfig, shifts=shifts, separate_ratios=True)
    assert loss == pytest.approx(-(CLIPPED_UP + math.exp(-BAD)), rel=1e-4)
    assert policy_loss(HPPOConfig, shifts=shifts) == pytest.approx(-1.0, rel=1e-4)


def test_mahppo_may_clip_each_head_by_itself():
    shifts = {("server", 0): BAD, ("power", 0): -BAD}
    loss = policy_loss(MAHPPOConfig, shifts=shifts, ratio_per_head=True)
    assert loss == pytest.approx(-(CLIPPED_UP + math.exp(-BAD) + 3 + 5), rel=1e-4)
    assert policy_loss(MAHPPOConfig, shifts=shifts) == pytest.approx(-2.0, rel=1e-4)


def test_a_device_without_tasks_has_no_say():
    shifts = {("partition", 0): BAD / 2, ("partition", 1): 5.0, ("window", 1): 5.0}
    expected = -math.exp(BAD / 2)
    for config_class in ONE_DECISION_A_WINDOW:
        loss = policy_loss(config_class, shifts=shifts, idle=[1])
        assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("switch", "advantages", "targets"),
    [
        # gamma = lambda = 0.5; deltas are 1 + 0.5 * 1 - 0.5 = 1 and 2 + 0.5 * 4 - 1 = 3.
        (None, [1 + 0.25 * 3, 3], [0.5 + 1.75, 1 + 3]),
        ("gae_without_gamma", [1 + 0.5 * 3, 3], [0.5 + 2.5, 1 + 3]),
        ("one_step_targets", [1.75, 3], [1 + 0.5 * 1, 2 + 0.5 * 4]),
        ("cut_ends_episode", [1 + 0.25 * 1, 1], [0.5 + 1.25, 1 + 1]),
    ],
)
def test_mahppos_switches_change_advantages_and_targets(switch, advantages, targets):
    training = {"gamma": 0.5, "lambda_": 0.5, **({switch: True} if switch else {})}
    rewards, values = np.array([1.0, 2.0]), np.array([0.5, 1.0, 4.0])
    estimated = MAHPPOAdvantages(config=small(MAHPPOConfig, **training)).estimate(
        rewards.reshape(2, 1, 1), values.reshape(3, 1, 1), np.zeros((2, 1), bool)
    )
    np.testing.assert_allclose(estimated[0][:, 0, 0], advantages)
    np.testing.assert_allclose(estimated[1][:, 0, 0], targets)


def test_mahppos_actors_share_nothing_and_h_ppos_everything():
    observation = torch.rand(4, 4)
    for config_class, shared in ((MAHPPOConfig, False), (HPPOConfig, True)):
        module = make_runner(small(config_class)).module[DEFAULT_MODULE_ID]
        outputs = module.forward_train({Columns.OBS: observation})[Columns.ACTION_DIST_INPUTS]
        outputs[:, 0].sum().backward()
        if shared:
            assert all(p.grad is not None for p in module.actor.parameters())
        else:
            for layer in (*module.agent_layers, module.agent_heads):
                assert layer.weight.grad[0].any() and not layer.weight.grad[1].any()
        assert module.compute_values({Columns.OBS: observation}).shape == (4, 1)


def test_agile_nn_runs_side_by_side_by_half_unless_told_otherwise():
    runner = make_runner(small(AgileNNConfig))
    assert runner.scenario.remote_feature_share == 0.5
    assert small(AgileNNConfig).env_config["num_devices"] == 2
    other = AgileNNConfig().environment(env_config={"remote_feature_share": 0.25})
    assert (
        make_runner(other.environment("mec_task_window_v0")).scenario.remote_feature_share == 0.25
    )


@pytest.mark.parametrize(
    ("config_class", "change", "message"),
    [
        (
            AgileNNConfig,
            lambda c: c.environment(env_config={"remote_feature_share": 1}),
            "AgileNN needs a remote_feature_share below 1, but it is 1",
        ),
        (
            HPPOConfig,
            lambda c: c.environment("CartPole-v1"),
            "H-PPO trains on .*mec_time_slot_v0, but env is 'CartPole-v1'",
        ),
        (
            HPPOConfig,
            lambda c: c.rl_module(model_config={"actor_hidden": [8]}),
            "actor_hidden'.*did you mean 'actor_hiddens'",
        ),
        (
            MAHPPOConfig,
            lambda c: c.training(ratio_per_head="no"),
            "ratio_per_head must be true or false, but is 'no'",
        ),
    ],
)
def test_bad_configs_are_named_in_one_line(config_class, change, message):
    with pytest.raises(MecError, match=message) as error:
        change(small(config_class)).validate()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("config_class", ONE_DECISION_A_WINDOW)
def test_a_time_slot_has_one_decision_anyway(config_class):
    config = small(config_class).environment("mec_time_slot_v0")
    runner = make_runner(config)
    batch = train_batch(runner, runner.sample(num_timesteps=16))
    assert batch["partition"].shape == (16, 2, 1)
    assert batch["window"].max() == 0
