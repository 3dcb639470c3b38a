"""Good experiments: what they become, and which old names and spellings they may use."""

from __future__ import annotations

import pytest

from rllib_mec.errors import MecError
from rllib_mec.experiments import config_schema, experiment
from rllib_mec.experiments.documents import read_yaml


def check(notes=None, **changes):
    spec = {"run": "PPO", "env": "CartPole-v1", **changes}
    return experiment.check("name", spec, (notes if notes is not None else []).append)


def test_config_reaches_its_sections():
    checked = check(
        config={
            "lr": 1e-3,
            "lambda": 0.9,
            "num_env_runners": 0,
            "env_config": {"max_episode_steps": 5},
            "evaluation_interval": 2,
            "evaluation_config": {"explore": False},
            "model_config": {"fcnet_hiddens": [8]},
            "seed": 3,
            "policies_to_train": ["default_policy"],
        }
    )
    config = checked.config
    assert config.lr == 1e-3
    assert config.lambda_ == 0.9
    assert config.num_env_runners == 0
    assert config.env == "CartPole-v1"
    assert config.env_config == {"max_episode_steps": 5}
    assert config.evaluation_interval == 2
    assert config.evaluation_config["explore"] is False
    assert config.model_config["fcnet_hiddens"] == [8]
    assert config.seed == 3
    assert checked.param_space["lambda"] == 0.9


def test_param_space_builds_the_same_algorithm_config():
    checked = check(config={"lr": 1e-3, "num_epochs": 2, "model_config": {"fcnet_hiddens": [8]}})
    rebuilt = checked.algorithm.get_default_config().update_from_dict(checked.param_space)
    assert rebuilt.to_dict() == checked.config.to_dict()


def test_old_names_are_translated_with_a_notice():
    notes = []
    checked = check(
        notes,
        stop={"episode_reward_mean": 100, "timesteps_total": 5000, "training_iteration": 3},
        checkpoint_freq=5,
        keep_checkpoints_num=2,
        checkpoint_score_attr="min-episode_len_mean",
        config={
            "num_workers": 0,
            "num_sgd_iter": 2,
            "sgd_minibatch_size": 64,
            "num_envs_per_worker": 3,
            "train_batch_size": 128,
            "model": {"fcnet_hiddens": [8]},
            "framework": "torch",
        },
    )
    config = checked.config
    assert (config.num_env_runners, config.num_epochs, config.minibatch_size) == (0, 2, 64)
    assert config.num_envs_per_env_runner == 3
    assert config.train_batch_size_per_learner == 128
    assert checked.stop == {
        "env_runners/episode_return_mean": 100,
        "num_env_steps_sampled_lifetime": 5000,
        "training_iteration": 3,
    }
    assert checked.checkpoint_config == {
        "checkpoint_frequency": 5,
        "num_to_keep": 2,
        "checkpoint_score_attribute": "env_runners/episode_len_mean",
        "checkpoint_score_order": "min",
    }
    assert all("\n" not in note for note in notes)
    assert "config key 'num_workers' is now 'num_env_runners'" in notes
    assert "result key 'timesteps_total' is now 'num_env_steps_sampled_lifetime'" in notes


def test_present_names_give_no_notice():
    notes = []
    check(notes, stop={"training_iteration": 3}, config={"lambda": 0.9, "num_env_runners": 0})
    assert notes == []


def test_stop_keys_may_be_nested_and_ones_own():
    checked = check(stop={"env_runners": {"episode_return_mean": 5}, "env_runners/my_metric": 1})
    assert checked.stop == {"env_runners/episode_return_mean": 5, "env_runners/my_metric": 1}


def test_search_spaces_anywhere_in_the_config():
    checked = check(
        config={
            "lr": {"grid_search": [1e-3, 1e-4]},
            "num_envs_per_env_runner": {"choice": [1, 2]},
            "model_config": {"fcnet_hiddens": {"grid_search": [[8], [16]]}},
            "gamma": {"uniform": [0.9, 0.99]},
        }
    )
    space = checked.param_space
    assert space["lr"] == {"grid_search": [1e-3, 1e-4]}
    assert space["_model_config"]["fcnet_hiddens"] == {"grid_search": [[8], [16]]}
    assert type(space["gamma"]).__name__ == "Float"
    assert space["gamma"].lower == 0.9
    assert space["num_envs_per_env_runner"].categories == [1, 2]
    assert checked.config.lr == 1e-3  # a concrete one, to ask for resources
    assert 0.9 <= checked.config.gamma <= 0.99


def test_class_paths_for_run_and_env():
    from gymnasium.envs.classic_control import CartPoleEnv
    from ray.rllib.algorithms.ppo import PPO

    for separator in ".:":
        checked = check(
            run=f"ray.rllib.algorithms.ppo{separator}PPO",
            env=f"gymnasium.envs.classic_control{separator}CartPoleEnv",
            config={"callbacks": "ray.rllib.callbacks.callbacks.RLlibCallback"},
        )
        assert checked.algorithm is PPO
        assert checked.config.env is CartPoleEnv
        assert checked.config.callbacks_class.__name__ == "RLlibCallback"


