"""A checkpoint is checked whole before anything starts: whatever of it is gone, cut or garbage."""

from __future__ import annotations

import json
import pickle
import shutil
from types import SimpleNamespace

import pytest

from rllib_mec.checkpoints import read_info
from rllib_mec.cli.mec import main as mec
from rllib_mec.cli.rllib import main as rllib
from rllib_mec.errors import MecError
from rllib_mec.experiments import training
from rllib_mec.experiments.config_schema import build_config
from rllib_mec.experiments.names import algorithm_class
from rllib_mec.policies import load_policy
from rllib_mec.testbed.options import ServerOptions

pytestmark = pytest.mark.slow

CONFIGS = {
    "EMH-PPO": {
        "env": "mec_task_window_v0",
        "env_config": {"num_devices": 2, "max_window": 2, "mean_tasks": 4},
        "model_config": {"embedding_hiddens": [8], "agent_hiddens": [8], "critic_hiddens": [8]},
        "num_envs_per_env_runner": 2,
    },
    "PPO": {
        "env": "CartPole-v1",
        "model_config": {"fcnet_hiddens": [8]},
        "env_to_module_connector": "tests.experiments.test_restore:standardise",
        "num_env_runners": 0,
        "evaluation_interval": 1,
    },
}

LEARNED = "learner_group/learner/rl_module"
SEES, ACTS = "env_runner/env_to_module_connector", "env_runner/module_to_env_connector"
FILTER = f"{SEES}/MeanStdFilter"
NEEDED = {  # by whom each file is needed that a checkpoint has; a folder where any of its files is
    "algorithm_state.pkl": {"train"},
    "class_and_ctor_args.pkl": {"train", "evaluate"},
    "learner_group": {"train", "evaluate"},
    "learner_group/state.pkl": {"train"},
    "learner_group/learner": {"train", "evaluate"},
    "learner_group/learner/state.pkl": {"train"},
    LEARNED: {"train", "evaluate"},
    f"{LEARNED}/module_state.pkl": {"train"},
    f"{LEARNED}/class_and_ctor_args.pkl": {"evaluate"},
    f"{LEARNED}/default_policy": {"train", "evaluate"},
    f"{LEARNED}/default_policy/module_state.pkl": {"train", "evaluate"},
    "env_runner": {"train", "evaluate"},
    "env_runner/state.pkl": {"train"},
    SEES: {"train", "evaluate"},
    f"{SEES}/state.pkl": {"train", "evaluate"},
    ACTS: {"train", "evaluate"},
    f"{ACTS}/state.pkl": {"train", "evaluate"},
}
OF_THE_FILTER = {
    FILTER: {"train", "evaluate"},
    f"{FILTER}/state.pkl": {"train", "evaluate"},
    "eval_env_runner/state.pkl": {"train"},
    f"eval_{SEES}/state.pkl": {"train"},
    f"eval_{FILTER}/state.pkl": {"train"},
    f"eval_{ACTS}/state.pkl": {"train"},
}
PARTS = {"EMH-PPO": NEEDED, "PPO": {**NEEDED, **OF_THE_FILTER}}
OF_CONNECTORS = ("env_runner", SEES, f"{SEES}/state.pkl", ACTS, f"{ACTS}/state.pkl")
"""A policy on our envs has none: a checkpoint with some of its own is refused."""


def standardise(*args, **kwargs):
    """A connector with a state."""
    from ray.rllib.connectors.env_to_module import MeanStdFilter

    return MeanStdFilter()


def build(name):
    return build_config(algorithm_class(name), CONFIGS[name]).build_algo()


@pytest.fixture(scope="module")
def whole(ray_session, tmp_path_factory):
    """Folders of a checkpoint of each algorithm."""
    folders = {}
    for name in CONFIGS:
        algorithm = build(name)
        folders[name] = tmp_path_factory.mktemp("whole") / name
        algorithm.save_to_path(folders[name])
        algorithm.stop()
    return folders


