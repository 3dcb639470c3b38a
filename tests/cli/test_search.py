"""``--search`` of ``compare``, ``evaluate`` and the server: other decisions tried for each one."""

import functools
import json

import pytest

from rllib_mec.cli import scenarios
from rllib_mec.cli.mec import main
from rllib_mec.envs import TimeSlotMDP
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, Lookahead, Planner, PlannerBudget
from rllib_mec.testbed.options import ServerOptions

SMALL = ["--num-tasks", "10", "--episodes", "2"]


@pytest.fixture
def trained(monkeypatch):
    policy = FullOffload(Scenario(num_devices=12))
    policy.name = "EMH-PPO"
    monkeypatch.setattr(scenarios, "load_trained", lambda path: policy)


def rewards(capsys, *flags):
    assert main(["compare", "--json", "-", *SMALL, *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    return {entry["policy"]: entry["reward"] for entry in found if entry["policy"] != "bound"}


def test_checkpoints_and_named_policies_have_a_second_row(trained, capsys):
    found = rewards(
        capsys, "--checkpoint", "x", "--policies", "local-only", "--search", "8",
    )  # fmt: skip
    assert list(found) == ["local only", "EMH-PPO", "local only + search", "EMH-PPO + search"]


def test_the_planner_has_none(monkeypatch, capsys):
    budget = PlannerBudget(refined=2, rounds=4, proposals=2, samples=8, final_samples=8)
    planner = functools.partial(Planner, budget=budget, cache=False)
    monkeypatch.setattr("rllib_mec.policies.planner.policy.Planner", planner)
    few = ["--scenario", "num_devices=2", "max_window=1"]
    found = rewards(capsys, "--policies", "local-only,planner", "--search", "8", *few)
    assert list(found) == ["local only", "planner", "local only + search"]


def test_it_betters_what_is_bad(trained, capsys):
    found = rewards(capsys, "--checkpoint", "x", "--policies", "", "--search", "16")
    assert found["EMH-PPO + search"]["mean"] > 0.8 * found["EMH-PPO"]["mean"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--search", "8"], "--search betters policies of --checkpoint, or those"),
        (["--policies", "planner", "--search", "8"], "--search betters policies of --checkpoint"),
        (["--policies", "local-only", "--search", "0"], "--search"),
        (
            ["--policies", "local-only", "--env", TimeSlotMDP.env_id, "--search", "8"],
            "which mec_time_slot_v0 has not: leave it out",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(flags, message, capsys):
    assert main(["compare", *SMALL, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_scheduler_searches_if_asked_to(monkeypatch):
    monkeypatch.setattr("rllib_mec.policies.load_policy", lambda path: FullOffload(Scenario()))
    assert isinstance(ServerOptions(checkpoint="x").load_policy(), FullOffload)
    assert isinstance(ServerOptions(checkpoint="x", search=8).load_policy(), Lookahead)
