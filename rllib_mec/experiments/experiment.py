"""An experiment: what a YAML file, a Python file or the flags of ``rllib train`` describe.

The YAML format is RLlib's old one::

    name-of-the-experiment:
      run: EMH-PPO
      env: mec_task_window_v0
      stop: {num_env_steps_sampled_lifetime: 400000}
      config: {lr: 3e-4, env_config: {num_devices: 3}}

All of it is checked here, before Ray starts and before anything is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rllib_mec import registry
from rllib_mec.errors import MecError
from rllib_mec.experiments import config_schema, documents, names, search_space
from rllib_mec.experiments.report import is_ours
from rllib_mec.experiments.restore import check_fits
from rllib_mec.experiments.specification import CheckpointSettings, Specification
from rllib_mec.experiments.stop_criteria import check_stop
from rllib_mec.experiments.surroundings import (
    check_runtime_env,
    make_callbacks,
    resource_settings,
)
from rllib_mec.experiments.translate import translate_config, translate_experiment, translate_metric
from rllib_mec.experiments.tuning import (
    Tuning,
    check_search,
    check_tuning,
    initial_values,
    under_property_names,
)
from rllib_mec.registry import make_mdp

_OPTIONS = (
    "num_samples", "max_failures", "max_concurrent_trials", "time_budget_s", "log_to_file",
    "fail_fast", "reuse_actors",
)  # fmt: skip
"""Keys that are arguments of ``tune.run`` as they are."""

_LONGEST_NAME = 200  # file systems take 255 bytes, and a time may be appended


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A checked experiment, ready for Tune.

    Attributes:
        name: Folder of the results below ``storage_path``.
        algorithm: The RLlib ``Algorithm`` subclass.
        config: A concrete ``AlgorithmConfig``, the first of the search space.
        param_space: What Tune samples trials from.
        stop: Result key -> the value at which a trial ends.
        checkpoint_config: Arguments of ``ray.tune.CheckpointConfig`` that were given.
        storage_path: Absolute folder or URI of all results.
        options: The remaining arguments of ``tune.run`` (``num_samples``, ...).
        tuning: Scheduler and search algorithm.
        callbacks: Tune's callbacks.
        runtime_env: Ray's runtime environment, if one was given.
    """

    name: str
    algorithm: Any
    config: Any
    param_space: dict[str, Any]
    stop: dict[str, float]
    checkpoint_config: dict[str, Any]
    storage_path: str
    options: dict[str, Any]
    tuning: Tuning
    callbacks: list[Any]
    runtime_env: dict[str, Any] | None


def read_specs(path: str) -> dict[str, dict[str, Any]]:
    """The raw specifications in a YAML or Python file, by name.

    Args:
        path: ``.yaml``, ``.yml`` or ``.py``; or the URL of a YAML file.

    Raises:
        MecError: Missing file, syntax error, or not an experiment.
    """
    if documents.is_url(path):
        content = documents.parse_yaml(documents.fetch(path), path)
    elif Path(path).suffix not in {".yaml", ".yml", ".py"}:
        documents.existing_file(path)
        raise MecError(f"{path}: expected a .yaml, .yml or .py file")
    else:
        file = documents.existing_file(path)
        if file.suffix == ".py":
            return {file.stem: _python_spec(file)}
        content = documents.read_yaml(file)
    if not isinstance(content, dict) or not content:
        raise MecError(f"{path}: expected `experiment_name: {{run: ..., env: ..., ...}}`")
    if "run" in content and not isinstance(content["run"], dict):
        raise MecError(f"{path}: indent everything below a line with the experiment's name")
    for name, spec in content.items():
        if not isinstance(spec, dict):
            raise MecError(f"{path}: experiment {name!r} must be a mapping with `run`, `env`, ...")
    return {str(name): spec for name, spec in content.items()}


def read_spec(path: str) -> tuple[str, dict[str, Any]]:
    """The name and the raw specification of a file with one experiment.

    Args:
        path: As for :func:`read_specs`.

    Raises:
        MecError: As :func:`read_specs`, or there are several.
    """
    specs = read_specs(path)
    if len(specs) > 1:
        raise MecError(f"{path}: holds {len(specs)} experiments ({', '.join(specs)}), expected one")
    ((name, spec),) = specs.items()
    return name, spec


def _python_spec(file: Path) -> dict[str, Any]:
    """``config`` and ``stop`` of a Python file, as in Ray 2.40."""
    module = documents.import_python(file)
    if not hasattr(module, "config"):
        raise MecError(f"{file}: needs a variable `config` that is an AlgorithmConfig or a dict")
    config = module.config
    stop = getattr(module, "stop", {})
    if isinstance(config, dict):
        return {"stop": stop, **config} if "run" in config else {"stop": stop, "config": config}
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    if not isinstance(config, AlgorithmConfig):
        raise MecError(f"{file}: `config` must be an AlgorithmConfig or a dict, got {config!r}")
    return {"run": config.algo_class, "env": config.env, "config": config, "stop": stop}