@pytest.fixture(params=CONFIGS)
def name(request):
    return request.param


@pytest.fixture
def copied(whole, name, tmp_path):
    """A checkpoint to be spoilt."""
    return shutil.copytree(whole[name], tmp_path / "checkpoint")


@pytest.fixture(autouse=True)
def training_must_not_start(monkeypatch):
    monkeypatch.setattr("rllib_mec.experiments.training.run", lambda *args, **kwargs: 0)


def train(name, checkpoint, tmp_path, **changes):
    """The exit code of training that is to start from a checkpoint."""
    config = {**CONFIGS[name], **changes}
    env = config.pop("env")
    flags = ["--restore", str(checkpoint), "--storage-path", str(tmp_path / "results")]
    return rllib(["train", "--algo", name, "--env", env, "--config", json.dumps(config), *flags])


def evaluate(checkpoint):
    """The exit code of an evaluation."""
    return rllib(["evaluate", str(checkpoint), "--episodes", "2", "--json"])


def assert_one_line(capsys, code, *fragments):
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and err.count("\n") == 1, (code, out, err)
    assert ": error: " in err and all(fragment in err for fragment in fragments), err


FAULTS = {
    "deleted": lambda file: shutil.rmtree(file) if file.is_dir() else file.unlink(),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "garbage": lambda file: file.write_bytes(b"\x00garbage" * 9),
    "something else": lambda file: file.write_bytes(pickle.dumps(["no", "state"])),
}


def test_the_table_has_every_file_that_must_be_read(whole, name):
    files = {str(f.relative_to(whole[name])) for f in whole[name].rglob("*") if f.is_file()}
    known = {file for file in PARTS[name] if file.endswith(".pkl")}
    left = files - known
    assert known <= files
    assert {file.rsplit("/")[-1] for file in left} == {
        "class_and_ctor_args.pkl",
        "metadata.json",
        "rllib_checkpoint.json",
    }


@pytest.mark.parametrize(
    ("name", "part", "fault"),
    [
        (name, part, fault)
        for name, parts in PARTS.items()
        for part in parts
        for fault in FAULTS
        if fault == "deleted" or part.endswith(".pkl")
    ],
    indirect=["name"],
)
def test_what_is_needed_is_missed_in_one_line(part, fault, name, copied, tmp_path, capsys):
    FAULTS[fault](copied / part)
    expected = "incomplete" if fault == "deleted" else "cannot be read"
    if part == "class_and_ctor_args.pkl" and fault == "deleted":
        expected = f"no {part}"
    code = train(name, copied, tmp_path)
    if "train" in PARTS[name][part]:
        assert_one_line(capsys, code, str(copied), part, expected)
    else:
        assert code == 0
    assert [*tmp_path.iterdir()] == [copied]
    capsys.readouterr()
    code = evaluate(copied)
    unused = name == "EMH-PPO" and part in OF_CONNECTORS
    if "evaluate" in PARTS[name][part] and not unused:
        assert_one_line(capsys, code, str(copied), part, expected)
    else:
        assert code == 0


@pytest.mark.parametrize("fault", ["deleted", "garbage"])
def test_without_what_nobody_needs_all_is_as_before(whole, name, copied, fault, tmp_path, capsys):
    assert evaluate(whole[name]) == 0
    before = json.loads(capsys.readouterr().out)
    for file in [*copied.rglob("*.pkl"), *copied.rglob("metadata.json")]:
        if str(file.relative_to(copied)) not in PARTS[name]:
            FAULTS[fault](file)
    assert train(name, copied, tmp_path) == 0
    algorithm = build(name)
    algorithm.restore_from_path(copied)
    algorithm.save_to_path(tmp_path / "again")
    algorithm.stop()
    for checkpoint in (copied, tmp_path / "again"):
        capsys.readouterr()
        assert evaluate(checkpoint) == 0
        found = json.loads(capsys.readouterr().out)
        if name == "PPO":
            found["checkpoint"] = before["checkpoint"]
        assert found == before


