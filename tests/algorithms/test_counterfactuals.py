"""Credit for each MD by simulation of what it might have done instead."""

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns

from rllib_mec.algorithms.columns import CREDIT, PLAYED
from rllib_mec.algorithms.distributions import TASK_HEADS, HybridActionDistribution
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.algorithms.emh_ppo.env_runner import EMHPPOEnvRunner
from rllib_mec.algorithms.joint_ppo.train_batch import make_train_batch
from rllib_mec.errors import MecError


def runner(counterfactuals: int) -> EMHPPOEnvRunner:
    config = (
        EMHPPOConfig()
        .environment("mec_task_window_v0", env_config={"num_devices": 2, "mean_tasks": 6})
        .env_runners(num_envs_per_env_runner=16)
        .training(counterfactuals=counterfactuals, reward_scale=2.0)
        .debugging(seed=5)
    )
    return EMHPPOEnvRunner(config=config, worker_index=0, num_workers=0)


def test_credit_is_the_gain_over_decisions_drawn_anew_under_the_same_shadowing():
    sampler = runner(counterfactuals=1)
    observation = torch.from_numpy(sampler.env.observation())
    actions, _ = sampler._act(observation, explore=True)
    generator = torch.Generator()
    generator.set_state(sampler._generator.get_state())

    credit = sampler.credit(observation, actions)[CREDIT].numpy()

    outputs = sampler.module[DEFAULT_MODULE_ID].forward_exploration({Columns.OBS: observation})
    dist = HybridActionDistribution(outputs[Columns.ACTION_DIST_INPUTS], sampler.layout)
    drawn = sampler.layout.playable(dist.sample(generator=generator))
    own = sampler.env.simulate(actions).reward
    for n in range(2):
        changed = {head: actions[head].copy() for head in TASK_HEADS}
        for head in TASK_HEADS:
            changed[head][:, n] = drawn[head][:, n]
        other = sampler.env.simulate({**changed, "window": actions["window"]}).reward
        np.testing.assert_allclose(credit[:, n], (own - other) / 2.0, rtol=1e-5, atol=1e-5)
    assert sampler.env.step(actions).reward == pytest.approx(own)  # the window really played


def test_an_md_that_decides_nothing_gets_no_credit_and_the_scale_is_one():
    batch = runner(counterfactuals=2).sample(num_timesteps=320)[0]
    rows = batch[DEFAULT_MODULE_ID]
    idle = rows[PLAYED][:, :, 0] == 0
    assert idle.any() and not idle.all()
    assert (rows[CREDIT][idle] == 0).all()
    trained = make_train_batch([batch], per_task_advantages=True)[DEFAULT_MODULE_ID]
    assert trained[CREDIT].std() == pytest.approx(1.0, abs=1e-3)


def test_the_learner_credits_each_md_with_its_own():
    batch = runner(counterfactuals=1).sample(num_timesteps=32)[0]
    data = make_train_batch([batch], per_task_advantages=True)[DEFAULT_MODULE_ID]
    learner = runner(1).config.build_learner(spaces=runner(1).get_spaces())
    tensors = {name: torch.from_numpy(np.asarray(values)) for name, values in data.items()}
    played = tensors[PLAYED]
    log_ratio = {head: torch.zeros_like(played) for head in TASK_HEADS}
    log_ratio["window"] = torch.zeros_like(played[..., 0])
    task, window = learner.policy_terms(log_ratio, played, tensors)
    assert task.advantages.shape == played.shape
    assert torch.equal(task.advantages[:, :, 3], tensors[CREDIT])
    assert window.advantages.shape == (32, 1)


def test_without_counterfactuals_there_is_no_such_column():
    assert CREDIT not in runner(counterfactuals=0).sample(num_timesteps=16)[0][DEFAULT_MODULE_ID]


def test_time_slots_have_no_counterfactuals():
    config = (
        EMHPPOConfig().environment("mec_time_slot_v0", env_config={}).training(counterfactuals=2)
    )
    with pytest.raises(MecError, match="expected 0 for mec_time_slot_v0, but counterfactuals is 2"):
        config.validate()
