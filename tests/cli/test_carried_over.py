"""A checkpoint of networks that are functions of sets, on scenarios of another shape."""

import json

import pytest

from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.cli.mec import main
from rllib_mec.cli.rllib import main as rllib
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import load_policy

MODELS = {
    "set": {"model": "set", "width": 8, "num_layers": 1, "num_heads": 2, "critic_hidden": 8},
    "paper": {"embedding_hiddens": [8], "agent_hiddens": [8], "critic_hiddens": [8]},
}
DRAWN = {
    "num_devices": {"between": [1, 4]},
    "distance_range_m": [[1, 100], [20, 80]],
    "dnn": ["resnet50", "mobilenet_v2"],
}
OTHER = "num_devices=4 num_servers=3 num_channels=1 dnn=mobilenet_v2"
NAMED = (
    "dnn='resnet50' (here 'mobilenet_v2')",
    "num_devices=2 (here 4)",
    "num_servers=2 (here 3)",
    "num_channels=2 (here 1)",
)


@pytest.fixture(scope="module")
def checkpoints(ray_session, tmp_path_factory):
    """Untrained ones of both models."""
    folder = tmp_path_factory.mktemp("checkpoints")
    alone = {"num_devices": 2, "mean_tasks": 4}
    for name, model, env_config in (
        *((name, model, alone) for name, model in MODELS.items()),
        ("drawn", MODELS["set"], {**alone, "randomize": DRAWN}),
    ):
        algorithm = (
            EMHPPOConfig()
            .environment("mec_task_window_v0", env_config=env_config)
            .env_runners(num_envs_per_env_runner=2)
            .rl_module(model_config=model)
            .build_algo()
        )
        algorithm.save_to_path(folder / name)
        algorithm.stop()
    return folder


@pytest.fixture
def run(checkpoints, monkeypatch, capsys):
    """A function that runs a command where the checkpoints are: exit code, stdout, stderr."""
    monkeypatch.chdir(checkpoints)

    def run(program, command):
        code = program(command.split())
        return code, *capsys.readouterr()

    return run


def test_it_is_compared_evaluated_and_rendered_and_a_note_says_what_is_new_to_it(run):
    compared = f"compare --policies local-only --checkpoint set --episodes 2 --scenario {OTHER}"
    code, out, err = run(main, f"{compared} --json -")
    assert code == 0
    found = {entry["policy"]: entry for entry in json.loads(out)}
    assert found["EMH-PPO"]["num_devices"] == 4 and found["EMH-PPO"]["dnn"] == "mobilenet_v2"
    note = next(line for line in err.splitlines() if "the checkpoint set was trained with" in line)
    assert all(name in note for name in NAMED)

    settings = {"num_devices": 4, "num_servers": 3, "num_channels": 1, "dnn": "mobilenet_v2"}
    env_config = json.dumps(settings, separators=(",", ":"))
    code, out, err = run(rllib, f"evaluate set --episodes 2 --json --env-config {env_config}")
    assert code == 0
    evaluated = {entry["policy"]: entry for entry in json.loads(out)}
    assert evaluated["EMH-PPO"]["reward"]["mean"] == found["EMH-PPO"]["reward"]["mean"]
    assert all(name in err for name in NAMED)

    code, out, err = run(main, f"render set --scenario {OTHER} max_window=2")
    assert code == 0 and "N=4, M=3, C=1" in out


def test_where_it_was_trained_there_is_no_note(run):
    for program, command in (
        (main, "compare --policies local-only --checkpoint set --episodes 2"),
        (rllib, "evaluate set --episodes 2"),
    ):
        code, _, err = run(program, command)
        assert code == 0 and "was trained with" not in err


@pytest.mark.parametrize(
    ("where", "noted"),
    [
        ("num_devices=3 distance_range_m=[20,80]", None),
        ("num_devices=5", "num_devices={'between': [1, 4]} (here 5)"),
        ("distance_range_m=[30,80]", "distance_range_m=[[1, 100], [20, 80]] (here (30.0, 80.0))"),
        ("dnn=mobilenet_v2 num_devices=3", None),
        (
            "dnn=googlenet",
            "dnn=['resnet50', 'mobilenet_v2'] (here 'googlenet'), "
            "server_latency_ms=8.603 (here 5.11)",
        ),
    ],
)
def test_what_was_drawn_in_training_is_not_new_to_it(run, where, noted):
    command = f"compare --policies local-only --checkpoint drawn --episodes 2 --scenario {where}"
    code, _, err = run(main, command)
    assert code == 0
    expected = [f"rllib-mec: note: the checkpoint drawn was trained with {noted}"] if noted else []
    assert [line for line in err.splitlines() if "was trained with" in line] == expected


@pytest.mark.parametrize(
    ("program", "command"),
    [
        (main, "compare --checkpoint paper --scenario num_devices=4"),
        (main, "render paper --scenario num_devices=4"),
        (rllib, 'evaluate paper --env-config {"num_devices":4}'),
    ],
)
def test_the_papers_model_does_not_carry_over_and_the_error_says_which_does(run, program, command):
    code, out, err = run(program, command)
    assert code == 2 and out == ""
    assert "num_devices=2, but the scenario has num_devices=4; EMH-PPO trained with mod" in err
    assert "{model: set} carries over" in err
    assert err.count("\n") == 1


def test_in_python_likewise(checkpoints):
    four = Scenario(num_devices=4)
    assert load_policy(checkpoints / "set", four).scenario.num_devices == 4
    with pytest.raises(MecError, match=r"num_devices=4; .*model: set} carries over"):
        load_policy(checkpoints / "paper", four)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_training_goes_on_in_another_shape_where_the_networks_fit_it(run, tmp_path, model):
    file = tmp_path / "e.yaml"
    config = {
        "env_config": {"num_devices": 4, "mean_tasks": 4},
        "model_config": MODELS[model],
        "train_batch_size_per_learner": 16,
        "minibatch_size": 8,
        "num_envs_per_env_runner": 2,
    }
    stop = {"training_iteration": 1}
    spec = {"run": "EMH-PPO", "env": "mec_task_window_v0", "stop": stop, "config": config}
    file.write_text(json.dumps({"e": spec}))
    code, _, err = run(rllib, f"train file {file} --restore {model} --storage-path {tmp_path}")
    if model == "set":
        assert code == 0
    else:
        assert code == 2 and err.count("\n") == 1
        assert "was trained with num_devices=2, but the scenario has num_devices=4" in err
