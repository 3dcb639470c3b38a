"""Reading Tune's result folders, and telling which runs are seeds of the same."""

import json

import numpy as np
import pytest
from tune_results import STEPS, write_trial

from rllib_mec.errors import MecError
from rllib_mec.experiments.results import Trial, find_trials, group_by_seed

REWARD = "env_runners/reward"


def labels(*folders):
    trials = [trial for folder in folders for trial in find_trials(folder)]
    return {
        label: [trial.seed for trial in group] for label, group in group_by_seed(trials).items()
    }


def test_a_curve_is_read_as_it_was_written(tmp_path):
    trial = Trial(write_trial(tmp_path, [-3.0, -2.0]))
    x, y = trial.curve(STEPS, REWARD)
    assert x.tolist() == [1000, 2000] and y.tolist() == [-3.0, -2.0]
    assert trial.algorithm == "EMH-PPO" and trial.seed is None
    assert "config/seed" not in trial.results and "done" not in trial.results


def test_a_half_written_last_line_is_skipped(tmp_path):
    folder = write_trial(tmp_path, [-3.0, -2.0])
    with (folder / "result.json").open("a") as file:
        file.write('{"num_env_steps_sampled_lifetime": 3000, "env_runners": {"rew')
    assert Trial(folder).curve(STEPS, REWARD)[0].tolist() == [1000, 2000]


def test_missing_values_leave_gaps(tmp_path):
    trial = Trial(write_trial(tmp_path, [-3.0, float("nan"), -1.0]))
    assert trial.curve(STEPS, REWARD)[0].tolist() == [1000, 3000]
    assert len(trial.curve(STEPS, "env_runners/none")[0]) == 0


def test_what_a_resumed_run_did_again_counts_once(tmp_path):
    folder = write_trial(tmp_path, [-4.0, -3.0, -2.0])
    again = json.dumps({STEPS: 2000, "env_runners": {"reward": -9.0}})
    with (folder / "result.json").open("a") as file:
        file.write(f"{again}\n")
    x, y = Trial(folder).curve(STEPS, REWARD)
    assert x.tolist() == [1000, 2000] and y.tolist() == [-4.0, -9.0]


def test_runs_that_differ_in_their_seed_are_one_group(tmp_path):
    for seed in range(3):
        # Functions are written with their address, which means nothing.
        write_trial(tmp_path, [-1.0], number=seed, seed=seed, policy=f"<function f at 0x7f{seed}>")
    assert labels(tmp_path) == {"EMH-PPO": ["0", "1", "2"]}


def test_seeds_may_lie_in_experiments_of_their_own(tmp_path):
    for seed in range(2):
        write_trial(tmp_path / f"seed{seed}", [-1.0], seed=seed)
    assert labels(tmp_path) == {"EMH-PPO": ["0", "1"]}
    assert labels(tmp_path / "seed0", tmp_path / "seed1") == {"EMH-PPO": ["0", "1"]}


def test_a_label_says_what_differs(tmp_path):
    for number, (weight, seed) in enumerate([(1, 0), (1, 1), (50, 0)]):
        config = {"num_devices": 3, "energy_weight": weight}
        write_trial(tmp_path, [-1.0], number=number, seed=seed, env_config=config)
    assert labels(tmp_path) == {"energy_weight=1": ["0", "1"], "energy_weight=50": ["0"]}


def test_algorithms_are_told_apart_by_name_and_not_by_their_own_settings(tmp_path):
    write_trial(tmp_path / "a", [-1.0], reward_scale=10.0)
    write_trial(tmp_path / "b", [-1.0], algorithm="PPO", kl_coeff=0.2)
    assert set(labels(tmp_path)) == {"EMH-PPO", "PPO"}
    write_trial(tmp_path / "c", [-1.0], algorithm="PPO", kl_coeff=0.3)
    assert set(labels(tmp_path)) == {"EMH-PPO", "PPO, kl_coeff=0.2", "PPO, kl_coeff=0.3"}


def test_a_rerun_with_the_same_seed_is_no_further_seed(tmp_path):
    for name in ("old", "new"):
        write_trial(tmp_path / name, [-1.0], seed=0)
    assert labels(tmp_path) == {"EMH-PPO, new": ["0"], "EMH-PPO, old": ["0"]}
    write_trial(tmp_path / "elsewhere" / "new", [-1.0], seed=0)
    assert set(labels(tmp_path)) == {"EMH-PPO, new [1]", "EMH-PPO, new [2]", "EMH-PPO, old"}
    short = write_trial(tmp_path / "twice", [-1.0], seed=0)
    long = write_trial(tmp_path / "twice", [-1.0, -2.0], seed=0, number=1)
    (group,) = group_by_seed([Trial(short), Trial(long)]).values()
    assert [trial.folder for trial in group] == [long]


def test_runs_without_a_seed_are_independent(tmp_path):
    for number in range(2):
        write_trial(tmp_path, [-1.0], number=number)
    assert labels(tmp_path) == {"EMH-PPO": [None, None]}


def test_where_too_much_differs_the_experiment_names_the_group(tmp_path):
    many = {f"setting_{i}": 1 for i in range(6)}
    write_trial(tmp_path / "plain", [-1.0])
    for number, rate in enumerate([1e-3, 1e-4]):
        write_trial(tmp_path / "tuned", [-1.0], number=number, lr=rate, **many)
    assert set(labels(tmp_path)) == {"plain", "tuned, lr=0.001", "tuned, lr=0.0001"}


def test_a_trial_without_settings_yet_is_drawn_all_the_same(tmp_path):
    folder = write_trial(tmp_path, [-1.0])
    (folder / "params.json").write_text('{"env": "mec_ta')
    (trial,) = find_trials(tmp_path)
    assert trial.settings == {} and trial.algorithm == "EMHPPO_mec_task_window_v0"
    np.testing.assert_array_equal(trial.curve(STEPS, REWARD)[1], [-1.0])


def test_a_folder_without_results_is_named(tmp_path):
    folder = write_trial(tmp_path, [])
    for path in (tmp_path, folder):
        with pytest.raises(MecError, match=f"no results in {path}"):
            find_trials(path)
    with pytest.raises(MecError, match="no such folder"):
        find_trials(tmp_path / "nowhere")
    with pytest.raises(MecError, match="is a file, expected the folder"):
        find_trials(folder / "params.json")
