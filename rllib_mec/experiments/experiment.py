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

from rllib_mec.errors import MecError, one_line
from rllib_mec.experiments import config_schema, documents, names, search_space
from rllib_mec.experiments.messages import unknown_key
from rllib_mec.experiments.restore import check_fits
from rllib_mec.experiments.stop_criteria import check_stop
from rllib_mec.experiments.translate import translate_config, translate_experiment, translate_metric

CHECKPOINT_KEYS = (
    "checkpoint_at_end",
    "checkpoint_frequency",
    "checkpoint_score_attribute",
    "checkpoint_score_order",
    "num_to_keep",
)
EXPERIMENT_KEYS = (
    "run",
    "env",
    "stop",
    "config",
    "num_samples",
    "checkpoint_config",
    "storage_path",
    "time_budget_s",
    "max_failures",
    "max_concurrent_trials",
    "restore",
    "scheduler",
    "scheduler_config",
    "log_to_file",
)


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
        scheduler: Name and arguments of the Tune scheduler.
    """

    name: str
    algorithm: Any
    config: Any
    param_space: dict[str, Any]
    stop: dict[str, float]
    checkpoint_config: dict[str, Any]
    storage_path: str
    options: dict[str, Any]
    scheduler: tuple[str, dict[str, Any]]


def read_spec(path: str) -> tuple[str, dict[str, Any]]:
    """The name and the raw specification in a YAML or Python file.

    Args:
        path: ``.yaml``, ``.yml`` or ``.py``.

    Raises:
        MecError: Missing file, syntax error, or not an experiment.
    """
    if Path(path).suffix not in {".yaml", ".yml", ".py"}:
        documents.existing_file(path)
        raise MecError(f"{path}: expected a .yaml, .yml or .py file")
    file = documents.existing_file(path)
    if file.suffix == ".py":
        return file.stem, _python_spec(file)
    content = documents.read_yaml(file)
    if not isinstance(content, dict) or not content:
        raise MecError(f"{path}: expected `experiment_name: {{run: ..., env: ..., ...}}`")
    if "run" in content and not isinstance(content["run"], dict):
        raise MecError(f"{path}: indent everything below a line with the experiment's name")
    if len(content) > 1:
        listed = ", ".join(map(str, content))
        raise MecError(f"{path}: holds {len(content)} experiments ({listed}), expected one")
    ((name, spec),) = content.items()
    if not isinstance(spec, dict):
        raise MecError(f"{path}: experiment {name!r} must be a mapping with `run`, `env`, ...")
    return str(name), spec


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
    spec = translate_experiment(spec, notify)
    for key in spec:
        if key not in EXPERIMENT_KEYS:
            raise unknown_key("experiment key", key, EXPERIMENT_KEYS, show=0)
    if not spec.get("run"):
        raise MecError("no algorithm: give `run:` in the file or --algo, e.g. --algo PPO")
    algorithm = names.algorithm_class(spec["run"])
    stop = check_stop(spec.get("stop"), notify)
    config, param_space = _check_config(algorithm, spec, notify)
    options = _check_options(spec)
    if spec.get("restore") is not None:
        options["restore"] = str(check_fits(spec["restore"], algorithm, config))
    return Experiment(
        name=name,
        algorithm=algorithm,
        config=config,
        param_space=param_space,
        stop=stop,
        checkpoint_config=_check_checkpoints(spec.get("checkpoint_config"), notify),
        storage_path=_storage_path(spec.get("storage_path")),
        options=options,
        scheduler=_check_scheduler(spec, notify),
    )


def _check_config(
    algorithm: Any, spec: dict[str, Any], notify: Callable[[str], None]
) -> tuple[Any, dict[str, Any]]:
    """A concrete config, and the space of configs."""
    settings = spec.get("config") or {}
    if not isinstance(settings, dict):
        return _check_config_object(settings, spec.get("env"))
    settings = translate_config(settings, notify)
    if spec.get("env") is not None:
        settings["env"] = spec["env"]
    env_config = settings.get("env_config")
    if env_config is not None and not isinstance(env_config, dict):
        raise MecError(f"env_config must be a mapping, got {env_config!r}")
    settings = search_space.resolve(settings)
    configs = [
        config_schema.build_config(algorithm, variant)
        for variant in search_space.variants(settings)
    ]
    _require_env(configs[0])
    param_space = configs[0].to_dict()
    for key, value in settings.items():
        if search_space.is_searched(value):
            name = config_schema.property_name(key, param_space)
            param_space[name] = search_space.overlay(param_space[name], value)
    return configs[0], param_space


def _check_config_object(config: Any, env: Any) -> tuple[Any, dict[str, Any]]:
    """The same for an ``AlgorithmConfig`` out of a Python file."""
    if env is not None:
        config = config.copy(copy_frozen=False)
        config.environment(env=names.environment(env, dict(config.env_config)))
    _require_env(config)
    param_space = config.to_dict()
    if not search_space.is_searched(param_space):
        config_schema.validate(config)
        return config, param_space
    configs = []
    for variant in search_space.variants(param_space):
        concrete = config.copy(copy_frozen=False).update_from_dict(variant)
        config_schema.validate(concrete)
        configs.append(concrete)
    return configs[0], param_space


def _require_env(config: Any) -> None:
    if config.env is None and not config.is_offline:
        raise MecError("no environment: give `env:` in the file or --env, e.g. --env CartPole-v1")


def _check_checkpoints(settings: Any, notify: Callable[[str], None]) -> dict[str, Any]:
    settings = settings or {}
    if not isinstance(settings, dict):
        raise MecError(f"checkpoint_config must be a mapping, got {settings!r}")
    for key in settings:
        if key not in CHECKPOINT_KEYS:
            raise unknown_key("key in checkpoint_config", key, CHECKPOINT_KEYS)
    settings = {key: value for key, value in settings.items() if value is not None}
    score = settings.get("checkpoint_score_attribute")
    if isinstance(score, str):
        if score.startswith("min-"):  # the old spelling of the order
            score, settings["checkpoint_score_order"] = score[4:], "min"
        settings["checkpoint_score_attribute"] = translate_metric(score, notify)
    for key, least in (("checkpoint_frequency", 0), ("num_to_keep", 1)):
        value = settings.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise MecError(f"{key} must be a whole number of at least {least}, got {value!r}")
    if settings.get("checkpoint_score_order", "max") not in ("max", "min"):
        raise MecError("checkpoint_score_order must be 'max' or 'min'")
    return settings


def _storage_path(path: Any) -> str:
    if path is None:
        path = "~/ray_results"
    if not isinstance(path, str) or not path:
        raise MecError(f"storage_path must be a folder or a URI, got {path!r}")
    if "://" in path:
        return path
    folder = Path(path).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise MecError(f"storage_path {path} is not a folder")
    return str(folder)


def _check_options(spec: dict[str, Any]) -> dict[str, Any]:
    """Arguments passed through to ``tune.run``."""
    options: dict[str, Any] = {}
    for key, least in (("num_samples", 1), ("max_failures", -1), ("max_concurrent_trials", 1)):
        value = spec.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise MecError(f"{key} must be a whole number of at least {least}, got {value!r}")
        options[key] = value
    budget = spec.get("time_budget_s")
    if budget is not None:
        if isinstance(budget, bool) or not isinstance(budget, int | float) or not budget > 0:
            raise MecError(f"time_budget_s must be a positive number, got {budget!r}")
        options["time_budget_s"] = budget
    if spec.get("log_to_file") is not None:
        options["log_to_file"] = bool(spec["log_to_file"])
    return options


def _check_scheduler(
    spec: dict[str, Any], notify: Callable[[str], None]
) -> tuple[str, dict[str, Any]]:
    import inspect

    from ray.tune.schedulers import SCHEDULER_IMPORT, create_scheduler

    name = str(spec.get("scheduler") or "FIFO")
    arguments = spec.get("scheduler_config") or {}
    if name.lower() not in SCHEDULER_IMPORT:
        raise unknown_key("scheduler", name, SCHEDULER_IMPORT, show=20)
    if not isinstance(arguments, dict):
        raise MecError(f"scheduler_config must be a mapping, got {arguments!r}")
    arguments = search_space.resolve(arguments, "scheduler_config")
    if isinstance(arguments.get("metric"), str):
        arguments["metric"] = translate_metric(arguments["metric"], notify)
    try:
        scheduler_class = SCHEDULER_IMPORT[name.lower()]
        accepted = set(inspect.signature(scheduler_class).parameters)
        if inspect.isfunction(scheduler_class):
            accepted = set(inspect.signature(scheduler_class()).parameters)
        for key in arguments:
            if key not in accepted:
                raise unknown_key(f"key for scheduler {name}", key, accepted, show=20)
        create_scheduler(name, **arguments)
    except MecError:
        raise
    except Exception as error:
        raise MecError(f"scheduler {name}: {one_line(error)}") from None
    return name, arguments
