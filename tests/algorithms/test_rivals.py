"""MAPPO and MAT: whose decisions depend on whose, what is clipped, and that they come back."""

import math

import numpy as np
import pytest
import torch
from joint import loss_of, make_learner, make_runner, most_likely, small, train_batch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns

from rllib_mec.algorithms.columns import PLAYED, TASK_LOGP, WINDOW_ADVANTAGES, WINDOW_LOGP
from rllib_mec.algorithms.distributions import HEADS, TASK_HEADS, HybridActionDistribution
from rllib_mec.algorithms.mappo import MAPPOConfig
from rllib_mec.algorithms.mat import MATConfig
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import load_policy

SIZES = {"width": 16, "num_layers": 1, "num_heads": 2, "critic_hidden": 16}
RIVALS = (MAPPOConfig, MATConfig)
UNLIKE = {"devices": [{"count": 1}, {"count": 2, "dnn": "mobilenet_v2", "memory_mb": 5.0}],
          "num_devices": None, "partition": "vertical"}  # fmt: skip


def config(config_class, env_config=None, model_config=None, **training):
    own = small(config_class, **(env_config or {})).training(**training)
    return own.rl_module(model_config={**SIZES, **(model_config or {})})


def away_from_uniform(runner):
    """The runner's module, far from the start, at which all decisions are near uniform."""
    module = runner.module[DEFAULT_MODULE_ID]
    torch.manual_seed(0)
    with torch.no_grad():
        module.actor.heads.weight.normal_()
    return module


def head_logp(module, batch):
    inputs = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    return HybridActionDistribution(inputs, module.layout).head_logp(batch)


@pytest.mark.parametrize("per_task", [True, False])
@pytest.mark.parametrize("env_config", [{"num_devices": 3}, UNLIKE])
@pytest.mark.parametrize("config_class", RIVALS)
def test_the_learner_finds_the_probabilities_that_were_drawn_by(config_class, env_config, per_task):
    runner = make_runner(config(config_class, env_config, decision_per_task=per_task))
    module = away_from_uniform(runner)
    batch = train_batch(runner, runner.sample(num_timesteps=64))
    assert batch["partition"].shape == (64, 3, 5 if per_task else 1)
    assert batch[Columns.ADVANTAGES].shape == batch[Columns.VALUE_TARGETS].shape == (64, 1)
    found = head_logp(module, batch)
    for head, drawn in zip(TASK_HEADS, batch[TASK_LOGP].unbind(-1), strict=True):
        torch.testing.assert_close(found[head], drawn, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["window"], batch[WINDOW_LOGP], rtol=1e-4, atol=1e-4)
    assert torch.isfinite(loss_of(make_learner(runner.config, runner), batch))


@pytest.mark.parametrize("order", ["falling_queues", "listed"])
def test_mat_decides_in_order_and_knows_what_those_before_have_decided(order):
    env_config = {"num_devices": 3, "mean_tasks": 30}
    runner = make_runner(config(MATConfig, env_config, {"order": order}))
    module = away_from_uniform(runner)
    batch = train_batch(runner, runner.sample(num_timesteps=64))
    queues = batch[Columns.OBS][:, :3]
    turns = torch.arange(3).expand(64, 3)
    if order == "falling_queues":
        turns = queues.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    before = head_logp(module, batch)
    sizes = {"partition": module.layout.num_points, "channel": 2, "server": 2, "window": 5}
    for head in HEADS:
        for changed in range(3):
            others = batch[head].clone()
            value = others[:, changed]
            others[:, changed] = (
                (value.clamp(0, 1) + 0.5) % 1 if head == "power" else (value + 1) % sizes[head]
            )
            after = head_logp(module, {**batch, head: others})
            moved = sum((after[h] - before[h]).abs().reshape(64, 3, -1).sum(-1) for h in HEADS)
            later = turns > turns[:, [changed]]
            has_tasks = (queues[:, changed] > 0).unsqueeze(1)
            assert (moved[turns < turns[:, [changed]]] == 0).all(), head
            if (later & has_tasks).any():
                assert (moved[later & has_tasks] > 0).float().mean() > 0.9, head
            assert (moved[later & ~has_tasks] == 0).all(), head  # it does nothing


