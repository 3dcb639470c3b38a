"""The checkpoints that come with the package: small, and of use where they say that they are."""

import json
from pathlib import Path

import pytest

from rllib_mec.checkpoints import PRETRAINED, find_checkpoint
from rllib_mec.cli.mec import main
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import LocalOnly, ShortestQueue, load_policy


@pytest.mark.parametrize("name", PRETRAINED)
def test_it_is_small_and_has_a_card(name):
    folder = find_checkpoint(name)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size < 5e6
    assert f"`{name}`" in (folder.parent / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("pretrained", {}),
        ("pretrained", {"num_devices": 1}),
        ("pretrained", {"num_devices": 5, "num_servers": 3, "num_channels": 3}),
        ("pretrained", {"num_devices": 4, "dnn": "mobilenet_v2"}),
        ("pretrained-many", {"num_devices": 12}),
        ("pretrained-many", {"num_devices": 16, "num_servers": 4, "num_channels": 4}),
        ("pretrained-many", {"num_devices": 32, "num_servers": 8, "num_channels": 8}),
    ],
    ids=str,
)
def test_it_is_better_than_rules_of_thumb_where_it_was_trained(name, fields):
    scenario = Scenario(**fields)
    own, *rules = (
        evaluate(policy, policy.mdp, episodes=4)["reward"].mean
        for policy in (load_policy(name, scenario), ShortestQueue(scenario), LocalOnly(scenario))
    )
    # A rule of thumb is near the best for one device.
    assert own > (1.02 if fields == {"num_devices": 1} else 0.95) * max(rules)


def test_the_command_line_knows_it_by_its_word(capsys):
    command = "compare --checkpoint pretrained --policies local-only --episodes 2 --json -"
    assert main([*command.split(), "--scenario", "num_devices=6"]) == 0
    out, err = capsys.readouterr()
    rewards = {entry["policy"]: entry["reward"]["mean"] for entry in json.loads(out)}
    assert rewards["EMH-PPO"] > 0.6 * rewards["local only"]
    assert "was trained with" not in err


def test_a_folder_of_that_name_is_meant_by_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in PRETRAINED:
        Path(name).mkdir()
        with pytest.raises(MecError, match="is not a checkpoint and holds none"):
            find_checkpoint(f"./{name}")
