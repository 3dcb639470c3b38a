"""Everything wrong with the input is one line on stderr and exit code 2, and writes nothing."""

from __future__ import annotations

import json

import pytest
import yaml

from rllib_mec.cli.rllib import main


@pytest.fixture(autouse=True)
def ray_must_not_start(monkeypatch):
    import ray

    def start(*args, **kwargs):
        raise AssertionError("bad input must be found before Ray starts")

    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


def assert_one_error(capsys, argv, *fragments):
    code = main([str(arg) for arg in argv])
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("rllib: error: "), err
    for fragment in fragments:
        assert fragment in err


def cartpole(**changes):
    spec = {"run": "PPO", "env": "CartPole-v1", "stop": {"training_iteration": 1}, **changes}
    return {"name": {key: value for key, value in spec.items() if value is not None}}


def mec(**env_config):
    return {
        "name": {
            "run": "EMH-PPO",
            "env": "mec_task_window_v0",
            "stop": {"training_iteration": 1},
            "config": {"env_config": env_config},
        }
    }


BAD_FILES = {
    "misspelt experiment key": (cartpole(stopp={}), ["'stopp'", "did you mean 'stop'?"]),
    "misspelt config key": (
        cartpole(config={"num_env_runner": 0}),
        ["did you mean 'num_env_runners'?"],
    ),
    "misspelt key of the algorithm": (
        cartpole(config={"clip_parm": 0.2}),
        ["did you mean 'clip_param'?"],
    ),
    "key of another algorithm": (cartpole(config={"twin_q": True}), ["'twin_q'"]),
    "misspelt key in evaluation_config": (
        cartpole(config={"evaluation_config": {"explor": False}}),
        ["did you mean 'explore'?"],
    ),
    "misspelt key in model_config": (
        cartpole(config={"model_config": {"fcnet_hidens": [8]}}),
        ["did you mean 'fcnet_hiddens'?"],
    ),
    "misspelt key in checkpoint_config": (
        cartpole(checkpoint_config={"num_to_kep": 1}),
        ["did you mean 'num_to_keep'?"],
    ),
    "misspelt stop key": (
        cartpole(stop={"training_iteratoin": 1}),
        ["did you mean 'training_iteration'?"],
    ),
    "misspelt nested stop key": (
        cartpole(stop={"env_runners/episode_return_maen": 1}),
        ["did you mean 'env_runners/episode_return_mean'?"],
    ),
    "stop that is no number": (cartpole(stop={"training_iteration": "ten"}), ["'ten'"]),
    "stop that is no mapping": (cartpole(stop=3), ["stop must be a mapping"]),
    "stop before the start": (
        cartpole(stop={"training_iteration": 0}),
        ["stop: training_iteration must be positive, but is 0"],
    ),
    "stop at an old name's negative number": (
        cartpole(stop={"timesteps_total": -3}),
        ["stop: timesteps_total must be positive, but is -3"],
    ),
    "stop that never comes": (
        cartpole(stop={"env_runners": {"episode_return_mean": float("inf")}}),
        ["stop: env_runners/episode_return_mean must be a finite number, but is inf"],
    ),
    "unknown algorithm": (cartpole(run="PPOO"), ["did you mean 'PPO'?"]),
    "unknown environment": (cartpole(env="CartPol-v1"), ["did you mean 'CartPole-v1'?"]),
    "no algorithm": (cartpole(run=None), ["no algorithm"]),
    "no environment": (cartpole(env=None), ["no environment"]),
    "class path without module": (cartpole(env="no_such_module:Env"), ["no_such_module"]),
    "class path without class": (cartpole(env="collections:OrderedDic"), ["'OrderedDict'"]),
    "class that is no algorithm": (cartpole(run="collections:OrderedDict"), ["not a subclass"]),
    "env_config of Gymnasium": (cartpole(config={"env_config": {"foo": 1}}), ["'foo'"]),
    "text for a number": (cartpole(config={"lr": "fast"}), ["lr must be", "'fast'"]),
    "fraction for a whole number": (
        cartpole(config={"num_epochs": 1.5}),
        ["num_epochs must be a whole number"],
    ),
    "not a number": (cartpole(config={"gamma": float("nan")}), ["gamma", "finite"]),
    "negative count": (
        cartpole(config={"num_env_runners": -1}),
        ["num_env_runners must be at least 0"],
    ),
    "negative clipping": (
        cartpole(config={"clip_param": -1}),
        ["clip_param must be positive, but is -1"],
    ),
    "schedule that begins late": (
        cartpole(config={"lr": [[5, 0.1], [9, 0.01]]}),
        ["the schedule of lr must begin at timestep 0, but begins at 5"],
    ),
    "env_config that is nothing": (
        cartpole(config={"env_config": None}),
        ["env_config must be a mapping, but is None"],
    ),
    "render mode of ours": (
        {
            "name": {
                "run": "PPO",
                "env": "mec_task_window_v0",
                "config": {
                    "policies": ["shared"],
                    "policy_mapping_fn": "rllib_mec.algorithms.multi_agent_env:one_policy_for_all",
                    "env_config": {"render_mode": "rgb"},
                },
            }
        },
        ["env_config: unknown render_mode 'rgb': did you mean 'rgb_array'"],
    ),
    "empty batch": (cartpole(config={"train_batch_size": 0}), ["at least 1"]),
    "RLlib's own validation": (
        cartpole(config={"minibatch_size": 500, "train_batch_size_per_learner": 100}),
        ["minibatch_size"],
    ),
    "old API stack": (cartpole(config={"enable_rl_module_and_learner": False}), ["new API stack"]),
    "TensorFlow": (cartpole(config={"framework": "tf2"}), ["'torch'"]),
    "a key under both names": (
        cartpole(config={"num_workers": 0, "num_env_runners": 0}),
        ["twice"],
    ),
    "misspelt search space": (
        cartpole(config={"lr": {"grid_serch": [1e-4]}}),
        ["did you mean 'grid_search'?"],
    ),
    "empty grid": (cartpole(config={"lr": {"grid_search": []}}), ["not empty"]),
    "sampler without bounds": (cartpole(config={"lr": {"uniform": [1]}}), ["uniform"]),
    "one bad grid point": (cartpole(config={"lr": {"grid_search": [1e-4, "x"]}}), ["'x'"]),
    "config that is no mapping": (cartpole(config=["lr"]), ["config must be a mapping"]),
    "setting of evaluation_config of the wrong kind": (
        cartpole(config={"evaluation_config": {"explore": "no"}}),
        ["explore must be true or false, but is 'no'"],
    ),
    "negative seed": (cartpole(config={"seed": -1}), ["seed must be at least 0, but is -1"]),
    "policies that nobody acts by": (
        cartpole(config={"policies": ["a", "b"]}),
        ["policies ['a', 'b']: give policy_mapping_fn"],
    ),
    "policies that none of our agents act by": (
        {
            "name": {
                "run": "EMH-PPO",
                "env": "mec_task_window_v0",
                "config": {"policies": ["a", "b"]},
            }
        },
        ["policies"],
    ),
    "no samples": (cartpole(num_samples=0), ["num_samples"]),
    "unknown scheduler": (cartpole(scheduler="asah"), ["unknown scheduler 'asah'"]),
    "misspelt scheduler key": (
        cartpole(scheduler="async_hyperband", scheduler_config={"metrc": "x"}),
        ["did you mean 'metric'?"],
    ),
    "missing checkpoint": (cartpole(restore="/no/such/place"), ["no such checkpoint"]),
    "second of two experiments": (
        {**cartpole(), "b": {"run": "PPOO", "env": "CartPole-v1"}},
        ["b: unknown algorithm 'PPOO'"],
    ),
    "experiment that is no mapping": ({**cartpole(), "b": 3}, ["experiment 'b' must be a mapping"]),
    "scheduler of another name": (
        cartpole(scheduler="asha", scheduler_config={"metrc": "x"}),
        ["did you mean 'metric'?"],
    ),
    "PBT without what it changes": (cartpole(scheduler="pbt"), ["hyperparam_mutations"]),
    "PBT of a key that is none": (
        cartpole(scheduler="pbt", scheduler_config={"hyperparam_mutations": {"lrr": [1, 2]}}),
        ["unknown config key 'lrr'"],
    ),
    "PBT of a value out of bounds": (
        cartpole(scheduler="pbt", scheduler_config={"hyperparam_mutations": {"gamma": [2, 3]}}),
        ["gamma must be at most 1"],
    ),
    "PB2 without bounds": (
        cartpole(scheduler="pb2", scheduler_config={"hyperparam_bounds": {"lr": [1e-4]}}),
        ["size 2"],
    ),
    "PBT with a search algorithm": (
        cartpole(
            scheduler="pbt",
            scheduler_config={"hyperparam_mutations": {"lr": [1e-4, 1e-3]}},
            search_alg="optuna",
        ),
        ["leave out search_alg optuna"],
    ),
    "BOHB without its scheduler": (cartpole(search_alg="bohb"), ["hb_bohb", "give both"]),
    "misspelt metric": (
        cartpole(scheduler="asha", metric="env_runners/episode_return_maen"),
        ["unknown metric", "did you mean 'env_runners/episode_return_mean'?"],
    ),
    "unknown search algorithm": (cartpole(search_alg="optima"), ["did you mean 'optuna'?"]),
    "misspelt key of the search algorithm": (
        cartpole(
            search_alg="optuna",
            search_alg_config={"sed": 1},
            config={"lr": {"uniform": [1e-4, 1e-3]}},
        ),
        ["did you mean 'seed'?"],
    ),
    "search algorithm with nothing to search": (cartpole(search_alg="optuna"), ["no search space"]),
    "grid for a search algorithm": (
        cartpole(search_alg="optuna", config={"lr": {"grid_search": [1e-4, 1e-3]}}),
        ["search_alg optuna: Grid search parameters cannot"],
    ),
    "sampler that the search algorithm lacks": (
        cartpole(search_alg="optuna", config={"lr": {"qrandn": [1e-3, 1e-5, 1e-6]}}),
        ["search_alg optuna", "does not support"],
    ),
    "search algorithm whose library is missing": (
        cartpole(search_alg="zoopt", config={"lr": {"uniform": [1e-4, 1e-3]}}),
        ["search_alg zoopt", "pip install"],
    ),
    "search arguments without a search algorithm": (
        cartpole(search_alg_config={"seed": 1}),
        ["search_alg_config needs search_alg"],
    ),
    "callback that is no class path": (cartpole(callbacks=["wandb!"]), ["'wandb!'"]),
    "callback that is none": (cartpole(callbacks=["collections:OrderedDict"]), ["not a subclass"]),
    "callback with wrong arguments": (
        cartpole(callbacks=[{"ray.tune.logger:JsonLoggerCallback": {"x": 1}}]),
        ["callback ray.tune.logger:JsonLoggerCallback: TypeError"],
    ),
    "fail_fast with retries": (
        cartpole(fail_fast=True, max_failures=1),
        ["leave out max_failures"],
    ),
    "reuse_actors of an algorithm that cannot": (cartpole(reuse_actors=True), ["reset_config"]),
    "fewer CPUs than processes": (
        cartpole(resources_per_trial={"cpu": 1}, config={"num_env_runners": 2}),
        ["env runners and learners take 2 CPUs, more than 1"],
    ),
    "misspelt key in runtime_env": (
        cartpole(runtime_env={"working_dr": "."}),
        ["did you mean 'working_dir'?"],
    ),
    "runtime_env without its folder": (
        cartpole(runtime_env={"working_dir": "/no/such/place"}),
        ["no working_dir '/no/such/place'"],
    ),
    "no name": ({"run": "PPO", "env": "CartPole-v1"}, ["indent"]),
    "a list": ([1, 2], ["expected `experiment_name:"]),
    "nothing": (None, ["expected `experiment_name:"]),
    "N = 0": (mec(num_devices=0), ["num_devices", "0"]),
    "C = 0": (mec(num_channels=0), ["num_channels", "0"]),
    "negative bandwidth": (mec(bandwidth_hz=-1.0), ["bandwidth_hz", "-1"]),
    "beta that is no number": (mec(energy_weight="much"), ["energy_weight", "'much'"]),
    "unknown DNN": (mec(dnn="resnet51"), ["did you mean 'resnet50'?"]),
    "unknown profile": (mec(profile="papr"), ["did you mean 'paper'?"]),
    "misspelt scenario key": (mec(num_device=3), ["did you mean 'num_devices'?"]),
    "one bad scenario in a grid": (mec(num_devices={"grid_search": [3, 0]}), ["num_devices"]),
}


