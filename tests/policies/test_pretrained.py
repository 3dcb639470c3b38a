"""The checkpoint that comes with the package: small, and of use where it says that it is."""

import json
from pathlib import Path

import pytest

from rllib_mec.checkpoints import PRETRAINED, find_checkpoint
from rllib_mec.cli.mec import main
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import ShortestQueue, load_policy


def test_it_is_small_and_has_a_card():
    folder = find_checkpoint(PRETRAINED)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size < 5e6
    assert (folder.parent / "README.md").read_text().startswith("# ")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_devices": 1},
        {"num_devices": 5, "num_servers": 3, "num_channels": 3},
        {"num_devices": 4, "dnn": "mobilenet_v2"},
    ],
    ids=str,
)
def test_it_is_better_than_a_rule_of_thumb_where_it_was_trained(fields):
    scenario = Scenario(**fields)
    own, rule = (
        evaluate(policy, policy.mdp, episodes=4)["reward"].mean
        for policy in (load_policy(PRETRAINED, scenario), ShortestQueue(scenario))
    )
    assert own > 1.02 * rule  # a rule of thumb is near the best for one device


def test_the_command_line_knows_it_by_its_word(capsys):
    command = "compare --checkpoint pretrained --policies local-only --episodes 2 --json -"
    assert main([*command.split(), "--scenario", "num_devices=6"]) == 0
    out, err = capsys.readouterr()
    rewards = {entry["policy"]: entry["reward"]["mean"] for entry in json.loads(out)}
    assert rewards["EMH-PPO"] > 0.6 * rewards["local only"]
    assert "was trained with" not in err


def test_a_folder_of_that_name_is_meant_by_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(PRETRAINED).mkdir()
    with pytest.raises(MecError, match="is not a checkpoint and holds none"):
        find_checkpoint(f"./{PRETRAINED}")
