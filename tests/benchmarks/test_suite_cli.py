import dataclasses
import subprocess
import sys

import pytest
import reproduce
from made_up import fill
from suite import cli, run
from suite.cells import BUDGETS
from suite.store import Store
from suite.trial import Protocol, Trial


@pytest.fixture
def reproduced(configs, tmp_path):
    """``reproduce.py`` with flags, in a folder of the test's own."""

    def main(*flags):
        folders = ["--storage", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
        return cli.main(reproduce.ITEMS, "", [*flags, *folders])

    return main


@pytest.fixture
def finished(configs, tmp_path):
    """The results of Fig. 12, all of them in the store, and the headline's."""
    items = {item.name: item for item in reproduce.ITEMS}
    store = Store(tmp_path / "store")
    of = {name: items[name].results(BUDGETS["quick"], store) for name in ("headline", "fig12")}
    for results in of.values():
        fill(results)
    return of["fig12"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "fig21"], "unknown item 'fig21': did you mean 'fig12'?"),
        (["--budget", "quik"], "unknown budget 'quik': did you mean 'quick'?"),
        (["--jobs", "0"], "--jobs must be at least 1, but is 0"),
        (["--jobs", "two"], "invalid int value: 'two'"),
        (["--only", "fig12", "--report-only"], "lacks 18 of 18 trials, of fig12 with budget"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(reproduced, capsys, flags, message):
    assert reproduced("--budget", "quick", *flags) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err and captured.err.count("\n") == 1


def test_a_missing_matplotlib_is_one_line_before_any_work():
    # In a process of its own: the items' modules must not import it either.
    script = (
        "import sys; sys.modules['matplotlib'] = None; import reproduce;"
        "sys.exit(reproduce.cli.main(reproduce.ITEMS, '', ['--only', 'headline']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert "pip install 'rllib_mec[plot]'" in done.stderr


def test_finished_trials_are_only_reported(reproduced, finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "run", lambda *args: pytest.fail("nothing is left to do"))
    assert reproduced("--only", "fig12", "--budget", "quick") == 0
    assert "18 trials, 18 of them done before" in capsys.readouterr().out
    assert {file.suffix for file in (tmp_path / "results").iterdir()} == {".csv", ".md", ".png"}


def test_an_interrupted_suite_does_the_rest_and_writes_what_is_complete(
    reproduced, finished, tmp_path, capsys, monkeypatch
):
    lost = finished.find("EMH-PPO", β=500).trials[0]
    finished.store.discard(lost)

    def be_interrupted(work, store, jobs, on_done):
        assert [each.trial.key for each in work if each.trial.is_trained][:1] == [lost.key]
        return run.Outcome([], interrupted=True)

    monkeypatch.setattr(run, "run", be_interrupted)
    assert reproduced("--only", "fig12", "headline", "--budget", "quick") == 130
    assert (tmp_path / "results" / "headline.md").exists()
    assert not (tmp_path / "results" / "fig12.md").exists()
    assert "not complete: fig12" in capsys.readouterr().err

    def do_it(work, store, jobs, on_done):
        for each in work:
            fill(finished)
            on_done(each.trial)
        return run.Outcome([], interrupted=False)

    monkeypatch.setattr(run, "run", do_it)
    assert reproduced("--only", "fig12", "headline", "--budget", "quick") == 0
    assert (tmp_path / "results" / "fig12.md").exists()


def test_trials_of_other_code_are_told_and_redone_on_demand(
    reproduced, finished, capsys, monkeypatch
):
    stale = finished.find("EMH-PPO", β=10).trials[0]
    record = {**finished.store.training(stale), "sources": "of yesterday"}
    finished.store.write_training(stale, record, finished.store.curve(stale))
    assert reproduced("--only", "fig12", "--budget", "quick") == 0
    assert "1 of 18 trials were made by other code" in capsys.readouterr().err

    redone = []
    outcome = run.Outcome([("a trial", "its cause")], interrupted=False)
    monkeypatch.setattr(run, "run", lambda work, *args: redone.extend(work) or outcome)
    assert reproduced("--only", "fig12", "--budget", "quick", "--redo-stale") == 1
    assert [each.trial.key for each in redone] == [stale.key]
    assert "a trial: its cause" in capsys.readouterr().err


def test_a_measurement_that_is_missing_needs_no_new_training(finished):
    trial = finished.find("EMH-PPO", β=50).trials[0]
    protocols = [Protocol(), Protocol(num_tasks=100), Protocol(num_tasks=200)]
    (work,) = run.left_to_do([(trial, protocol) for protocol in protocols], finished.store)
    assert work.protocols == set(protocols[1:])
    planner = Trial("planner", {"num_devices": 2})
    ordered = run.left_to_do([(trial, protocols[1]), (planner, Protocol())], finished.store)
    assert [each.trial.source for each in ordered] == ["planner", "emh_ppo"]


@pytest.mark.slow
def test_trials_are_trained_measured_and_kept_and_a_failure_stops_no_other(
    configs, tmp_path, ray_session
):
    store, protocol = Store(tmp_path / "store"), Protocol(num_tasks=20, episodes=8)
    trial = Trial("emh_ppo", {"num_devices": 1}, seed=0, steps=512)
    wanted = [(trial, protocol), (Trial("local-only"), protocol)]
    failing = (Trial("local-only"), dataclasses.replace(protocol, episodes=0))
    done = []
    work = run.left_to_do([*wanted, failing], store)
    outcome = run.run(work, store, 2, done.append)

    assert [label for label, _ in outcome.failed] == ["local-only"]
    assert "episodes must be at least 1" in outcome.failed[0][1]
    assert not outcome.interrupted and [t.key for t in done] == [trial.key]
    assert store.training(trial)["steps"] == 512
    curve = store.curve(trial)
    assert [row["steps"] for row in curve] == [256, 512]
    assert all(row["eval_reward"] < 0 for row in curve)
    measured = store.evaluation(trial, protocol)
    assert (measured["num_tasks"], measured["episodes"]) == (20, 8)
    assert run.left_to_do([(trial, protocol)], store) == []
    local = store.evaluation(Trial("local-only"), protocol)
    if local is not None:  # its two measurements are made in either order
        assert local["latency_ms"]["mean"] == pytest.approx(20 * 43.015, rel=1e-3)