@pytest.mark.parametrize(("content", "fragments"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_file(content, fragments, tmp_path, capsys):
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(content))
    results = tmp_path / "results"
    assert_one_error(capsys, ["train", "file", file, "--storage-path", results], *fragments)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("name", "text", "fragments"),
    [
        ("a.yaml", "x:\n  run: PPO\n  env: [a\n  stop: 3\n", ["a.yaml, line 4", "YAML syntax"]),
        ("a.yaml", "x:\n  run: PPO\n  run: DQN\n", ["line 3", "'run' is given twice"]),
        ("a.yaml", "x:\n\trun: PPO\n", ["line 2"]),
        ("a.py", "stop = {}\n", ["`config`"]),
        ("a.py", "config = 3\n", ["`config` must be an AlgorithmConfig"]),
        ("a.py", "\nimport no_such_module\n", ["line 2", "no_such_module"]),
        ("a.py", "def (\n", ["line 1", "SyntaxError"]),
        ("a.txt", "", [".yaml, .yml or .py"]),
    ],
)
def test_unreadable_file(name, text, fragments, tmp_path, capsys):
    file = tmp_path / name
    file.write_text(text)
    assert_one_error(capsys, ["train", "file", file], *fragments)


PPO = ["train", "--algo", "PPO", "--env", "CartPole-v1"]


