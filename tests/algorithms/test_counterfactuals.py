"""Credit for each MD by simulation of what it might have done instead."""

import numpy as np
import pytest
import torch
from joint import make_learner, make_runner, train_batch

from rllib_mec.algorithms.acting import Decision
from rllib_mec.algorithms.columns import CREDIT, PLAYED
from rllib_mec.algorithms.distributions import TASK_HEADS
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.errors import MecError


def runner(counterfactuals: int):
    return make_runner(
        EMHPPOConfig()
        .environment("mec_task_window_v0", env_config={"num_devices": 2, "mean_tasks": 6})
        .env_runners(num_envs_per_env_runner=16)
        .training(counterfactuals=counterfactuals, reward_scale=2.0)
        .debugging(seed=5)
    )


class Draws:
    """A policy whose draws are known: all MDs send the input at 15 dBm, then all compute alone."""

    def __init__(self, shape):
        zeros = np.zeros(shape, int)
        self.local = {**dict.fromkeys(("channel", "server"), zeros), "window": zeros[..., 0]}
        self.local |= {"partition": zeros + FULL_LOCAL, "power": np.full(shape, 0.5)}
        self.left = [{**self.local, "partition": zeros}, self.local]

    def sample(self, generator):
        return {head: torch.from_numpy(values) for head, values in self.left.pop(0).items()}


FULL_LOCAL = 4  # of ResNet-50's five points
LOCAL_MS, LOCAL_J = 5 * 8.603, 4089.184256e-5  # Table IV; zeta times the MMACs, Eq. (3)


def test_credit_is_what_eq_8_gains_over_the_mean_of_decisions_drawn_anew():
    sampler = make_runner(
        EMHPPOConfig()
        .environment(
            "mec_task_window_v0",
            env_config={"num_devices": 2, "max_window": 1, "shadowing_std_db": 0.0},
        )
        .env_runners(num_envs_per_env_runner=4)
        .training(counterfactuals=2, reward_scale=2.0)
    )
    policy = Draws((4, 2, 1))
    decision = Decision(policy.local, policy.local, {}, policy)
    credit = sampler.credit(sampler.env, decision)[CREDIT]
    # Both compute alone: no waiting, a task each, beta/N = 25.
    own = -(LOCAL_MS + 25 * 2 * LOCAL_J)
    # One sends 3x224x224 float32 at 15 dBm without interference, Eq. (1); in the paper's physics
    # a second of it counts as 1 ms, Eq. (2). It then waits for the other, alpha = 0.05.
    power_w = 10**1.5 / 1000
    rate_bps = 1e6 * np.log2(1 + power_w * sampler.env.distances_m**-3.0 / 1e-9)
    on_air_s = 3 * 224 * 224 * 32 / rate_bps
    waiting_ms = (LOCAL_MS - (on_air_s + 8.603)) / 2
    other = -(LOCAL_MS + 0.05 * waiting_ms + 25 * (LOCAL_J + power_w * on_air_s))
    # The second draw is what was done anyway, and gains nothing; rewards are halved.
    np.testing.assert_allclose(credit, (own - other) / 2 / 2, rtol=1e-5)
    assert np.unique(credit).size == 8  # each MD by its own distance


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
