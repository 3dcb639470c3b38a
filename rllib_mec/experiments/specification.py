"""The keys of an experiment in a file, as pydantic has them: checks, and a schema for editors.

``python -m rllib_mec.experiments.specification`` writes ``tuned_configs/schema.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from rllib_mec.algorithms.randomize import BETWEEN, NUM_SCENARIOS
from rllib_mec.envs import networks
from rllib_mec.errors import MecError, unknown
from rllib_mec.experiments.search_space import GRID, SAMPLERS
from rllib_mec.network.checks import Count, Positive, Whole, refusal
from rllib_mec.network.scenario import Scenario
from rllib_mec.registry import RANDOMIZE


class _Keys(BaseModel):
    """A mapping with known keys; one that is ``null`` counts as left away."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _know_keys(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                raise unknown("experiment key", key, cls.model_fields, show=12)
        return values

    def given(self, *names: str) -> dict[str, Any]:
        """What the user gave of some fields, or of all.

        Args:
            *names: The fields; default: all.
        """
        return self.model_dump(include=set(names) or None, exclude_none=True)


class CheckpointSettings(_Keys):
    """When checkpoints are written, and how many are kept."""

    checkpoint_at_end: bool | None = None
    """Whether a trial ends with one (default: yes)."""
    checkpoint_frequency: Annotated[Whole, Field(ge=0)] | None = None
    """Iterations between checkpoints (default: every 5 minutes)."""
    checkpoint_score_attribute: str | None = None
    """Result key by which the best are kept."""
    checkpoint_score_order: Literal["max", "min"] | None = None
    """Which end of it is best (default: max)."""
    num_to_keep: Count | None = None
    """Checkpoints kept of a trial."""


class Specification(_Keys):
    """An experiment: what is trained, until when, how often, and where the results go."""

    run: Any = None
    """The algorithm: a registered name, or a class path (pkg.module:Class)."""
    env: Any = None
    """The environment: a registered id, a Gymnasium id, or a class path."""
    stop: Any = None
    """Result key -> the value at which a trial ends; the first one met ends it."""
    config: Any = None
    """Arguments of the methods of RLlib's AlgorithmConfig; search spaces anywhere in it."""
    num_samples: Count | None = None
    """Trials per grid point (default: 1)."""
    checkpoint_config: CheckpointSettings | None = None
    """When checkpoints are written, and how many are kept."""
    storage_path: Annotated[str, Field(min_length=1)] | None = None
    """Folder or URI of all results (default: ~/ray_results)."""
    time_budget_s: Positive | None = None
    """Seconds after which all trials end."""
    max_failures: Annotated[Whole, Field(ge=-1)] | None = None
    """How often a trial is tried again after a failure; -1: always."""
    max_concurrent_trials: Count | None = None
    """Trials at a time (default: as many as fit)."""
    restore: str | None = None
    """A checkpoint from whose state all trials start."""
    metric: Annotated[str, Field(min_length=1)] | None = None
    """Result key by which scheduler and search algorithm tell good trials (default: return)."""
    mode: Literal["max", "min"] | None = None
    """Which end of it is good (default: max)."""
    scheduler: str | None = None
    """Tune's scheduler (default: fifo)."""
    scheduler_config: dict[str, Any] | None = None
    """Its arguments."""
    search_alg: str | None = None
    """Tune's search algorithm: optuna, hyperopt, bohb, ... (default: grid and random search)."""
    search_alg_config: dict[str, Any] | None = None
    """Its arguments."""
    fail_fast: bool | None = None
    """Whether the first failure ends all trials."""
    reuse_actors: bool | None = None
    """Whether a trial may take over the process of one that has ended."""
    resources_per_trial: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """What a trial takes in all: cpu, gpu, or resources of one's own."""
    runtime_env: dict[str, Any] | None = None
    """Ray's runtime environment of the workers: working_dir, pip, env_vars, ..."""
    callbacks: list[str | dict[str, dict[str, Any]]] | None = None
    """Tune's callbacks: class paths, or {class path: {argument: value}}."""
    log_to_file: bool | None = None
    """Whether what a trial prints goes to files in its folder."""

    @field_validator("storage_path")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        if path is None or "://" in path:
            return path
        folder = Path(path).expanduser().absolute()
        if folder.exists() and not folder.is_dir():
            raise MecError(f"storage_path {path} is not a folder")
        return str(folder)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Specification:
        """Check the keys of an experiment.

        Args:
            values: Key -> value, under present names.

        Raises:
            MecError: An unknown key, or a value that is bad whatever the algorithm.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise refusal(error) from None


def json_schema() -> dict[str, Any]:
    """The JSON schema of an experiment file, for editors."""
    experiment = Specification.model_json_schema()
    definitions = experiment.pop("$defs", {})
    search = {"type": "object", "minProperties": 1, "maxProperties": 1}
    search["properties"] = {word: {"type": "array"} for word in (GRID, *SAMPLERS)}
    search["additionalProperties"] = False
    scenario = TypeAdapter(Scenario).json_schema()
    definitions |= scenario.pop("$defs")
    fields = {
        name: {"anyOf": [field, {"$ref": "#/$defs/Search"}], "description": field["description"]}
        for name, field in scenario["properties"].items()
    }
    fields[networks.KEY] = {
        "anyOf": [{"enum": list(networks.names())}, {"$ref": "#/$defs/Search"}],
        "description": "What a network by name has, where it is not set here.",
    }
    fields[RANDOMIZE] = {
        "type": "object",
        "properties": {
            NUM_SCENARIOS: {"type": "integer", "minimum": 1},
            **{name: {"$ref": "#/$defs/Drawn"} for name in (*scenario["properties"], networks.KEY)},
        },
        "description": "Training draws scenarios: what these fields may be, beside the others' "
        "values; for networks that fit any scenario.",
    }
    ends = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    between = {"type": "object", "properties": {BETWEEN: ends}, "required": [BETWEEN]}
    drawn = {"anyOf": [{"type": "array", "minItems": 1}, between | {"additionalProperties": False}]}
    # An environment has arguments besides: slot_ms, or whatever an env of the user's takes.
    env_config = {"type": "object", "properties": fields}
    experiment["properties"]["config"] |= {
        "type": "object",
        "properties": {"env_config": env_config},
    }
    for name, kind in (("run", "string"), ("env", "string"), ("stop", "object")):
        experiment["properties"][name]["type"] = kind
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Experiments for `rllib train file`",
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"$ref": "#/$defs/Experiment"},
        "$defs": {**definitions, "Experiment": experiment, "Search": search, "Drawn": drawn},
    }


def schema_text() -> str:
    """What ``tuned_configs/schema.json`` holds."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    target = Path(__file__).parents[2] / "tuned_configs" / "schema.json"
    target.write_text(schema_text(), encoding="utf-8")
    print(f"wrote {target}")
