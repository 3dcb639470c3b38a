"""A flat config from a file becomes an ``AlgorithmConfig``, and a misspelt key an error.

``AlgorithmConfig.update_from_dict`` sets any attribute and so swallows typos. Here every key must
be an argument of one of the config's methods (``.training(...)``, ``.env_runners(...)``, ...),
which is then called with it. The table of keys is read from the signatures, so that it knows the
arguments of each algorithm, also the user's own.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
import typing
from typing import Any

from rllib_mec.algorithms.stock_checks import check_stock
from rllib_mec.errors import MecError, one_line
from rllib_mec.experiments import names
from rllib_mec.experiments.messages import unknown_key

SECTIONS = (
    "environment",
    "env_runners",
    "learners",
    "training",
    "evaluation",
    "rl_module",
    "callbacks",
    "multi_agent",
    "offline_data",
    "reporting",
    "checkpointing",
    "debugging",
    "fault_tolerance",
    "framework",
    "resources",
    "python_environment",
    "experimental",
    "api_stack",
)
"""Methods of ``AlgorithmConfig`` that take settings."""

_OBJECT_KEYS = ("callbacks_class", "_class", "_cls", "_fn", "_connector", "_function")
"""Keys with these endings, and ``on_...``, take a class or function: a class path is imported."""

_AT_LEAST_ONE = {"train_batch_size_per_learner", "minibatch_size", "num_epochs"}


def _methods(config_class: type, section: str) -> list[Any]:
    """A section's definitions in a config class and its bases, the most derived first."""
    return [c.__dict__[section] for c in config_class.__mro__ if section in c.__dict__]


def known_keys(config_class: type) -> dict[str, tuple[str, inspect.Parameter]]:
    """Every settable key of a config class, with its section and its parameter.

    Deprecated arguments are left out; :mod:`rllib_mec.experiments.translate` renames those.
    """
    from ray._common.deprecation import DEPRECATED_VALUE

    keys: dict[str, tuple[str, inspect.Parameter]] = {}
    for section in SECTIONS:
        for method in _methods(config_class, section):
            try:
                hints = typing.get_type_hints(method)
            except Exception:  # some of Ray's are only there for type checkers
                hints = {}
            for name, parameter in inspect.signature(method).parameters.items():
                if name == "self" or parameter.kind is parameter.VAR_KEYWORD:
                    continue
                default = parameter.default
                if isinstance(default, int) and default == DEPRECATED_VALUE:
                    continue
                annotation = hints.get(name, parameter.annotation)
                keys.setdefault(name, (section, parameter.replace(annotation=annotation)))
    return keys


def build_config(algorithm: Any, settings: dict[str, Any]) -> Any:
    """The validated config of an algorithm.

    Args:
        algorithm: An RLlib ``Algorithm`` subclass.
        settings: Concrete settings (no search spaces) under present names.

    Returns:
        The ``AlgorithmConfig``.

    Raises:
        MecError: Unknown key or bad value.
    """
    config = algorithm.get_default_config()
    keys = known_keys(type(config))
    calls: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        if key not in keys:
            raise unknown_key("config key", key, keys)
        section, parameter = keys[key]
        calls.setdefault(section, {})[key] = _prepare(key, value, parameter.annotation)
    _check_api_stack(calls.pop("api_stack", {}))
    if "environment" in calls:
        env_config = calls["environment"].get("env_config") or {}
        if calls["environment"].get("env") is not None:
            env = names.environment(calls["environment"]["env"], env_config)
            calls["environment"]["env"] = env
    evaluation_config = calls.get("evaluation", {}).get("evaluation_config")
    if isinstance(evaluation_config, dict):
        for key in evaluation_config:
            if key not in keys:
                raise unknown_key("key in evaluation_config", key, keys)
    for section in SECTIONS:
        if section in calls:
            try:
                getattr(config, section)(**calls[section])
            except Exception as error:
                raise MecError(f"config: {one_line(error)}") from None
    _check_model_config(config)
    validate(config)
    return config


def validate(config: Any) -> None:
    """Call ``config.validate()`` and turn what it raises into one line.

    Raises:
        MecError: The config is not valid.
    """
    if not config.enable_rl_module_and_learner or not config.enable_env_runner_and_connector_v2:
        _check_api_stack({"enable_rl_module_and_learner": False})
    try:
        # A copy, since some configs fill in values while they validate.
        config.copy(copy_frozen=False).validate()
    except Exception as error:
        raise MecError(f"config: {one_line(error)}") from None
    check_stock(config)