def check(name: str, spec: dict[str, Any], notify: Callable[[str], None]) -> Experiment:
    """Check a raw specification in full.

    Args:
        name: The experiment's name.
        spec: Its keys as in a YAML file; ``config`` may be an ``AlgorithmConfig``.
        notify: Called with one line for every old name that was translated.

    Raises:
        MecError: Anything that would fail or be ignored later.
    """
    if not name or "/" in name or name in {".", ".."}:
        raise MecError(f"the experiment's name must be a plain folder name, got {name!r}")
    if len(name.encode()) > _LONGEST_NAME:
        raise MecError(
            f"the experiment's name must have at most {_LONGEST_NAME} bytes, got {name[:20]!r}..."
            f" of {len(name.encode())}"
        )
    from ray.tune import Trainable

    given = Specification.of(translate_experiment(spec, notify))
    if not given.run:
        raise MecError("no algorithm: give `run:` in the file or --algo, e.g. --algo PPO")
    algorithm = names.algorithm_class(given.run)
    stop = check_stop(given.stop, notify)
    tuning = check_tuning(given, notify)
    configs, param_space, tuning = _check_config(algorithm, given, tuning, notify)
    if is_ours(configs[0].env):
        for remark in make_mdp(str(configs[0].env), configs[0].env_config).remarks:
            notify(remark)
    if given.fail_fast and given.max_failures:
        raise MecError("fail_fast ends all at the first failure: leave out max_failures")
    if given.reuse_actors and algorithm.reset_config is Trainable.reset_config:
        raise MecError(
            f"reuse_actors: {registry.algorithm_name(algorithm)} has no reset_config, by which a "
            "process takes on another trial's config: leave it out"
        )
    options = given.given(*_OPTIONS)
    if given.restore is not None:
        options["restore"] = check_fits(given.restore, algorithm, configs)
    return Experiment(
        name=name,
        algorithm=algorithm,
        config=configs[0],
        param_space=param_space,
        stop=stop,
        checkpoint_config=_checkpoints(given.checkpoint_config or CheckpointSettings(), notify),
        storage_path=given.storage_path or str(Path("~/ray_results").expanduser()),
        options=options,
        tuning=tuning,
        callbacks=make_callbacks(given.callbacks or []),
        runtime_env=given.runtime_env and check_runtime_env(given.runtime_env),
    )


def _check_config(
    algorithm: Any, given: Specification, tuning: Tuning, notify: Callable[[str], None]
) -> tuple[list[Any], dict[str, Any], Tuning]:
    """Concrete configs, the space that they are of, and the tuning over that space."""
    settings, env = given.config or {}, given.env
    if not isinstance(settings, dict):
        if tuning.mutated or tuning.search_alg or given.resources_per_trial:
            raise MecError(
                "search_alg, resources_per_trial and what a scheduler changes need a config that "
                "is a mapping, not an AlgorithmConfig"
            )
        return *_check_config_object(settings, env), tuning
    settings = translate_config(settings, notify)
    if env is not None:
        settings["env"] = env
    settings = initial_values(tuning, search_space.resolve(settings))
    configs = _concrete(algorithm, settings)
    if given.resources_per_trial:
        settings |= resource_settings(configs, given.resources_per_trial)
        configs = _concrete(algorithm, settings)
    _require_env(configs[0])
    tuning = under_property_names(tuning, configs[0])
    param_space, searched = configs[0].to_dict(), {}
    for key, value in settings.items():
        if search_space.is_searched(value):
            name = config_schema.property_name(key, param_space)
            searched[name] = search_space.only_searched(value)
    tuning = check_search(tuning, searched)
    if not tuning.search_alg:  # else the config stays the first one, and it puts its own over it
        param_space = search_space.overlay(param_space, searched)
    return configs, param_space, tuning


def _concrete(algorithm: Any, settings: dict[str, Any]) -> list[Any]:
    return [
        config_schema.build_config(algorithm, variant)
        for variant in search_space.variants(settings)
    ]


def _check_config_object(config: Any, env: Any) -> tuple[list[Any], dict[str, Any]]:
    """The same for an ``AlgorithmConfig`` out of a Python file."""
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    if not isinstance(config, AlgorithmConfig):
        raise MecError(f"config must be a mapping of settings, but is {config!r}")
    if env is not None:
        config = config.copy(copy_frozen=False)
        config.environment(env=names.environment(env, dict(config.env_config)))
    _require_env(config)
    param_space = config.to_dict()
    if not search_space.is_searched(param_space):
        config_schema.validate(config)
        return [config], param_space
    configs = []
    for variant in search_space.variants(param_space):
        concrete = config.copy(copy_frozen=False).update_from_dict(variant)
        config_schema.validate(concrete)
        configs.append(concrete)
    return configs, param_space


def _require_env(config: Any) -> None:
    if config.env is None and not config.is_offline:
        raise MecError("no environment: give `env:` in the file or --env, e.g. --env CartPole-v1")


def _checkpoints(settings: CheckpointSettings, notify: Callable[[str], None]) -> dict[str, Any]:
    """What was given, with the score under its present name."""
    given = settings.given()
    if score := given.get("checkpoint_score_attribute"):
        if score.startswith("min-"):  # the old spelling of the order
            score, given["checkpoint_score_order"] = score[4:], "min"
        given["checkpoint_score_attribute"] = translate_metric(score, notify)
    return given
