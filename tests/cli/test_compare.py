"""``rllib-mec compare``: the table of policies, with their distance to the planner."""

import functools
import json
from types import SimpleNamespace

import pytest
import yaml

from rllib_mec.cli import scenarios
from rllib_mec.cli.mec import main
from rllib_mec.cli.rllib import main as rllib
from rllib_mec.envs import TimeSlotMDP
from rllib_mec.envs.episodes import run_episodes
from rllib_mec.evaluation import COSTS
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, Planner, PlannerBudget
from rllib_mec.registry import POLICIES

TINY = "--scenario num_devices=2 max_window=1 --num-tasks 2 --episodes 3"


@pytest.fixture(autouse=True)
def quick_planner(monkeypatch):
    budget = PlannerBudget(refined=2, rounds=4, proposals=2, samples=8, final_samples=8)
    planner = functools.partial(Planner, budget=budget, cache=False)
    monkeypatch.setattr("rllib_mec.policies.planner.policy.Planner", planner)


@pytest.fixture
def trained(monkeypatch):
    """A function that says which policy the checkpoint of a name holds."""
    policies = {}
    monkeypatch.setattr(scenarios, "load_trained", lambda path: policies[path])

    def add(path, where, name="EMH-PPO"):
        policies[path] = FullOffload(where)
        policies[path].name = name

    return add


def numbers(capsys, command):
    """What ``--json -`` prints, by policy."""
    assert main(["compare", "--json", "-", *command.split()]) == 0
    return {entry["policy"]: entry for entry in json.loads(capsys.readouterr().out)}


def test_every_policy_stands_beside_its_ratio_to_the_planner(capsys, tmp_path):
    file = tmp_path / "table.json"
    assert main(["compare", *TINY.split(), "--json", str(file)]) == 0
    captured = capsys.readouterr()
    found = {entry["policy"]: entry for entry in json.loads(file.read_text())}
    left_out, wrote = captured.err.splitlines()
    assert left_out.startswith("rllib-mec: note: deadline-first is left out: deadline first needs")
    assert wrote == f"wrote {file}"
    heuristics = ["neurosurgeon", "round robin", "shortest queue"]
    assert list(found) == ["local only", "full offload", "random", *heuristics, "planner", "bound"]
    local, planner = found["local only"], found["planner"]
    assert local["latency_ms"]["mean"] == pytest.approx(2 * 5 * 8.603)
    assert local["point_share"] == [0, 0, 0, 0, 1]
    assert found["full offload"]["point_share"] == [1, 0, 0, 0, 0]
    assert sum(found["random"]["point_share"]) == pytest.approx(1.0)
    for metric, ratio in local["of_planner"].items():
        assert ratio == pytest.approx(local[metric]["mean"] / planner[metric]["mean"])
        assert planner["of_planner"][metric] == 1.0
    lines = captured.out.splitlines()
    assert lines[0].split("  ")[0] == "policy" and lines[0].count("/planner") == 4
    row = next(line for line in lines if line.startswith("local only"))
    assert [cell for cell in row.split() if cell.endswith("×")] == [
        f"{local['of_planner'][metric]:.2f}×" for metric in COSTS
    ]
    assert "3 episodes (seed 0), 2 tasks an MD" in lines[-1] and "N=2" in lines[-1]
    assert ["full", "offload", "0:", "100", "%"] in [line.split() for line in lines]


def test_without_the_planner_the_ratios_are_to_the_bound(capsys):
    found = numbers(capsys, f"--policies full-offload {TINY}")
    offload, bound = found.values()
    assert "of_planner" not in offload and "of_bound" not in bound and "energy_j" not in bound
    for metric, ratio in offload["of_bound"].items():
        assert ratio == pytest.approx(offload[metric]["mean"] / bound[metric]["mean"]) and ratio > 1
    assert main(f"compare --policies full-offload,local-only {TINY}".split()) == 0
    out = capsys.readouterr().out
    assert "planner" not in out and out.splitlines()[0].count("/bound") == 3


def test_the_bound_has_the_setting_of_the_policies(capsys):
    command = "--policies local-only --scenario num_devices=2 profile=si --episodes 2"
    for placement in ("", "--num-tasks 4,5 --distance 10,20", "--draw"):
        local, bound = numbers(capsys, f"{command} {placement}").values()
        for key in ("env", "profile", "num_devices", "num_tasks", "distance_m"):
            assert local[key] == bound[key], (placement, key)


