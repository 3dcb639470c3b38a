"""What is said at the end of training."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from rllib_mec.checkpoints import find_checkpoint
from rllib_mec.errors import MecError
from rllib_mec.experiments.messages import as_table
from rllib_mec.experiments.report import print_summary
from rllib_mec.experiments.training import root_cause


def trial(name, mean, **env_config):
    return SimpleNamespace(
        trial_id=name,
        status="TERMINATED",
        checkpoint=SimpleNamespace(path=f"/results/{name}"),
        config={"env_config": env_config},
        evaluated_params={f"env_config/{key}": value for key, value in env_config.items()},
        last_result={"training_iteration": 3, "env_runners": {"episode_return_mean": mean}},
    )


def test_the_best_of_one_scenario_is_told(capsys):
    print_summary([trial("a", 1.0), trial("b", 2.0), trial("c", 1.5)], "CartPole-v1", None, "max")
    out = capsys.readouterr().out
    assert "Best checkpoint:  /results/b\n" in out and out.count("Evaluate it:") == 1
    assert "Mean return 2.00 after 3 iterations" in out


def test_trials_of_different_scenarios_are_not_ranked(capsys):
    trials = [
        trial("a", -5.0, num_devices=1),
        trial("b", -9.0, num_devices=6),
        trial("c", -8.0, num_devices=6),
    ]
    print_summary(trials, "mec_task_window_v0", None, "max")
    captured = capsys.readouterr()
    assert "cannot be compared" in captured.err
    assert "\nCheckpoint:  /results/a\n" in captured.out
    assert "\nBest checkpoint:  /results/c\n" in captured.out
    assert "env_config/num_devices=6: return -8.00" in captured.out


def test_a_folder_of_different_scenarios_has_no_best_checkpoint(tmp_path):
    def write(name, num_devices):
        checkpoint = tmp_path / name / "checkpoint_000001"
        checkpoint.mkdir(parents=True)
        for file in ("rllib_checkpoint.json", "class_and_ctor_args.pkl"):
            (checkpoint / file).touch()
        params = {"env_config": {"num_devices": num_devices}}
        (tmp_path / name / "params.json").write_text(json.dumps(params))
        return checkpoint

    checkpoints = {write("a", 1), write("b", 1)}
    assert find_checkpoint(tmp_path) in checkpoints
    write("c", 2)
    with pytest.raises(MecError, match=r"different env_config.*: give the folder of one, e\.g\. "):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "raised", ["rllib_mec.errors.MecError", "rllib_mec.algorithms.diverged.TrainingDiverged"]
)
def test_a_diverged_training_is_told_without_where_it_was_raised(tmp_path, raised):
    log = tmp_path / "error.txt"
    log.write_text(
        "Failure # 1\nray.exceptions.RayTaskError(MecError): ray::EMHPPO.train()\n"
        "  File x, line 3, in train\n"
        f"{raised}: training diverged at iteration 7\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\nRuntimeError: a worker failed\n"
    )
    failed = SimpleNamespace(error_file=str(log))
    assert root_cause(failed) == "training diverged at iteration 7"
    assert root_cause(SimpleNamespace(error_file=None)) == "unknown cause"


def test_a_tables_lines_are_never_broken_nor_coloured():
    wide = "x" * 300
    lines = as_table(["name", "value"], [["[a]", "1"], [wide, "23"]], left=["name"]).splitlines()
    assert lines[1].split() == ["[a]", "1"] and lines[1].endswith("  1")
    assert lines[2] == f"{wide}     23"