ONE_POLICY = {
    "policies": ["shared"],
    "policy_mapping_fn": "rllib_mec.algorithms.multi_agent_env:one_policy_for_all",
}


@pytest.mark.parametrize(("run", "own"), [("EMH-PPO", {}), ("EMHPPO", {}), ("PPO", ONE_POLICY)])
def test_our_environment_with_every_algorithm(run, own):
    checked = experiment.check(
        "name",
        {
            "run": run,
            "env": "mec_task_window_v0",
            "config": {
                "env_config": {"num_devices": 2, "energy_weight": {"grid_search": [1, 2]}},
                **own,
            },
        },
        [].append,
    )
    assert checked.config.env_config["num_devices"] == 2
    assert checked.param_space["env_config"]["energy_weight"] == {"grid_search": [1, 2]}


def test_every_shipped_file_is_valid():
    from pathlib import Path

    files = sorted(Path(__file__).parents[2].glob("tuned_configs/**/*.yaml"))
    assert files
    for file in files:
        name, spec = experiment.read_spec(str(file))
        notes = []
        checked = experiment.check(name, spec, notes.append)
        assert notes == [], file
        assert checked.stop, file


def test_numbers_as_people_write_them(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: 1e-4\nb: 3E5\nc: -2.5e3\nd: 1.0e-3\ne: 12\nf: v1e4\ng: 4e3\n")
    content = read_yaml(file)
    assert content == {"a": 1e-4, "b": 3e5, "c": -2500.0, "d": 1e-3, "e": 12, "f": "v1e4", "g": 4e3}
    checked = check(config={"train_batch_size_per_learner": content["g"]})
    assert checked.config.train_batch_size_per_learner == 4000
    assert isinstance(checked.config.train_batch_size_per_learner, int)


def test_storage_path_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check(storage_path="runs").storage_path == str(tmp_path / "runs")
    assert check(storage_path="s3://bucket/x").storage_path == "s3://bucket/x"


def test_python_file_may_hold_a_dict(tmp_path):
    file = tmp_path / "exp.py"
    file.write_text("config = {'run': 'PPO', 'env': 'CartPole-v1', 'config': {'lr': 0.1}}\n")
    name, spec = experiment.read_spec(str(file))
    assert name == "exp"
    assert experiment.check(name, spec, [].append).config.lr == 0.1


def test_python_file_with_a_search_space_is_validated(tmp_path):
    file = tmp_path / "exp.py"
    file.write_text(
        "from ray import tune\n"
        "from ray.rllib.algorithms.ppo import PPOConfig\n"
        "config = PPOConfig().environment('CartPole-v1').training(\n"
        "    minibatch_size=tune.grid_search([64, 100000]))\n"
    )
    with pytest.raises(MecError, match="minibatch_size"):
        experiment.check(*experiment.read_spec(str(file)), [].append)


def test_merge_keys_may_be_overridden_but_no_key_given_twice(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4}], x: 5}\n")
    content = read_yaml(file)
    assert content["b"] == {"x": 1, "y": 3}
    assert content["c"] == {"x": 5, "y": 2, "z": 4}
    file.write_text("a: &a {x: 1}\nb: {<<: *a, y: 3, y: 4}\n")
    with pytest.raises(MecError, match="line 2: 'y' is given twice"):
        read_yaml(file)


def test_the_default_of_every_setting_passes_the_check():
    from ray.rllib.algorithms.registry import ALGORITHMS

    for name in ("PPO", "DQN", "SAC", "IMPALA", "EMH-PPO"):
        _, config = ALGORITHMS[name]()
        keys = config_schema.known_keys(type(config))
        plain = {
            key: value
            for key, value in vars(config).items()
            if key in keys and isinstance(value, str | float | int) and key != "seed"
        }
        assert len(plain) > 100
        for key, value in plain.items():
            if "api_stack" not in keys[key][0]:
                config_schema.check_setting(config, keys[key][1], value)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("env_runners/rewrad", "env_runners/reward"),
        ("env_runner/reward", "env_runners/reward"),
        ("env_runners/latency_m", "env_runners/latency_ms"),
        ("env_runners/num_episode_lifetime", "env_runners/num_episodes_lifetime"),
        ("evaluation/env_runners/episode_return_maen", None),
        ("learners/default_policy/vf_los", "learners/default_policy/vf_loss"),
        ("num_env_steps_sampled_lifetim", "num_env_steps_sampled_lifetime"),
    ],
)
def test_a_slip_in_a_stop_key_is_found_at_any_depth(key, meant):
    meant = meant or key.replace("maen", "mean")
    with pytest.raises(MecError, match=f"did you mean '{meant}'"):
        check(stop={key: 1})


@pytest.mark.parametrize("key", ["env_runners/my_reward", "my_metric", "env_runners/reward_p95"])
def test_a_metric_of_ones_own_may_vary_a_known_name(key):
    assert check(stop={key: 1}).stop == {key: 1}