def _check_api_stack(settings: dict[str, Any]) -> None:
    for key, value in settings.items():
        if value is not True:
            raise MecError(
                f"{key}: {value}: only RLlib's new API stack is supported, drop this key"
            )


def _prepare(key: str, value: Any, annotation: Any) -> Any:
    """Check a value against the annotation, and import the object a class path names."""
    if key == "framework" and value != "torch":
        raise MecError(f"framework must be 'torch', got {value!r}: RLlib 2.60 has no other")
    takes_object = key.startswith("on_") or key.endswith(_OBJECT_KEYS)
    if takes_object and names.is_class_path(value):
        return names.load_object(key, value)
    if key == "rl_module_spec" and isinstance(value, dict):
        return _rl_module_spec(value)
    return _check_value(key, value, annotation)


def _rl_module_spec(settings: dict[str, Any]) -> Any:
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec

    fields = {field.name for field in dataclasses.fields(RLModuleSpec)}
    for key in settings:
        if key not in fields:
            raise unknown_key("key in rl_module_spec", key, fields)
    settings = dict(settings)
    if isinstance(settings.get("module_class"), str):
        settings["module_class"] = names.load_object("module_class", settings["module_class"])
    return RLModuleSpec(**settings)


def _simple_types(annotation: Any) -> set[type] | None:
    """The plain types an annotation allows, or None where anything may be meant."""
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return None
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        parts = [_simple_types(part) for part in typing.get_args(annotation)]
        return None if any(part is None for part in parts) else set().union(*filter(None, parts))
    if origin is typing.Literal:
        return {type(option) for option in typing.get_args(annotation)}
    plain = origin or annotation
    return {plain} if plain in (int, float, bool, str, dict, list, type(None)) else None


def _check_value(key: str, value: Any, annotation: Any) -> Any:
    """Reject a value of the wrong kind, e.g. ``lr: fast``; whole floats become ints."""
    if isinstance(value, float) and not math.isfinite(value) and key != "grad_clip":
        raise MecError(f"{key} must be a finite number, got {value}")
    allowed = _simple_types(annotation)
    if allowed is not None:
        wants = " or ".join(sorted(t.__name__ for t in allowed if t is not type(None)))
        wrong = MecError(f"{key} must be {wants}, got {value!r}")
        if isinstance(value, float) and float not in allowed and int in allowed:
            if not value.is_integer():
                raise wrong
            value = int(value)  # `4e3` is a float to YAML
        if isinstance(value, str) and str not in allowed:
            raise wrong
        if isinstance(value, bool) and bool not in allowed:
            raise wrong
        if isinstance(value, dict) and dict not in allowed:
            raise wrong
    if isinstance(value, int | float) and not isinstance(value, bool):
        if key in _AT_LEAST_ONE and value < 1:
            raise MecError(f"{key} must be at least 1, got {value}")
        if key.startswith("num_") and value < 0:
            raise MecError(f"{key} must not be negative, got {value}")
    return value


def _check_model_config(config: Any) -> None:
    """Keys of ``model_config`` count only where RLlib's default networks read them."""
    if not isinstance(config._model_config, dict) or config._rl_module_spec is not None:
        return
    try:
        module = getattr(config.get_default_rl_module_spec(), "module_class", None)
    except Exception:  # some algorithms need the spaces for it: then the module checks its keys
        return
    if module is None or not module.__module__.startswith("ray.rllib."):
        return
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    fields = {field.name for field in dataclasses.fields(DefaultModelConfig)}
    for key in config._model_config:
        if key not in fields:
            raise unknown_key("key in model_config", key, fields)


_PROPERTY_NAMES = {
    "callbacks_class": "callbacks",
    "framework": "framework",
    "input_": "input",
    "lambda_": "lambda",
}


def property_name(key: str, properties: dict[str, Any]) -> str:
    """The name under which ``config.to_dict()`` holds a setting.

    Raises:
        MecError: It has none, so Tune cannot search over it.
    """
    for name in (_PROPERTY_NAMES.get(key, key), f"_{key}", f"callbacks_{key}"):
        if name in properties:
            return name
    raise MecError(f"config key {key!r} cannot be searched over")