def test_the_distance_can_be_set_and_both_can_be_drawn(capsys):
    command = "--policies full-offload,planner --scenario num_devices=2 max_window=1 --episodes 3"
    near, far = (
        numbers(capsys, f"{command} --num-tasks 2 --distance {metres}")["full offload"]
        for metres in (20, 90)
    )
    assert (near["distance_m"], far["distance_m"]) == (20.0, 90.0)
    assert near["latency_ms"]["mean"] < far["latency_ms"]["mean"]
    drawn = numbers(capsys, f"{command} --draw")["full offload"]
    assert drawn["num_tasks"] is None and drawn["distance_m"] is None
    assert main(f"compare {command} --draw".split()) == 0
    assert "planner knows plans for some of them" in capsys.readouterr().out


def test_each_device_can_have_its_own_tasks_and_distance(capsys, monkeypatch):
    asked = []

    def run_one(decide, where, num_episodes, *, num_tasks, distance_m, **keywords):
        asked.append((num_tasks, distance_m))
        return run_episodes(decide, where, num_episodes, num_tasks=1, distance_m=50.0)

    monkeypatch.setattr("rllib_mec.evaluation.protocol.run_episodes", run_one)
    command = "--policies local-only --episodes 2 --num-tasks 80,50,0 --distance 20,50.5,80"
    entry = numbers(capsys, command)["local only"]
    assert asked == [((80, 50, 0), (20.0, 50.5, 80.0))]
    assert entry["num_tasks"] == [80, 50, 0] and entry["distance_m"] == [20.0, 50.5, 80.0]
    assert main(f"compare {command}".split()) == 0
    assert "(80, 50, 0) tasks an MD, (20, 50.5, 80) m;" in capsys.readouterr().out
    equal = numbers(capsys, "--policies local-only --num-tasks 7,7,7 --distance 50,50,50")
    assert (equal["local only"]["num_tasks"], equal["local only"]["distance_m"]) == (7, 50.0)


def test_threads_change_no_number(capsys):
    command = f"{TINY} --policies local-only"
    assert numbers(capsys, f"{command} --threads 2") == numbers(capsys, command)
    assert main(["compare", *command.split(), "--threads", "0"]) != 0
    assert "--threads must be at least 1" in capsys.readouterr().err


def test_one_episode_has_no_interval(capsys):
    found = numbers(
        capsys, "--policies local-only --episodes 1 " + TINY.replace(" --episodes 3", "")
    )
    assert found["local only"]["reward"]["half_width"] is None


def test_the_scenario_is_the_first_checkpoints_unless_set(capsys, trained):
    trained("a", Scenario(num_devices=2, max_window=2, energy_weight=7.0))
    command = "--checkpoint a --policies local-only --episodes 2 --num-tasks 3"
    found = numbers(capsys, command)
    assert {entry["num_devices"] for entry in found.values()} == {2}
    # r of local only: 43.015 ms, and β/N times the energy of both MDs' tasks.
    reward = -(43.015 + 7.0 * 0.04089184256)
    assert found["local only"]["reward"]["mean"] == pytest.approx(reward)
    found = numbers(capsys, f"{command} --scenario energy_weight=1e1")
    assert found["local only"]["reward"]["mean"] == pytest.approx(-(43.015 + 10 * 0.04089184256))


def test_another_physics_than_in_training_is_a_note(capsys, trained):
    trained("a", Scenario(num_devices=2))
    command = "--checkpoint a --policies local-only --episodes 2 --num-tasks 3"
    assert main(f"compare {command} --scenario energy_weight=9".split()) == 0
    assert capsys.readouterr().err == (
        "rllib-mec: note: the checkpoint a was trained with energy_weight=50.0 (here 9.0)\n"
    )


def test_a_note_on_groups_tells_what_is_set_and_nothing_of_names(capsys, trained):
    groups = [{"count": 1, "name": "phone"}, {"count": 1, "local_slowdown": 8.0}]
    trained("a", Scenario.from_dict({"devices": groups}))
    command = "compare --checkpoint a --policies local-only --episodes 2 --num-tasks 3 --scenario"
    renamed = json.dumps([{"count": 1}, {"count": 1, "local_slowdown": 8.0, "name": "pi"}])
    assert main([*command.split(), f"devices={renamed}"]) == 0
    assert capsys.readouterr().err == ""
    faster = json.dumps([{"count": 1}, {"count": 1, "local_slowdown": 7.0}])
    assert main([*command.split(), f"devices={faster}"]) == 0
    told = capsys.readouterr().err
    assert "{'count': 1, 'local_slowdown': 8.0}) (here (" in told and "None" not in told


