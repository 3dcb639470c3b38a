"""The warm start from a planner, what the networks see, and the average-reward objective."""

import numpy as np
import pytest
import torch
from joint import most_likely, train_batch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns

from rllib_mec.algorithms.columns import PLAYED
from rllib_mec.algorithms.distributions import HEADS
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig, teachers
from rllib_mec.algorithms.emh_ppo.imitation import demonstrate, imitate
from rllib_mec.algorithms.env_runner import TaskWindowEnvRunner
from rllib_mec.algorithms.joint_ppo.connectors import PerTaskAdvantages
from rllib_mec.envs.task_window import TaskWindowMDP
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.streams import DEMONSTRATION_SEED
from rllib_mec.policies import Lookahead, Planner, PlannerBudget, ShortestQueue
from rllib_mec.policies.checkpoint import JointModulePolicy
from rllib_mec.registry import make_mdp

QUICK = PlannerBudget(refined=2, rounds=5, proposals=2, samples=16, final_samples=32)
SCENARIO = {"num_devices": 2, "mean_tasks": 10}


def config(**training) -> EMHPPOConfig:
    return (
        EMHPPOConfig()
        .environment("mec_task_window_v0", env_config=SCENARIO)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=128, minibatch_size=64, num_epochs=1, **training)
        .debugging(seed=3)
    )


def runner(**training) -> TaskWindowEnvRunner:
    return TaskWindowEnvRunner(config=config(**training), worker_index=0, num_workers=0)


def queue_mean(batch, rows: slice) -> float:
    return float(batch[Columns.OBS][rows, :2].mean())


def test_demonstrations_hold_the_planners_decisions_and_discounted_returns():
    planner = Planner(Scenario(**SCENARIO), budget=QUICK, cache=False)
    batch = demonstrate(planner, 480, config(gamma=0.5))
    decisions = planner.decide(batch[Columns.OBS])
    for head in HEADS:
        np.testing.assert_array_equal(batch[head], decisions[head])
    queues = np.rint(batch[Columns.OBS][:, :2] * 10)
    np.testing.assert_array_equal(
        batch[PLAYED].sum(-1), np.minimum(queues, decisions["window"] + 1)
    )
    # World 0 stands in every eighth row; its return is its reward and half of the next return.
    targets = batch[Columns.VALUE_TARGETS][::8].sum(1)
    ended = (queues == batch[PLAYED].sum(-1))[::8].all(1)
    worlds = TaskWindowMDP(Scenario(**SCENARIO)).make(8, seed=DEMONSTRATION_SEED + 3)
    equal = queues[:8, 0] == queues[:8, 1]
    assert 0 < equal.sum() < 8 and queues[:8][equal].max() <= 12
    for t in range(10):
        state = worlds.get_state()
        state["queues"][0] = queues[8 * t]
        worlds.set_state(state)
        reward = worlds.step(planner.decide(worlds.observation())).reward[0] / 10.0
        going_on = 0.0 if ended[t] else 0.5
        assert targets[t] == pytest.approx(reward + going_on * targets[t + 1], abs=1e-4)


def test_imitation_makes_the_policy_decide_as_demonstrated():
    planner = Planner(Scenario(**SCENARIO), budget=QUICK, cache=False)
    learner_of = runner()
    shares: list[float] = []
    batch = demonstrate(planner, 3200, config(), tell=shares.append)
    assert len(shares) == 400 and shares == sorted(shares)  # 3200 windows of 8 worlds
    assert queue_mean(batch, slice(0, 1600)) > 2 * queue_mean(batch, slice(1600, None))
    module = learner_of.module[DEFAULT_MODULE_ID]

    observation = torch.from_numpy(batch[Columns.OBS])
    played = batch[PLAYED] > 0

    def errors() -> tuple[float, float]:
        """Of the critic's values, squared, and of the powers."""
        with torch.no_grad():
            values = module.compute_values({Columns.OBS: observation}).numpy()
        powers = most_likely(learner_of, batch[Columns.OBS])["power"]
        return (
            float(np.square(values - batch[Columns.VALUE_TARGETS]).mean()),
            float(np.abs(powers - batch["power"])[played].mean()),
        )

    before = errors()
    shares.clear()
    imitate(module, batch, num_epochs=12, seed=0, tell=shares.append)
    assert shares == pytest.approx(np.arange(300) / 300)  # 25 minibatches an epoch
    after = errors()
    assert after[0] < 0.5 * before[0]
    assert after[1] < 0.7 * before[1]
    actions = most_likely(learner_of, batch[Columns.OBS])
    for head in ("partition", "channel", "server"):
        assert (actions[head] == batch[head])[played].mean() > 0.9, head
    assert (actions["window"] == batch["window"])[played[..., 0]].mean() > 0.8


