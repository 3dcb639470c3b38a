"""What RLlib's own algorithms cannot do with a view is said in one line before anything starts."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from ray.rllib.algorithms.bc import BCConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.algorithms.multi_agent_env import one_policy_for_all
from rllib_mec.algorithms.stock_checks import check_restore, check_stock
from rllib_mec.errors import MecError
from rllib_mec.experiments import experiment
from rllib_mec.policies import load_policy

ENV = "mec_task_window_v0"
LSTM = DefaultModelConfig(use_lstm=True)
GREEDY = {"evaluation_interval": 1, "evaluation_config": {"explore": False}}
FLAT = {"actions": "flat"}
CONTINUOUS = {"actions": "continuous", "fixed_partition": 0}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DQNConfig().environment(ENV, env_config=FLAT), "DQN chooses one of a few actions"),
        (SACConfig().environment(ENV), "SAC takes continuous actions only, not actions='dict'"),
        (SACConfig().environment(ENV, env_config=FLAT), "not actions='flat'"),
        (
            SACConfig().environment(ENV, env_config=CONTINUOUS).rl_module(model_config=LSTM),
            "SAC has no networks with an LSTM",
        ),
        (PPOConfig().environment(ENV).evaluation(**GREEDY), "explore=False: .*actions: flat"),
        (PPOConfig().environment(ENV).rl_module(model_config=LSTM), "LSTM .*actions: flat"),
        (
            PPOConfig().environment("CartPole-v1").env_runners(observation_filter="MeanStdFilter"),
            "ignores observation_filter='MeanStdFilter': give an env_to_module_connector",
        ),
    ],
)
def test_what_would_fail_inside_ray_is_refused(config, message):
    with pytest.raises(MecError, match=message) as error:
        check_stock(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        PPOConfig().environment(ENV),
        PPOConfig().environment(ENV).evaluation(evaluation_interval=1),
        PPOConfig().environment(ENV, env_config=FLAT).evaluation(**GREEDY),
        PPOConfig().environment(ENV, env_config=CONTINUOUS).rl_module(model_config=LSTM),
        SACConfig().environment(ENV, env_config=CONTINUOUS),
        DQNConfig().environment("CartPole-v1").evaluation(**GREEDY),
    ],
)
def test_what_works_passes(config):
    check_stock(config.multi_agent(policies={"shared"}, policy_mapping_fn=one_policy_for_all))


def test_who_acts_by_which_policy_must_be_said():
    with pytest.raises(MecError, match=r"PPO must be told who acts.*one_policy_for_all"):
        check_stock(PPOConfig().environment(ENV))
    check_stock(PPOConfig().environment("CartPole-v1"))
    check_stock(EMHPPOConfig().environment(ENV))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"run": "SAC", "config": {"env_config": FLAT}}, "SAC takes continuous actions only"),
        ({"run": "PPO", "config": {"env_config": {"actions": "flatt"}}}, "did you mean 'flat'"),
        ({"run": "PPO", "config": {"env_config": {"fixed_partition": 1}}}, "not for 'dict'"),
        ({"run": "EMH-PPO", "config": {"env_config": FLAT}}, "EMH-PPO has a distribution of its"),
    ],
)
def test_rllib_train_refuses_it_before_anything_starts(spec, message):
    with pytest.raises(MecError, match=message):
        experiment.check("x", {"env": ENV, **spec}, notify=lambda line: None)


def test_what_ray_cannot_restore_is_refused():
    check_restore(EMHPPOConfig().environment(ENV))
    with pytest.raises(MecError, match="cannot restore BC without an environment"):
        check_restore(BCConfig())


def test_emh_ppo_refuses_other_views_in_python_too():
    config = EMHPPOConfig().environment(ENV, env_config=FLAT)
    with pytest.raises(MecError, match="actions='flat' is for RLlib's algorithms, leave it out"):
        config.validate()


@pytest.mark.slow
@pytest.mark.parametrize("view", [FLAT, CONTINUOUS], ids=lambda view: view["actions"])
def test_a_checkpoint_trained_on_a_view_acts_as_its_connectors_do(view, ray_session, tmp_path):
    config = (
        PPOConfig()
        .environment(ENV, env_config={"num_devices": 2, "mean_tasks": 5, **view})
        .env_runners(num_env_runners=0)
        .multi_agent(policies={"shared"}, policy_mapping_fn=one_policy_for_all)
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1)
    )
    algorithm = config.build_algo()
    try:
        algorithm.train()
        policy = load_policy(algorithm.save_to_path(tmp_path / "checkpoint"))
        runner = algorithm.env_runner
        runner.module.set_state(algorithm.learner_group.get_weights())
        (episode,) = runner.sample(num_episodes=1, explore=False, force_reset=True)
        env = runner.env.envs[0].unwrapped.par_env
        for agent in range(2):
            history = episode.agent_episodes[f"md_{agent}"]
            decided = policy.decide(np.stack(history.get_observations())[:-1, :4])
            # Episodes keep what the module said; a Box is clipped and unsquashed on its way out.
            rows = np.stack([history.get_actions(t) for t in range(len(history))])
            if view is CONTINUOUS:
                rows = np.clip((rows + 1.0) / 2.0, 0.0, 1.0)
            played = env.view.decode(rows)
            for head, values in played.items():
                np.testing.assert_allclose(decided[head][:, agent], values, atol=1e-6)
    finally:
        algorithm.stop()


@pytest.mark.slow
def test_a_checkpoint_with_an_lstm_is_refused_as_a_policy(ray_session, tmp_path):
    config = (
        PPOConfig()
        .environment(ENV, env_config={"num_devices": 2, "mean_tasks": 5, **FLAT})
        .env_runners(num_env_runners=0)
        .multi_agent(policies={"shared"}, policy_mapping_fn=one_policy_for_all)
        .rl_module(model_config=LSTM)
    )
    algorithm = config.build_algo()
    path = algorithm.save_to_path(tmp_path / "checkpoint")
    algorithm.stop()
    with pytest.raises(MecError, match="keeps a state from step to step"):
        load_policy(path)


@pytest.fixture(scope="module")
def stock_rllib():
    file = Path(__file__).parents[2] / "benchmarks" / "stock_rllib.py"
    spec = importlib.util.spec_from_file_location("stock_rllib", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["stock_rllib"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "view", "what", "outcome"),
    [
        ("PPO", "dict", "training", "works"),
        ("PPO", "dict", "LSTM", "refused: RLlib cannot use an LSTM with a Dict action"),
        ("PPO", "flat", "greedy evaluation", "works"),
        ("PPO", "flat", "LSTM", "works"),
        ("PPO", "continuous", "restore", "works"),
        ("DQN", "flat", "training", "refused: DQN chooses one of a few actions"),
    ],
)
def test_the_cheap_cells_of_the_table_come_out_as_measured(
    stock_rllib, algorithm, view, what, outcome, ray_session
):
    found = stock_rllib.try_cell(stock_rllib.Cell(algorithm, view, what), {})
    assert found.startswith(outcome)


def test_the_page_has_a_row_for_each_view_and_a_note_for_what_does_not_work(stock_rllib):
    cell = stock_rllib.Cell("PPO", "dict", "training")
    other = stock_rllib.Cell("PPO", "dict", "LSTM")
    text = stock_rllib.page({cell: "works", other: "refused: not with a Dict"})
    assert "| PPO | dict | works | – | refused [1] | – | – | – |" in text
    assert "1. refused: not with a Dict" in text