def test_what_belongs_to_a_method_is_not_taken_for_the_scenario(capsys, trained):
    scenario = Scenario(num_devices=2)
    trained("agile", scenario.replace(remote_feature_share=0.5), name="AgileNN")
    trained("emh", scenario)
    command = "--policies full-offload --episodes 2 --num-tasks 3 --checkpoint"
    first, second = (numbers(capsys, f"{command} {p}") for p in ("agile emh", "emh agile"))
    assert first == {name: second[name] for name in first}
    assert first["EMH-PPO"]["latency_ms"] == first["full offload"]["latency_ms"]
    # A bound on the others is none on it.
    assert "of_bound" not in first["AgileNN"] and "of_bound" in first["EMH-PPO"]
    # A part of the features is sent, but the rest is computed on the device.
    assert first["AgileNN"]["energy_j"]["mean"] != first["EMH-PPO"]["energy_j"]["mean"]
    assert main(["compare", *f"{command} emh agile".split()]) == 0
    assert "note" not in capsys.readouterr().err


def test_checkpoints_of_one_algorithm_are_numbered(capsys, trained):
    for path in ("a", "b"):
        trained(path, Scenario(num_devices=2))
    trained("c", Scenario(num_devices=2), name="MAHPPO")
    command = "compare --policies local-only --checkpoint a b c --episodes 2 --num-tasks 3"
    assert main(command.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == ["EMH-PPO [1]: a", "EMH-PPO [2]: b", "MAHPPO: c"]
    rows = [line for line in lines if line.startswith("EMH-PPO [")]
    assert rows[0].split()[2:] == rows[1].split()[2:]  # the same policy on the same channels


def test_time_slots_are_compared_to_the_planner_but_for_their_reward(capsys, trained):
    trained("slots", TimeSlotMDP(Scenario(num_devices=2), slot_ms=20.0))
    trained("windows", Scenario(num_devices=2, max_window=2))
    command = "--policies planner --checkpoint slots windows --episodes 2 --num-tasks 3"
    found = numbers(capsys, command)
    slots, windows = found["EMH-PPO, time slots of 20 ms"], found["EMH-PPO"]
    assert slots["env"] == "mec_time_slot_v0" and windows["env"] == "mec_task_window_v0"
    assert set(slots["of_planner"]) == {"cost", "latency_ms", "energy_j"}
    assert set(windows["of_planner"]) == {"reward", "cost", "latency_ms", "energy_j"}
    assert main(["compare", *command.split()]) == 0
    row = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("EMH-PPO, time"))
    assert row.count("×") == 3


OWN = "--env examples.own_reward:Deadline"
LOCAL_REWARD = -(43.015 + 50 * 0.04089184256)
"""Of local only in task windows, by Eq. (8): ms of a task, and β times its J."""


def test_an_mdp_of_the_users_is_compared_without_a_checkpoint(capsys):
    command = f"--policies local-only,planner {OWN} {TINY}".replace("=2 ", "=2 deadline_ms=40 ")
    found = numbers(capsys, command)
    local, planner = found["local only"], found["planner"]
    assert local["env"] == planner["env"] == "deadline_window_v0" and local["deadline_ms"] == 40
    assert local["reward"]["mean"] == pytest.approx(LOCAL_REWARD - 3.015)
    assert set(local["of_planner"]) == set(COSTS)
    assert main(["compare", *command.split()]) == 0
    assert "due in 40 ms (deadline_window_v0)" in capsys.readouterr().out


def test_in_time_slots_the_planner_decides_task_windows(capsys):
    command = "--env mec_time_slot_v0 --scenario slot_ms=20 num_devices=2 --num-tasks 2"
    assert main(f"compare --policies local-only,planner --episodes 2 {command}".split()) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "rllib-mec: note: the planner cannot simulate a time slot: it decides task windows of up "
        "to 5 instead, with another reward\n"
        "rllib-mec: note: there is no bound on cost: a time slot draws shadowing anew under a "
        "transmission\n"
    )
    row = next(line for line in captured.out.splitlines() if line.startswith("local only"))
    assert row.count("×") == 3 and "time slots of 20 ms" in captured.out


