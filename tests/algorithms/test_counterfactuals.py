"""Credit for each MD by simulation of what it might have done instead."""

import numpy as np
import pytest
import torch
from joint import make_learner, make_runner, train_batch

from rllib_mec.algorithms.columns import CREDIT, PLAYED
from rllib_mec.algorithms.distributions import TASK_HEADS
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.envs.vector import VectorStep
from rllib_mec.errors import MecError


def runner(counterfactuals: int):
    return make_runner(
        EMHPPOConfig()
        .environment("mec_task_window_v0", env_config={"num_devices": 2, "mean_tasks": 6})
        .env_runners(num_envs_per_env_runner=16)
        .training(counterfactuals=counterfactuals, reward_scale=2.0)
        .debugging(seed=5)
    )


class SumOfServers:
    """VectorEnv whose reward is the sum of the servers' numbers that were decided for."""

    def simulate(self, actions) -> VectorStep:
        total = actions["server"].sum((1, 2)).astype(float)
        return VectorStep(*([None] * len(VectorStep._fields)))._replace(reward=total)


def test_credit_is_the_gain_over_decisions_drawn_anew():
    sampler = runner(counterfactuals=1)
    decision = sampler._actor.decide(
        sampler.env.observation(), [], explore=True, at_random=False, iteration=0
    )
    generator = torch.Generator()
    generator.set_state(sampler._generator.get_state())
    credit = sampler.credit(SumOfServers(), decision)[CREDIT]
    anew = decision.dist.sample(generator=generator)["server"].numpy()
    # An MD's own servers against those it might have drawn; the other MD's cancel.
    gain = (decision.actions["server"] - anew).sum(2)
    np.testing.assert_allclose(credit, gain / 2.0)
    assert np.abs(credit).max() > 0


def test_an_md_that_decides_nothing_gets_no_credit_and_the_scale_is_one():
    sampler = runner(counterfactuals=2)
    batch = train_batch(sampler, sampler.sample(num_timesteps=320))
    idle = batch[PLAYED][:, :, 0] == 0
    assert idle.any() and not idle.all()
    assert (batch[CREDIT][idle] == 0).all()
    assert batch[CREDIT].std().item() == pytest.approx(1.0, abs=1e-2)


def test_the_window_that_is_judged_is_the_one_that_is_played():
    sampler = runner(counterfactuals=0)
    decision = sampler._actor.decide(
        sampler.env.observation(), [], explore=True, at_random=False, iteration=0
    )
    simulated = sampler.env.simulate(decision.played).reward
    assert sampler.env.step(decision.played).reward == pytest.approx(simulated)


def test_the_learner_credits_each_md_with_its_own():
    sampler = runner(counterfactuals=1)
    batch = train_batch(sampler, sampler.sample(num_timesteps=32))
    learner = make_learner(sampler.config, sampler)
    played = batch[PLAYED]
    log_ratio = {head: torch.zeros_like(played) for head in TASK_HEADS}
    log_ratio["window"] = torch.zeros_like(played[..., 0])
    task, window = learner.policy_terms(log_ratio, played, batch)
    assert task.advantages.shape == played.shape
    assert torch.equal(task.advantages[:, :, 3], batch[CREDIT])
    assert window.advantages.shape == (32, 1)


def test_without_counterfactuals_there_is_no_such_column():
    sampler = runner(counterfactuals=0)
    assert CREDIT not in train_batch(sampler, sampler.sample(num_timesteps=16))


def test_time_slots_have_no_counterfactuals():
    config = (
        EMHPPOConfig().environment("mec_time_slot_v0", env_config={}).training(counterfactuals=2)
    )
    with pytest.raises(MecError, match="expected 0 for mec_time_slot_v0, but counterfactuals is 2"):
        config.validate()
