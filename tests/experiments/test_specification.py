"""The schema for editors: up to date, named by every file, and as strict as the checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rllib_mec.errors import MecError
from rllib_mec.experiments.specification import Specification, json_schema, schema_text

CONFIGS = Path(__file__).parents[2] / "tuned_configs"
FILES = sorted(CONFIGS.glob("**/*.yaml"))


def test_the_committed_schema_is_todays():
    written = (CONFIGS / "schema.json").read_text(encoding="utf-8")
    assert written == schema_text(), "run `python -m rllib_mec.experiments.specification`"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_names_the_schema(file):
    first = file.read_text(encoding="utf-8").splitlines()[0]
    comment, _, target = first.partition("=")
    assert comment == "# yaml-language-server: $schema"
    assert (file.parent / target).resolve() == CONFIGS / "schema.json"


def test_the_schema_has_the_fields_with_their_units_and_limits():
    schema = json_schema()
    experiment = schema["$defs"]["Experiment"]
    assert set(experiment["properties"]) == set(Specification.model_fields)
    assert experiment["additionalProperties"] is False
    fields = experiment["properties"]["config"]["properties"]["env_config"]["properties"]
    assert fields["profile"]["anyOf"][0]["enum"] == ["paper", "si"]
    assert fields["num_devices"]["anyOf"][0]["minimum"] == 1
    assert "metres" in fields["distance_range_m"]["description"]
    json.dumps(schema)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_samples": True}, "num_samples must be a whole number, but is True"),
        ({"num_samples": "5"}, "num_samples must be a whole number, but is '5'"),
        ({"time_budget_s": float("nan")}, "time_budget_s must be"),
        ({"max_failures": -2}, "max_failures must be at least -1, but is -2"),
        ({"log_to_file": "yes"}, "log_to_file must be true or false, but is 'yes'"),
        ({"checkpoint_config": 3}, "checkpoint_config must be"),
        (
            {"checkpoint_config": {"num_to_keep": 0}},
            "checkpoint_config.num_to_keep must be at least 1, but is 0",
        ),
        (
            {"checkpoint_config": {"checkpoint_score_order": "maxx"}},
            "checkpoint_score_order 'maxx': did you mean 'max'?",
        ),
        ({"scheduler_config": []}, "scheduler_config must be a mapping"),
        ({"storage_path": ""}, "storage_path must"),
        ({"stopp": {}}, "unknown experiment key 'stopp': did you mean 'stop'?"),
    ],
)
def test_a_bad_value_is_one_line_with_its_path(values, message):
    with pytest.raises(MecError) as error:
        Specification.of(values)
    assert message in str(error.value) and "\n" not in str(error.value)