def test_beside_a_checkpoint_its_own_mdp_holds_for_all(capsys, trained):
    from examples.own_reward import Deadline  # registers it, which the test's end takes back

    trained("own", Deadline(Scenario(num_devices=2, max_window=1), deadline_ms=40.0))
    command = "--checkpoint own --policies local-only,planner --episodes 2 --num-tasks 2"
    found = numbers(capsys, f"{command} {OWN}")
    assert {entry["env"] for entry in found.values()} == {"deadline_window_v0"}
    assert found["local only"]["reward"]["mean"] == pytest.approx(LOCAL_REWARD - 3.015)
    assert "reward" in found["EMH-PPO"]["of_planner"]
    assert main(f"compare {command} --scenario deadline_ms=42".split()) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "rllib-mec: note: the checkpoint own was trained with deadline_ms=40.0 (here 42)\n"
        "rllib-mec: note: there is no bound on cost: deadline_window_v0 has a law of its own "
        "(task_rewards)\n"
    )
    assert f"{LOCAL_REWARD - 1.015:.2f}" in captured.out
    trained("slots", TimeSlotMDP(Scenario(num_devices=2), slot_ms=20.0))
    found = numbers(capsys, "--checkpoint slots --policies local-only --episodes 2 --num-tasks 2")
    assert found["local only"]["env"] == "mec_time_slot_v0"


REFUSALS = {  # a scenario that a policy cannot decide in: who, and why
    "max_power_dbm=10": ("full-offload", "power_w must lie in [0.001, 0.01], but is 0.02"),
}
OTHERS = len(POLICIES) - 2  # deadline-first needs deadlines


