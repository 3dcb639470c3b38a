import dataclasses
import functools
import sys
import types

import pytest
from suite import store as stores
from suite.cells import REFERENCES
from suite.store import Store, source_fingerprint
from suite.trial import Protocol, Trial, stretched
from torch import nn

from rllib_mec.errors import MecError


@pytest.fixture
def base(configs):
    return Trial("emh_ppo", seed=0)


def test_a_default_that_is_written_out_makes_no_other_trial(base):
    same = Trial("emh_ppo", {"num_devices": 3, "energy_weight": 50.0}, seed=0)
    assert same.key == base.key


def test_steps_that_the_file_has_anyway_make_no_other_trial(base):
    assert dataclasses.replace(base, steps=400_000).key == base.key


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"steps": 1000},
        {"scenario": {"num_devices": 2}},
        {"settings": {"clip_param": 0.1}},
        {"source": "time_slot"},
        {"source": "planner"},
    ],
    ids=str,
)
def test_whatever_determines_the_policy_makes_another_trial(base, changes):
    assert dataclasses.replace(base, **changes).key != base.key


def test_another_dnn_under_the_same_name_makes_another_trial(base, configs, monkeypatch):
    module = types.ModuleType("own_dnns")
    monkeypatch.setitem(sys.modules, "own_dnns", module)
    keys = []
    for width in (4, 4, 8):
        module.make = lambda width=width: nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU())
        fields = {"dnn": "own_dnns:make", "dnn_input": [3, 8, 8], "server_latency_ms": 1.0}
        keys.append(dataclasses.replace(base, scenario=fields).key)
    assert keys[0] == keys[1] != keys[2]


def test_a_setting_in_the_file_counts_and_a_comment_does_not(base, configs):
    before = base.key
    file = configs / "emh_ppo.yaml"
    file.write_text("# Another comment.\n" + file.read_text())
    assert dataclasses.replace(base).key == before
    file.write_text(file.read_text().replace("num_epochs: 4", "num_epochs: 5"))
    assert dataclasses.replace(base).key != before


def test_a_short_trial_is_a_small_copy_of_the_long_one(configs):
    spec = Trial("emh_ppo", {"num_devices": 2}, {"gamma": 0.9}, seed=7, steps=4000).spec
    assert spec["stop"] == {"num_env_steps_sampled_lifetime": 4000}
    assert spec["config"]["lr"][-1] == [4000, 0.0]  # the file has 400 000
    assert (spec["config"]["seed"], spec["config"]["gamma"]) == (7, 0.9)
    assert spec["config"]["env_config"]["num_devices"] == 2
    assert spec["config"]["env_config"]["dnn"] == "resnet50"


@pytest.mark.parametrize("value", [0.5, "a", [], [64, 64], [[5, 1.0], [9, 0.0]], None])
def test_only_schedules_are_stretched(value):
    assert stretched(value, 0.1) == value


@pytest.mark.parametrize("name", REFERENCES.values())
def test_an_untrained_policy_differs_by_its_scenario(name):
    assert Trial(name).key == Trial(name, {"num_devices": 3}).key
    assert Trial(name).key != Trial(name, {"num_devices": 4}).key


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        (Trial("emh_pppo"), "no such file"),
        (Trial("planner", {"num_device": 2}), "did you mean 'num_devices'"),
        (Trial("time_slot", {"slot": 5.0}), "did you mean 'slot_ms'"),
        (Trial("emh_ppo", {"dnn": "resnet5"}), "did you mean 'resnet50'"),
    ],
)
def test_a_bad_trial_is_one_clear_line(configs, trial, message):
    with pytest.raises(MecError, match=message):
        _ = trial.key


def test_a_file_that_does_not_stop_by_steps_is_one_clear_line(configs):
    file = configs / "emh_ppo.yaml"
    file.write_text(file.read_text().replace("num_env_steps_sampled_lifetime", "time_total_s"))
    with pytest.raises(MecError, match=r"emh_ppo.yaml must stop at num_env_steps"):
        _ = Trial("emh_ppo").spec


def test_a_killed_training_leaves_nothing_that_counts(base, tmp_path):
    store = Store(tmp_path / "store")
    store.checkpoint(base).mkdir(parents=True)
    assert store.training(base) is None
    record = {"seconds": 1.0, "steps": 1, "commit": "a", "sources": source_fingerprint(base.source)}
    store.write_training(base, record, [{"steps": 1.0, "reward": -2.5}])
    assert store.training(base) == record
    assert store.curve(base) == [{"steps": 1.0, "reward": -2.5}]
    assert not store.has(base, Protocol())
    store.write_evaluation(base, Protocol(), record)
    assert store.has(base, Protocol()) and not store.has(base, Protocol(num_tasks=100))


def test_results_of_other_code_are_stale_until_discarded(base, tmp_path):
    store = Store(tmp_path / "store")
    assert not store.is_stale(base)
    store.write_evaluation(base, Protocol(), {"sources": source_fingerprint(base.source)})
    assert not store.is_stale(base)
    store.write_evaluation(base, Protocol(num_tasks=100), {"sources": "of yesterday"})
    assert store.is_stale(base)
    store.discard(base)
    assert not store.is_stale(base) and store.evaluation(base, Protocol()) is None


def test_the_fingerprint_is_of_code_not_of_words(tmp_path, monkeypatch):
    file = tmp_path / "rllib_mec" / "network" / "radio.py"
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(stores, "ROOT", tmp_path)
    fingerprint = functools.partial(source_fingerprint.__wrapped__, "emh_ppo")

    file.write_text(
        '"""Old words."""\nX = 1\n"""Old."""\n\ndef f():\n    """Old."""\n    return 1\n'
    )
    before = fingerprint()
    file.write_text('"""New words."""\nX = 1\n\ndef f():  # why\n    """New."""\n    return 1\n')
    assert fingerprint() == before
    file.write_text('"""New words."""\nX = 1\n\ndef f():\n    """New."""\n    return 2\n')
    assert fingerprint() != before


def test_the_fingerprint_is_of_what_has_a_part(tmp_path, monkeypatch):
    file = tmp_path / "rllib_mec" / "algorithms" / "emh_ppo" / "learner.py"
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(stores, "ROOT", tmp_path)
    sources = ("emh_ppo", "agile_nn", "time_slot", "h_ppo", "mahppo", "planner", "local-only")

    file.write_text("x = 1\n")
    before = {source: source_fingerprint.__wrapped__(source) for source in sources}
    file.write_text("x = 2\n")
    changed = {s for s in sources if source_fingerprint.__wrapped__(s) != before[s]}
    assert changed == {"emh_ppo", "agile_nn", "time_slot"}