def test_the_networks_see_how_the_queues_compare():
    module = runner().module[DEFAULT_MODULE_ID]
    observation = torch.tensor([[0.22, 0.2, 0.3, 0.4]])
    features = module.features(observation)
    state, ranks = [0.22, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 1.0]
    # In falling order: the queues in 64 steps of 0.02, of which 11 and 10 are filled; their leads
    # over the shortest in 6 steps.
    queues = [1.0] * 11 + [0.0] * 53 + [1.0] * 10 + [0.0] * 54
    expected = [*state, *ranks, *queues, 1.0, *[0.0] * 11]
    np.testing.assert_allclose(features.numpy(), [expected], atol=1e-5)

    paper = config().rl_module(model_config={"compare_queues": False})
    plain = TaskWindowEnvRunner(config=paper, worker_index=0, num_workers=0)
    assert plain.module[DEFAULT_MODULE_ID].features(observation) is observation


def test_average_reward_counts_rewards_from_their_running_mean():
    centred, plain = runner(average_reward=True, lambda_=1.0), runner(lambda_=1.0)
    pipelines = [r.config.build_learner_connector(None, None) for r in (centred, plain)]
    batches = [
        train_batch(r, r.sample(num_timesteps=240), pipeline)
        for r, pipeline in zip((centred, plain), pipelines, strict=True)
    ]
    np.testing.assert_array_equal(batches[0]["window"], batches[1]["window"])
    share = pipelines[0][PerTaskAdvantages][0].average_shares[0]
    assert share < 0
    # The last window before the end of the batch: the same value follows it in both.
    advantages = [b[Columns.VALUE_TARGETS][-8:] for b in batches]
    np.testing.assert_allclose(advantages[0], advantages[1] - share, atol=1e-4)


@pytest.mark.usefixtures("ray_session")
def test_an_algorithm_imitates_once_before_its_first_iteration(monkeypatch, tmp_path):
    made = []

    def planner(mdp, budget):
        made.append(budget)
        return Planner(mdp, budget=QUICK, cache=False)

    monkeypatch.setattr(teachers, "Planner", planner)
    warm = config(demonstrations=2000, imitation_epochs=12, lr=0.0).build_algo()
    cold = config(lr=0.0).build_algo()
    try:
        result, other = warm.train(), cold.train()
        assert len(made) == 1
        steps = result["env_runners"]["num_env_steps_sampled_lifetime"]
        assert steps == other["env_runners"]["num_env_steps_sampled_lifetime"] == 128
        kinds = ("entropy_window", "entropy_partition")
        losses = [r["learners"][DEFAULT_MODULE_ID] for r in (result, other)]
        for kind in kinds:
            assert losses[0][kind] < 0.7 * losses[1][kind]
        path = warm.save_to_path(tmp_path / "checkpoint")
        Algorithm.from_checkpoint(path).train()
        assert len(made) == 1
    finally:
        warm.stop()
        cold.stop()


@pytest.mark.usefixtures("ray_session")
def test_search_teaches_what_it_betters_and_then_the_networks_themselves(monkeypatch):
    bettered = []

    def lookahead(policy, candidates, **kwargs):
        bettered.append((policy.name, candidates))
        return Lookahead(policy, candidates, **kwargs)

    monkeypatch.setattr(teachers, "Lookahead", lookahead)
    taught = config(
        demonstrations=800,
        teacher="search",
        lessons=2,
        lesson_interval=2,
        search_candidates=8,
        imitation_epochs=24,
    ).rl_module(model_config={"model": "set"})
    algo = taught.training(lr=0.0).build_algo()
    try:
        for _ in range(2):
            algo.train()
        assert bettered == [("shortest queue", 8)]
        algo.train()
        assert bettered[1:] == [("EMH-PPO", 8)]
        mdp = make_mdp("mec_task_window_v0", SCENARIO)
        policy = JointModulePolicy("EMH-PPO", mdp, algo.get_module())
        of = evaluate(policy, mdp, episodes=20)["reward"].mean
        rule = evaluate(ShortestQueue(mdp), mdp, episodes=20)["reward"].mean
        assert of > rule
    finally:
        algo.stop()


def test_bad_values_are_told_in_one_line():
    with pytest.raises(MecError, match="search_candidates is for teacher 'search', but is 8"):
        config(search_candidates=8).validate()
    with pytest.raises(MecError, match="lessons is for teacher 'search', but is 2"):
        config(demonstrations=10, lessons=2).validate()
    with pytest.raises(MecError, match="demonstrations must be"):
        config(demonstrations=-1).validate()
    slots = config(demonstrations=10).environment("mec_time_slot_v0", env_config={"num_devices": 2})
    with pytest.raises(MecError, match="expected 0 for mec_time_slot_v0"):
        slots.validate()
