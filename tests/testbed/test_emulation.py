"""``rllib-mec testbed`` and Fig. 15's script: bad input, tables, and one small run."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import types

import pytest

from rllib_mec.cli.mec import main
from rllib_mec.cli.testbed import describe
from rllib_mec.dnn import LatencyProfile
from rllib_mec.testbed.calibration import Calibration
from rllib_mec.testbed.emulation_run import EmulationOptions, Run
from rllib_mec.testbed.prediction import Prediction
from rllib_mec.testbed.records import Summary

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--devices 0", "devices must be at least 1"),
        ("--devices 1000", "at most 64"),
        ("--tasks 0", "tasks must be at least 1"),
        ("--bandwidth-mbps -3", "bandwidth_mbps must be positive, got -3"),
        ("--bandwidth-mbps nan", "bandwidth_mbps must be positive, got nan"),
        ("--slowdown 0.5", "slowdown must be at least 1, got 0.5"),
        ("--slowdown inf", "slowdown must be at least 1, got inf"),
        ("--model mobilnet_v2", "did you mean 'mobilenet_v2'?"),
        ("--codec int9", "did you mean 'int8'?"),
        ("--link tc", "unknown link 'tc'"),
        ("--checkpoint no/such/folder", "no/such/folder"),
        ("--csv no/such/file.csv", "--csv: there is no folder 'no/such'"),
        ("--devices three", "'--devices': 'three' is not a valid integer"),
        ("--bandwith 3", "unknown flag '--bandwith': did you mean '--bandwidth-mbps'?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, command, message):
    assert main(["testbed", *command.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("rllib-mec: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def a_run(policy, mean_ms, predicted_ms, devices=2, wrong=0, points=(1, 3)):
    measured = Summary(
        tasks=10 * devices,
        mean_ms=mean_ms,
        p50_ms=mean_ms - 1,
        p95_ms=mean_ms + 5,
        throughput_per_s=1e3 * devices / mean_ms,
        makespan_s=1.0,
        local_share=0.0,
        fallback_share=0.1 if wrong else 0.0,
        waiting_ms=0.5,
        energy_j=0.0123,
        max_abs_error=None,
    )
    predicted = Prediction(predicted_ms, predicted_ms, predicted_ms, 1.0, 0.0, 0.0, 0.0)
    return Run(policy, devices, points, measured, predicted, wrong, ())


def test_the_table_shows_savings_and_the_predictions_error():
    profile = LatencyProfile(
        "d", ("a",), (15.0,), (15.0,), (15.0,), 15.0, 1, 0, ((1, 3, 2, 2),), {}
    )
    emulation = types.SimpleNamespace(
        options=EmulationOptions(devices=2, tasks=10),
        calibration=Calibration(profile.scaled(5.0), profile, "int8", 4.25, 46.0),
        link="a test",
        cuts=lambda run: [f"operator {point}" for point in run.points],
    )
    runs = [a_run("local only", 80.0, 76.0), a_run("best points", 60.0, 66.0, wrong=3)]
    lines = describe(emulation, runs).splitlines()
    local, best = (next(li for li in lines if li.startswith(run.policy)).split() for run in runs)
    assert "+0.0%" in local and "-5.0%" in local  # against itself; 76 for 80
    assert "-25.0%" in best and "+10.0%" in best  # 60 for 80; 66 for 60
    assert "best points: 10% fell back to local" in lines
    assert "best points: cut after md_0: operator 1, md_1: operator 3" in lines
    assert lines[-1] == "right answers: 37 of 40"
    assert "the whole DNN takes 75.0 ms, 15.0 ms on the server; a request adds 4.2 ms" in lines[2]
    assert "by a test" in lines[1]


@pytest.fixture
def fig15(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "fig15_testbed", raising=False)
    import fig15_testbed

    return fig15_testbed


def test_fig15_puts_the_papers_savings_beside_ours(fig15, monkeypatch, tmp_path, capsys):
    latency = {"local only": 80.0, "full offload": 120.0, "best points": 56.0}

    def measure(options, device_counts, repeats):
        rows = [
            fig15.Row(
                options.slowdown, count, repeat, policy, mean + repeat, mean, mean, 0.01, 9.0,
                0.0, float(policy == "local only"), 1.1 * mean, 0, 0.0, "conv1",
            )
            for repeat in range(repeats)
            for count in device_counts
            for policy, mean in latency.items()
        ]  # fmt: skip
        return rows, "a test"

    monkeypatch.setattr(fig15, "measure", measure)
    assert fig15.main(["--repeats", "2", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "fig15_testbed.md").read_text()
    best = next(li for li in text.splitlines() if li.startswith("| 5 | 3 | best points"))
    # 56/80 and 57/81: -30.0 % and -29.6 %; the simulator says 61.6 for a mean of 56.5.
    assert "| -29.8 ±" in best and "| −24 % | 61.6 | +9.0 % |" in best
    local = next(li for li in text.splitlines() if li.startswith("| 5 | 3 | local only"))
    assert local.endswith("| 9.0 | 0.0 | 100% |") and best.endswith("| 9.0 | 0.0 | 0% |")
    assert "right answers: 4200 of 4200" in text.lower()  # 2 * 3 * (1 + 2 + 3 + 1) runs of 100
    with (tmp_path / "fig15_testbed.csv").open() as lines:
        assert len(list(csv.DictReader(lines))) == 2 * 3 * 4
    assert (tmp_path / "fig15_testbed.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--repeats 0", "--repeats must be at least 1"),
        ("--model mobilnet_v2", "did you mean 'mobilenet_v2'?"),
        ("--bandwidth-mbps 0", "bandwidth_mbps must be positive"),
    ],
)
def test_fig15_refuses_bad_input_in_one_line(fig15, capsys, command, message):
    assert fig15.main(command.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


@pytest.mark.slow
def test_every_task_of_a_small_run_ends_with_the_right_answer(tmp_path, capsys, monkeypatch):
    for name, few in (("_PROBES", 4), ("_ROUNDS", 2)):  # how exact the prediction is does not count
        monkeypatch.setattr(f"rllib_mec.testbed.emulation.{name}", few)
    json_file, csv_file = tmp_path / "run.json", tmp_path / "run.csv"
    command = "testbed --model mobilenet_v3_small --devices 2 --tasks 4 --slowdown 2"
    command += f" --json {json_file} --csv {csv_file}"
    assert main(command.split()) == 0
    out = capsys.readouterr().out
    assert "right answers: 24 of 24" in out
    runs = json.loads(json_file.read_text())["runs"]
    assert [run["policy"] for run in runs] == ["local only", "full offload", "best points"]
    assert all(run["wrong"] == 0 and run["predicted"]["mean_ms"] > 0 for run in runs)
    assert [run["measured"]["local_share"] for run in runs[:2]] == [1.0, 0.0]
    with csv_file.open() as lines:
        tasks = [(row["device"], int(row["task"])) for row in csv.DictReader(lines)]
    everyone = [(device, task) for device in ("md_0", "md_1") for task in range(4)]
    assert sorted(tasks) == sorted(3 * everyone)  # none lost, none answered twice
    command = ["pgrep", "-P", str(os.getpid()), "-f", "emulated_device"]
    assert not subprocess.run(command, capture_output=True, text=True).stdout.strip()