@pytest.mark.parametrize("name", ["EMH-PPO"], indirect=True)
@pytest.mark.parametrize("part", [LEARNED, f"{LEARNED}/default_policy/module_state.pkl"])
def test_every_reader_says_so(part, copied, tmp_path, capsys):
    FAULTS["deleted"](copied / part)
    with pytest.raises(MecError, match=f"is incomplete: there is no {part} in it"):
        load_policy(copied)
    with pytest.raises(MecError, match="is incomplete"):
        ServerOptions(checkpoint=str(copied)).resolved()
    for command in (["compare", "--checkpoint", str(copied)], ["render", str(copied)]):
        assert_one_line(capsys, mec(command), part, "incomplete")


CHANGED_WEIGHTS = {
    "one is missing": (lambda s: s.pop(min(s)), "it has none, where with shape"),
    "one has another shape": (lambda s: s.update({min(s): s[min(s)][:1]}), "it has with shape"),
}


@pytest.mark.parametrize("change", CHANGED_WEIGHTS)
def test_weights_must_be_those_of_the_networks(change, name, copied, tmp_path, capsys):
    spoil, expected = CHANGED_WEIGHTS[change]
    file = copied / LEARNED / "default_policy/module_state.pkl"
    state = pickle.loads(file.read_bytes())
    spoil(state)
    file.write_bytes(pickle.dumps(state))
    for read in (lambda: train(name, copied, tmp_path), lambda: evaluate(copied)):
        assert_one_line(capsys, read(), str(copied), "do not fit", "default_policy", expected)


@pytest.mark.parametrize(
    ("name", "model_config"),
    [
        ("PPO", {"fcnet_hiddens": [9]}),
        ("PPO", {"fcnet_hiddens": [8, 8]}),
        ("PPO", {"fcnet_hiddens": {"grid_search": [[8], [9]]}}),
        ("EMH-PPO", {**CONFIGS["EMH-PPO"]["model_config"], "compare_queues": False}),
    ],
)
def test_the_networks_to_be_trained_must_take_the_weights(
    name, model_config, whole, tmp_path, capsys
):
    code = train(name, whole[name], tmp_path, model_config=model_config)
    assert_one_line(capsys, code, "do not fit", "is expected")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["PPO"], indirect=True)
def test_a_trial_is_not_resumed_from_a_broken_checkpoint(copied, monkeypatch):
    from ray import tune

    checkpoint = SimpleNamespace(path=str(copied))
    trials = [SimpleNamespace(status="RUNNING", checkpoint=checkpoint, last_result={})]
    monkeypatch.setattr(tune, "ExperimentAnalysis", lambda folder: SimpleNamespace(trials=trials))
    experiment = SimpleNamespace(stop={}, scheduler=("fifo", {}), storage_path="/results")
    training._resume_config("folder", experiment)
    FAULTS["cut"](copied / "learner_group/learner/state.pkl")
    with pytest.raises(MecError, match=r"cannot be read: learner_group/learner/state.pkl"):
        training._resume_config("folder", experiment)
    trials[0].status = "TERMINATED"
    training._resume_config("folder", experiment)


def test_resuming_says_if_the_saved_state_is_broken(tmp_path):
    (tmp_path / "experiment_state-2026.json").write_text("{")
    with pytest.raises(MecError, match="cannot be resumed"):
        training._resume_config(str(tmp_path), SimpleNamespace())


def test_the_config_of_a_trial_that_cannot_be_read_is_named(whole, tmp_path):
    for trial in ("a", "b"):
        shutil.copytree(whole["PPO"], tmp_path / trial / "checkpoint_000000")
        (tmp_path / trial / "params.json").write_text('{"env')
    with pytest.raises(MecError, match=r"params.json cannot be read"):
        read_info(tmp_path)