@pytest.mark.parametrize(
    ("argv", "fragments"),
    [
        (["trian"], ["did you mean 'train'?"]),
        (["train"], ["give a file"]),
        (["train", "file"], ["takes one file"]),
        (["train", "file", "missing.yaml"], ["no such file: missing.yaml"]),
        (["train", "file", "."], ["is a directory"]),
        (["train", "emh_ppo.yaml"], ["rllib train file emh_ppo.yaml"]),
        (["train", "--alg", "PPO"], ["did you mean '--algo'?"]),
        (["train", "-f", "missing.yaml"], ["no such file: missing.yaml"]),
        (["train", "file", "a.yaml", "-f", "b.yaml"], ["give one file"]),
        (["train", "-f", "https://localhost:1/a.yaml"], ["cannot be fetched"]),
        (["train", "-f", "https://localhost:1/a.py"], ["only YAML is read from the web"]),
        (["train", "--eager"], ["TensorFlow"]),
        ([*PPO, "--callbacks", "{bad"], ["--callbacks must be valid JSON"]),
        ([*PPO, "--mode", "largest"], ["mode"]),
        ([*PPO, "--search-alg", "hyperopt"], ["no search space"]),
        ([*PPO, "--stop", "{bad"], ["--stop must be valid JSON"]),
        ([*PPO, "--config", "[1]"], ["--config must be a JSON object"]),
        ([*PPO, "--scheduler-config", "x"], ["--scheduler-config must be valid JSON"]),
        ([*PPO, "--num-samples", "x"], ["--num-samples"]),
        ([*PPO, "--checkpoint-freq", "-1"], ["checkpoint_frequency"]),
        ([*PPO, "--keep-checkpoints-num", "0"], ["num_to_keep"]),
        ([*PPO, "--framework", "tf2"], ["only torch"]),
        ([*PPO, "--local-mode"], ["num_env_runners"]),
        ([*PPO, "--ray-num-cpus", "0"], ["--ray-num-cpus"]),
        ([*PPO, "--wandb-project", "x"], ["--wandb-key"]),
        ([*PPO, "--experiment-name", "a/b"], ["plain folder name"]),
        ([*PPO, "-n", "x" * 300], ["at most 200 bytes", "of 300"]),
        ([*PPO, "--resume", "--storage-path", "/no/such/place"], ["nothing to resume"]),
        (["evaluate"], ["CHECKPOINT"]),
        (["evaluate", "/no/such/place"], ["no such checkpoint"]),
        (["evaluate", "/no/such/place", "--episodes", "0"], ["--episodes"]),
        (["evaluate", "/no/such/place", "--env-config", "x"], ["--env-config must be valid JSON"]),
    ],
)
def test_bad_flags(argv, fragments, capsys):
    assert_one_error(capsys, argv, *fragments)


