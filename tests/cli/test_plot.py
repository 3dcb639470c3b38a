"""``rllib-mec plot``: training curves from result folders."""

import json

import numpy as np
import pytest
from matplotlib.image import imread
from tune_results import write_trial

from rllib_mec.cli.mec import main
from rllib_mec.viz import plotting


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Two seeds of each of two energy weights; the second seed of the first is still running."""
    monkeypatch.chdir(tmp_path)
    for number, (weight, seed, rewards) in enumerate(
        [(1, 0, [-4, -2, -1]), (1, 1, [-6, -4]), (50, 0, [-9, -8, -7]), (50, 1, [-9, -8, -7])]
    ):
        config = {"energy_weight": weight}
        folder = write_trial(
            tmp_path / "sweep", rewards, number=number, seed=seed, env_config=config
        )
        if len(rewards) < 3:
            with (folder / "result.json").open("a") as file:
                file.write('{"num_env_steps_sampled_lifetime": 3000, "env_runn')
    return tmp_path / "sweep"


@pytest.fixture
def figures(monkeypatch):
    """The figures that were written."""
    found = []
    save = plotting.save
    monkeypatch.setattr(plotting, "save", lambda *args: (found.append(args[0]), save(*args)))
    return found


def curves(figure, panel=0):
    """The means by label."""
    axes = figure.axes[panel]
    return dict(zip(axes.get_legend_handles_labels()[1], axes.get_lines()[::3], strict=True))


def test_runs_that_differ_in_their_seed_are_one_curve(experiment, figures, capsys):
    assert main(["plot", str(experiment)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "energy_weight=1: 2 runs, 3 results",
        "energy_weight=50: 2 runs, 3 results",
        "wrote sweep.png",
    ]
    height, width, _ = imread("sweep.png").shape
    assert width > height > 400
    (figure,) = figures
    drawn = curves(figure)
    assert set(drawn) == {"energy_weight=1 (2 seeds)", "energy_weight=50 (2 seeds)"}
    first = drawn["energy_weight=1 (2 seeds)"]
    np.testing.assert_array_equal(first.get_xdata(), [1000, 2000, 3000])
    np.testing.assert_array_equal(first.get_ydata(), [-5, -3, -1])  # the running one lacks the last
    looks = {line.get_color() for line in drawn.values()}
    assert len(looks) == 2
    bands = figure.axes[0].collections
    assert len(bands) == 2
    # At -4 and -6 the interval is -5 ± 12.7.
    assert bands[0].get_paths()[0].vertices[:, 1].min() == pytest.approx(-5 - 12.706, abs=0.01)


def test_metrics_and_axis_may_be_chosen(experiment, figures):
    command = ["plot", str(experiment), "--out", "c.pdf", "--x", "training_iteration"]
    assert main([*command, "--metrics", "reward", "num_env_steps_sampled_lifetime"]) == 0
    (figure,) = figures
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Mean reward of a task window",
        "environment steps",
    ]
    steps = curves(figure, panel=1)["energy_weight=50 (2 seeds)"]
    np.testing.assert_array_equal(steps.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(steps.get_ydata(), [1000, 2000, 3000])
    assert (experiment.parent / "c.pdf").read_bytes().startswith(b"%PDF")


def test_several_folders_are_compared_in_one_picture(experiment, figures, capsys):
    other = experiment.parent / "other"
    write_trial(other, [-3, -2], algorithm="MAHPPO")
    for number in range(2, 4):  # leaves one setting of EMH-PPO
        write_trial(experiment.parent / "emh", [-5, -4], number=number, seed=number)
    assert main(["plot", str(other), str(experiment.parent / "emh"), "--out", "both.png"]) == 0
    drawn = figures[0].axes[0].get_legend_handles_labels()
    assert drawn[1] == ["MAHPPO", "EMH-PPO (2 seeds)"]
    assert [line.get_color() for line in drawn[0]] == [
        plotting.NAMED_LOOKS[name]["color"] for name in ("MAHPPO", "EMH-PPO")
    ]


def test_other_environments_are_drawn_by_their_return(tmp_path, figures, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_trial(
        tmp_path / "x", [20, 30], algorithm="PPO", env="CartPole-v1", metric="episode_return_mean"
    )
    assert main(["plot", str(tmp_path / "x")]) == 0
    assert figures[0].axes[0].get_title(loc="left") == "Mean return of an episode"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nowhere", "no such folder: nowhere"),
        ("empty", "no results in empty: no result.json with a result in it"),
        ("file.txt", "file.txt is a file, expected the folder of a trial or experiment"),
        ("sweep empty", "no results in empty"),
        ("sweep --metrics rewrad", "unknown result 'rewrad': did you mean 'reward'? choose from"),
        ("sweep --metrics lr", "result 'lr' may be any of learners/a/lr, learners/b/lr"),
        ("sweep --x step", "unknown result 'step'"),
        ("sweep --out curves.xyz", "must end with one of .png, .pdf, .svg, .jpg"),
        ("sweep --out no/such/curves.png", "there is no folder 'no/such'"),
        ("sweep --smooth 3", "unknown flag '--smooth'"),
        ("", "missing argument 'RESULT_DIR"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(experiment, capsys, arguments, message):
    root = experiment.parent
    (root / "empty").mkdir()
    (root / "file.txt").touch()
    folder = write_trial(experiment, [-1], number=9, seed=9, env_config={"energy_weight": 1})
    result = {"learners": {"a": {"lr": 1}, "b": {"lr": 1}}}
    (folder / "result.json").write_text(json.dumps(result) + "\n")
    assert main(["plot", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and not list(root.glob("*.png"))
    assert captured.err.startswith("rllib-mec: error: ") and captured.err.count("\n") == 1
    assert message in captured.err