def test_mappos_devices_decide_from_what_all_show_but_not_from_decisions():
    runner = make_runner(config(MAPPOConfig))
    module = away_from_uniform(runner)
    batch = train_batch(runner, runner.sample(num_timesteps=16))
    inputs = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    alone = module.forward_train({Columns.OBS: batch[Columns.OBS]})[Columns.ACTION_DIST_INPUTS]
    torch.testing.assert_close(inputs, alone, rtol=0, atol=0)
    seen = batch[Columns.OBS].clone()
    seen[:, 0] += 0.5
    other = module.forward_train({Columns.OBS: seen})[Columns.ACTION_DIST_INPUTS]
    assert (other[:, 1] - inputs[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("config_class", RIVALS)
def test_each_device_has_one_ratio_for_all_its_decisions_of_a_window(config_class):
    own = config(config_class, entropy_coeff=0.0, vf_loss_coeff=0.0)
    runner = make_runner(own)
    batch = train_batch(runner, runner.sample())
    batch[WINDOW_ADVANTAGES] = torch.ones_like(batch[WINDOW_ADVANTAGES])
    batch[PLAYED] = torch.ones_like(batch[PLAYED])
    learner = make_learner(own, runner)
    batch[TASK_LOGP][:, 0, 0, 0] -= 0.3  # one device's, in two of its decisions
    batch[TASK_LOGP][:, 0, 4, 1] += 0.3
    batch[TASK_LOGP][:, 1, 2, 3] -= 0.2  # another's, clipped at 1.2
    batch[WINDOW_LOGP][:, 1] -= 0.1
    assert loss_of(learner, batch).item() == pytest.approx(-(1.0 + 1.2), rel=1e-4)
    batch[WINDOW_LOGP][:, 0] += 0.3
    assert loss_of(learner, batch).item() == pytest.approx(-(math.exp(-0.3) + 1.2), rel=1e-4)
    batch[PLAYED][:, 1] = 0.0  # nothing to do
    assert loss_of(learner, batch).item() == pytest.approx(-math.exp(-0.3), rel=1e-4)


@pytest.mark.parametrize("config_class", RIVALS)
def test_gradients_reach_every_weight(config_class):
    runner = make_runner(config(config_class, UNLIKE))
    away_from_uniform(runner)
    learner = make_learner(runner.config, runner)
    loss_of(learner, train_batch(runner, runner.sample())).backward()
    for name, parameter in learner.module[DEFAULT_MODULE_ID].named_parameters():
        if name != "critic.of_slot.weight":  # of MAPPO's whole windows, in place of the first slot
            assert parameter.grad is not None and parameter.grad.any(), name


def test_mat_at_random_is_uniform_whatever_it_would_draw():
    runner = make_runner(config(MATConfig))
    away_from_uniform(runner)
    batch = train_batch(runner, runner.sample(num_timesteps=64, random_actions=True))
    torch.testing.assert_close(
        batch[WINDOW_LOGP], torch.full_like(batch[WINDOW_LOGP], -math.log(5.0))
    )


def test_mat_learns_by_the_exact_kl_divergence_and_with_pieces_of_the_users():
    from ray.rllib.connectors.env_to_module import FlattenObservations

    own = config(MATConfig, use_kl_loss=True)
    own.env_runners(env_to_module_connector=lambda *args: FlattenObservations())
    runner = make_runner(own)
    module = away_from_uniform(runner)
    batch = train_batch(runner, runner.sample(num_timesteps=64))
    torch.testing.assert_close(
        head_logp(module, batch)["window"], batch[WINDOW_LOGP], rtol=1e-4, atol=1e-4
    )
    learner = make_learner(own, runner)
    assert torch.isfinite(loss_of(learner, batch))


@pytest.mark.parametrize(
    ("config_class", "change", "message"),
    [
        (MATConfig, lambda c: c.rl_module(model_config={"order": "falling"}),
         "model_config: unknown order 'falling': did you mean 'falling_queues'"),
        (MAPPOConfig, lambda c: c.rl_module(model_config={"order": "listed"}),
         "unknown model_config key 'order'"),
        (MATConfig, lambda c: c.rl_module(model_config={"num_heads": 3}),
         "width must be a multiple of num_heads, 3"),
        (MAPPOConfig, lambda c: c.training(decision_per_task="yes"),
         "decision_per_task must be true or false, but is 'yes'"),
        (MATConfig, lambda c: c.env_runners(observation_filter="MeanStdFilter"),
         "observation_filter must be 'NoFilter' for MAT, which compares queues"),
        (MAPPOConfig, lambda c: c.environment("CartPole-v1"), "MAPPO trains on .*'CartPole-v1'"),
    ],
)  # fmt: skip
def test_bad_settings_are_named_in_one_line(config_class, change, message):
    with pytest.raises(MecError, match=message) as error:
        change(config(config_class)).validate()
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(("config_class", "per_task"), [(MAPPOConfig, False), (MATConfig, True)])
def test_saved_restored_and_as_a_policy_it_acts_the_same(
    config_class, per_task, ray_session, tmp_path
):
    algorithm = config(config_class, decision_per_task=per_task).build_algo()
    restored = None
    try:
        result = algorithm.train()
        assert np.isfinite(result["learners"][DEFAULT_MODULE_ID]["policy_loss"])
        path = algorithm.save_to_path(tmp_path / "checkpoint")
        restored = Algorithm.from_checkpoint(path)
        policy = load_policy(path)
        assert policy.name == type(algorithm).__name__
        observation = np.random.default_rng(0).random((16, 4), dtype=np.float32)
        expected = policy.decide(observation)
        for each in (algorithm, restored):
            played = most_likely(each.env_runner, observation)
            for head in HEADS:
                np.testing.assert_array_equal(played[head], expected[head], err_msg=head)
        # Of no size that depends on the scenario.
        elsewhere = load_policy(path, Scenario(num_devices=4, num_servers=3, mean_tasks=4))
        assert elsewhere.module.layout.num_decisions == (5 if per_task else 1)
        assert evaluate(elsewhere, episodes=2)["reward"].mean < 0
    finally:
        algorithm.stop()
        if restored is not None:
            restored.stop()