@pytest.mark.parametrize("scenario", REFUSALS)
@pytest.mark.parametrize("env", [[], ["--env", "mec_time_slot_v0"]])
def test_who_cannot_decide_there_is_left_out_unless_asked_for(scenario, env, capsys):
    name, reason = REFUSALS[scenario]
    command = ["compare", *env, *"--episodes 2 --num-tasks 2 --json - --scenario".split(), scenario]
    command += ["num_devices=2"]
    assert main(command) == 0
    captured = capsys.readouterr()
    found = [entry["policy"] for entry in json.loads(captured.out)]
    assert len(set(found) - {"bound"}) == OTHERS and name.replace("-", " ") not in found
    assert captured.err.splitlines()[0] == f"rllib-mec: note: {name} is left out: {reason}"
    assert main([*command, "--policies", f"local-only,{name}"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"rllib-mec: error: {reason}\n" and captured.out == ""


def test_the_planner_plans_for_unlike_devices(capsys, trained):
    trained("unlike", Scenario(devices=[{"count": 1}, {"count": 1, "dnn": "googlenet"}]))
    found = numbers(capsys, "--checkpoint unlike --episodes 5 --num-tasks 4")
    others = [found[name] for name in ("local only", "full offload", "random")]
    assert all(found["planner"]["reward"]["mean"] > other["reward"]["mean"] for other in others)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--policies local-only,planer", "unknown policy 'planer': did you mean 'planner'?"),
        ("--policies ,", "nothing to compare: give --policies or --checkpoint"),
        ("--env examples.own_reward:Deadlin", "has no 'Deadlin': did you mean 'Deadline'?"),
        ("--scenario num_device=4", "'num_device': did you mean 'num_devices'?"),
        ("--env mec_time_slot_v", "unknown environment 'mec_time_slot_v': did you mean 'mec_time"),
        ("--env no.such:MDP", "cannot import environment 'no.such:MDP'"),
        ("--env mec_time_slot_v0 --scenario slot_m=9", "'slot_m': did you mean 'slot_ms'?"),
        ("--env mec_time_slot_v0 --scenario max_window=2", "max_window must be 1 in a time slot"),
        ("--env mec_task_window_v0 --scenario slot_ms=9", "of mec_task_window_v0 'slot_ms'"),
        ("--checkpoint two --scenario slot_ms=9", "of mec_task_window_v0 'slot_ms'"),
        (
            "--checkpoint two slots --env mec_task_window_v0",
            "the checkpoint slots was trained on 'mec_time_slot_v0', not on 'mec_task_window_v0'",
        ),
        ("--scenario num_devices=four", "num_devices must be a whole number"),
        ("--scenario num_devices", "--scenario takes key=value, got 'num_devices'"),
        ("--scenario num_devices=", "--scenario takes key=value, got 'num_devices='"),
        ("--scenario dnn=[a", "--scenario: the value of 'dnn' is not valid YAML: '[a'"),
        ("--scenario dnn=2001-99-99", "--scenario: the value of 'dnn' is not valid YAML"),
        ("--scenario dnn=resnet5O", "did you mean 'resnet50'?"),
        ("--scenario profile=si profile=si", "--scenario: 'profile' is given twice"),
        ("--episodes 0", "--episodes must be at least 1, but is '0'"),
        ("--num-tasks 0", "--num-tasks must be at least 1, but is '0'"),
        ("--distance 0", "--distance must be at least 0.001, but is '0'"),
        ("--num-tasks 80,50", "--num-tasks takes one number, or 3 (one per device), got 80,50"),
        ("--distance 9,9,9,9", "--distance takes one number, or 3 (one per device), got 9.0,9.0"),
        (f"--num-tasks 1{'0' * 30}", "--num-tasks must be at most 1000000000, but is '1000"),
        ("--num-tasks 99999999999999999999,1,1", "--num-tasks must be at most 1000000000, but is"),
        ("--distance 1e300", "--distance must be at most 1000000000, but is '1e300'"),
        (f"--policies random --seed 1{'0' * 30}", "seed"),
        ("--num-tasks 80,,20", "--num-tasks must be a whole number, but is ''"),
        ("--distance 20,0,80", "--distance must be at least 0.001, but is '0'"),
        ("--draw --num-tasks 8,5,2", "--draw draws queues and distances: give it without"),
        ("--draw --num-tasks 3", "--draw draws queues and distances: give it without --num-tasks"),
        ("--draw --distance 50", "--draw draws queues and distances: give it without --num-tasks"),
        ("--seed -1", "--seed must be at least 0, but is '-1'"),
        ("--json no/such.json", "there is no folder 'no'"),
        ("--json folder.json", "'folder.json' is a folder"),
        (
            "--checkpoint two --scenario num_devices=3",
            "checkpoint two was trained with num_devices=2",
        ),
        ("--checkpoint two three", "the checkpoint three was trained with num_devices=3, but the"),
        ("--checkpoint slots --scenario num_channels=1", "trained with num_channels=2, but"),
        ("--checkpoints two", "unknown flag '--checkpoints': did you mean '--checkpoint'?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    trained, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.json").mkdir()
    trained("two", Scenario(num_devices=2))
    trained("three", Scenario(num_devices=3))
    trained("slots", TimeSlotMDP(Scenario(num_devices=2)))
    assert main(["compare", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("rllib-mec: error: ") and captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_of_the_registry_can_be_compared(name, capsys):
    if name == "deadline-first":
        flags = "--env mec_task_stream_v0 --scenario deadline_ms=9 horizon_ms=100 --episodes 3"
        assert len(numbers(capsys, f"--policies {name} {flags}")) == 1
        return
    assert len(numbers(capsys, f"--policies {name} {TINY}")) == 2  # it, and the bound


@pytest.fixture
def evaluated(monkeypatch):
    """A function that says on which environment the checkpoint was trained."""

    def on(env, **env_config):
        config = SimpleNamespace(env=env, env_config=env_config)
        info = SimpleNamespace(path="here", algorithm=None, config=config)
        monkeypatch.setattr("rllib_mec.cli.evaluate.read_here", lambda path: info)
        policy = FullOffload(Scenario(**env_config))
        monkeypatch.setattr("rllib_mec.policies.load_policy", lambda path: policy)

    return on


@pytest.mark.parametrize(
    ("flags", "num_tasks", "distance_m"),
    [("", 4, 50.0), ("--num-tasks 3 --distance 70", 3, 70.0), ("--draw", None, None)],
)
def test_evaluate_takes_the_same_flags(evaluated, capsys, flags, num_tasks, distance_m):
    evaluated("mec_task_window_v0", num_devices=2, mean_tasks=4)
    assert rllib(f"evaluate here --json --episodes 2 {flags}".split()) == 0
    for entry in json.loads(capsys.readouterr().out):
        assert (entry["num_tasks"], entry["distance_m"]) == (num_tasks, distance_m)
        assert entry["cost"]["mean"] > entry["latency_ms"]["mean"]


@pytest.mark.parametrize(
    ("env", "flags", "message"),
    [
        ("mec_task_window_v0", "--draw --distance 3", "--draw draws queues and distances: give it"),
        ("mec_task_window_v0", "--distance near", "--distance must be a number"),
        ("mec_task_window_v0", '--env-config {"randomize":{}}', "randomize in --env-config is for"),
        ("CartPole-v1", "--draw", "for this package's environments, not for 'CartPole-v1'"),
        ("CartPole-v1", "--num-tasks 3", "for this package's environments, not for 'CartPole-v1'"),
        ("CartPole-v1", "--distance 3", "for this package's environments, not for 'CartPole-v1'"),
    ],
)
def test_evaluate_refuses_flags_that_mean_nothing(evaluated, capsys, env, flags, message):
    evaluated(env)
    assert rllib(f"evaluate here {flags}".split()) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and message in captured.err


def test_an_interruption_is_one_line(monkeypatch, capsys):
    def interrupt(policy, *args, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("rllib_mec.evaluation.evaluate", interrupt)
    assert main(f"compare --policies local-only {TINY}".split()) == 130
    assert capsys.readouterr().err.strip() == "rllib-mec: error: interrupted"


@pytest.mark.slow
def test_what_was_trained_is_compared_rendered_and_plotted(
    tmp_path, monkeypatch, capsys, ray_session
):
    monkeypatch.chdir(tmp_path)
    spec = {
        "run": "H-PPO",
        "env": "mec_task_window_v0",
        "stop": {"training_iteration": 2},
        "storage_path": str(tmp_path),
        "config": {
            "env_config": {"num_devices": 2, "max_window": 2, "mean_tasks": 4},
            "seed": 0,
            "num_envs_per_env_runner": 8,
            "train_batch_size_per_learner": 64,
            "minibatch_size": 64,
            "num_epochs": 1,
        },
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({"tiny": spec}))
    assert rllib(["train", "file", "tiny.yaml"]) == 0
    capsys.readouterr()
    found = numbers(capsys, "--checkpoint tiny --policies local-only --episodes 3")
    assert found["H-PPO"]["num_devices"] == 2 and found["H-PPO"]["num_tasks"] == 4
    assert main("compare --checkpoint tiny --scenario num_servers=1".split()) == 2
    assert "tiny was trained with num_servers=2, but" in capsys.readouterr().err
    assert main("render tiny --max-windows 1".split()) == 0
    assert capsys.readouterr().out.startswith("H-PPO: resnet50, N=2")
    assert main("plot tiny --out curves.png".split()) == 0
    assert capsys.readouterr().out.startswith("H-PPO: 1 run, 2 results\n")


STREAM = "--env mec_task_stream_v0 --episodes 3 --scenario horizon_ms=600 num_devices=2"


def test_where_tasks_arrive_the_planner_is_left_out_and_times_in_the_system_are_told(capsys):
    assert main(f"compare {STREAM} deadline_ms=60 arrival_rate_hz=30".split()) == 0
    captured = capsys.readouterr()
    [left_out, no_bound] = captured.err.splitlines()
    assert "planner is left out: the planner cannot plan what has not come" in left_out
    assert "there is no bound on cost" in no_bound
    titles = ["sojourn, ms", "p50", "p95", "p99", "in time, %", "tasks/s", "backlog", "fairness"]
    [header] = [line for line in captured.out.splitlines() if "sojourn" in line]
    assert [title for title in titles if title in header] == titles
    assert "arrivals poisson, 30 tasks/s an MD for 0.6 s" in captured.out
    found = numbers(capsys, f"{STREAM} deadline_ms=60 arrival_rate_hz=30")
    assert "planner" not in found and "bound" not in found
    local, offload = found["local only"], found["full offload"]
    assert local["sojourn_ms"]["mean"] > 43.0 > offload["sojourn_ms"]["mean"]
    assert offload["deadline_hit_rate"]["mean"] > local["deadline_hit_rate"]["mean"]


def test_the_planner_asked_for_by_name_where_tasks_arrive_is_refused_in_one_line(capsys):
    assert main(f"compare {STREAM} --policies local-only,planner".split()) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "the planner cannot plan what has not come" in line


def test_of_episodes_in_which_nothing_came_there_is_no_time_in_the_system(capsys):
    found = numbers(capsys, f"{STREAM} arrival_rate_hz=0.000001 --policies local-only")
    assert found["local only"]["sojourn_ms"] == {"mean": None, "half_width": None}
    assert found["local only"]["backlog"]["mean"] == 0.0


def test_more_than_anyone_can_serve_is_noted(capsys):
    assert main(f"compare {STREAM} arrival_rate_hz=400 --policies local-only".split()) == 0
    [note, _] = capsys.readouterr().err.splitlines()
    assert "no policy can serve these arrivals" in note and "ρ = 2.87" in note
