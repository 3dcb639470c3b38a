import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.distribution.torch.torch_distribution import TorchDeterministic

from rllib_mec.envs import TaskWindowMDP, TimeSlotMDP
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import (
    FullOffload,
    LocalOnly,
    Neurosurgeon,
    RandomPolicy,
    RoundRobin,
    ShortestQueue,
    load_policy,
)
from rllib_mec.registry import ENVIRONMENTS, make_mdp


@pytest.fixture
def scenario():
    return Scenario(num_devices=4, max_window=3)


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize(
    "make", [LocalOnly, FullOffload, RandomPolicy, Neurosurgeon, RoundRobin, ShortestQueue]
)
def test_decisions_can_be_played(make, name):
    mdp = make_mdp(name, {"num_devices": 4})
    worlds = mdp.make(6)
    step = worlds.step(make(mdp).decide(worlds.reset()))
    assert (step.reward < 0).all()


def test_a_scenario_stands_for_its_task_windows(scenario):
    policy = LocalOnly(scenario)
    assert policy.mdp == TaskWindowMDP(scenario) and policy.scenario is scenario
    slots = LocalOnly(TimeSlotMDP(scenario))
    assert slots.scenario == scenario.replace(max_window=1)
    assert slots.decide(np.zeros((2, 8), np.float32))["partition"].shape == (2, 4, 1)


def test_full_offload_sends_the_input_and_deals_devices_in_turn(scenario):
    actions = FullOffload(scenario).decide(np.zeros((2, 8), np.float32))
    assert (actions["partition"] == 0).all()
    assert actions["server"][0, :, 0].tolist() == [0, 1, 0, 1]
    # 20 mW is 13.01 dBm of a 30 dBm scale.
    assert actions["power"][0, 0, 0] == pytest.approx(13.0103 / 30, rel=1e-4)


@pytest.mark.parametrize("power_w", [0.0, -1.0, 2.0])
def test_full_offload_names_a_power_out_of_range(scenario, power_w):
    with pytest.raises(MecError, match=r"power_w must lie in \[0.001, 1\]"):
        FullOffload(scenario, power_w=power_w)


def test_random_repeats_with_its_seed(scenario):
    observation = np.zeros((2, 8), np.float32)
    first, second = (RandomPolicy(scenario, seed=5).decide(observation) for _ in range(2))
    assert all(np.array_equal(first[k], second[k]) for k in first)


def test_a_path_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(MecError, match="no such checkpoint"):
        load_policy(tmp_path / "nowhere")
    with pytest.raises(MecError, match="is not a checkpoint and holds none"):
        load_policy(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "policies"),
    [("mec_task_window_v0", {"md_0", "md_1"}), ("mec_time_slot_v0", {"shared"})],
)
def test_stock_ppo_trains_on_the_env_and_its_checkpoint_acts_as_its_connectors_do(
    name, policies, ray_session, tmp_path, monkeypatch
):
    # RLlib 2.60 gives the log-probability of a deterministic action the action's own shape, so that
    # those of a Dict action cannot be added up, and its runners fail with explore=False.
    monkeypatch.setattr(
        TorchDeterministic, "logp", lambda self, value, **kwargs: torch.zeros(len(value))
    )
    shared = "shared" in policies
    config = (
        PPOConfig()
        .environment(name, env_config={"num_devices": 2, "mean_tasks": 5})
        .env_runners(num_env_runners=0)
        .multi_agent(
            policies=policies,
            policy_mapping_fn=lambda agent, episode, **kw: "shared" if shared else agent,
        )
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1)
    )
    algorithm = config.build_algo()
    try:
        assert np.isfinite(algorithm.train()["env_runners"]["episode_return_mean"])
        policy = load_policy(algorithm.save_to_path(tmp_path / "checkpoint"))
        assert policy.name == "PPO"

        # The stock runner, its connectors included, must play what the policy decides.
        runner = algorithm.env_runner
        runner.module.set_state(algorithm.learner_group.get_weights())
        (episode,) = runner.sample(num_episodes=1, explore=False, force_reset=True)
        for agent in range(2):
            history = episode.agent_episodes[f"md_{agent}"]
            observations = np.stack(history.get_observations())[:-1]
            decided = policy.decide(observations[:, :4])
            played = history.get_actions()
            for head in ("partition", "channel", "server", "window"):
                np.testing.assert_array_equal(decided[head][:, agent], played[head])
    finally:
        algorithm.stop()