def test_folder_that_is_no_checkpoint(tmp_path, capsys):
    assert_one_error(capsys, ["evaluate", tmp_path], "not a checkpoint")


def test_checkpoint_of_something_else(tmp_path, capsys):
    (tmp_path / "rllib_checkpoint.json").write_text(json.dumps({}))
    assert_one_error(capsys, ["evaluate", tmp_path], "new API stack")
    (tmp_path / "class_and_ctor_args.pkl").write_bytes(b"no pickle")
    assert_one_error(capsys, ["evaluate", tmp_path], "cannot be read")


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["evaluate", "--help"]])
def test_help(argv, capsys):
    assert main(argv) == 0
    assert "rllib" in capsys.readouterr().out


def test_help_does_not_import_ray():
    import subprocess
    import sys

    program = (
        "import sys; from rllib_mec.cli.rllib import main; main(['train', '--help']); "
        "sys.exit('ray' in sys.modules or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_option_that_is_one_value_is_taken_twice(capsys):
    import click

    from rllib_mec.cli import mec, rllib

    for program in (rllib, mec):
        groups = [value for value in vars(program).values() if isinstance(value, click.Group)]
        assert groups
        for name in groups[0].list_commands(None):
            for option in groups[0].get_command(None, name).params:
                one = isinstance(option, click.Option) and not (option.multiple or option.count)
                if one and not option.is_flag and option.expose_value:
                    flag = option.opts[-1]
                    assert program.main([name, flag, "1", f"{flag}=2"]) == 2
                    assert f"{flag} was given 2 times: give it once" in capsys.readouterr().err
