"""A flat config from a file becomes an ``AlgorithmConfig``, and a misspelt key an error.

``AlgorithmConfig.update_from_dict`` sets any attribute and so swallows typos. Here every key must
be an argument of one of the config's methods (``.training(...)``, ``.env_runners(...)``, ...),
which is then called with it. The table of keys is read from the signatures, so that it knows the
arguments of each algorithm, also the user's own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import typing
from typing import Any

from pydantic import (
    ConfigDict,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from rllib_mec.algorithms.stock_checks import check_stock
from rllib_mec.errors import MecError, one_line, unknown
from rllib_mec.experiments import names
from rllib_mec.network.checks import NonNegative, checked, refusal

_OBJECT_KEYS = ("callbacks_class", "_class", "_cls", "_fn", "_connector", "_function")
"""Keys with these endings, and ``on_...``, take a class or function: a class path is imported."""


def known_keys(config_class: type) -> dict[str, tuple[str, inspect.Parameter]]:
    """Every settable key of a config class, with its method and its parameter.

    Deprecated arguments are left out; :mod:`rllib_mec.experiments.translate` renames those.

    Args:
        config_class: A subclass of ``AlgorithmConfig``.
    """
    from ray._common.deprecation import DEPRECATED_VALUE
    from ray.rllib.utils.from_config import NotProvided

    keys: dict[str, tuple[str, inspect.Parameter]] = {}
    for method in (m for c in config_class.__mro__ for m in vars(c).values()):
        parameters = inspect.signature(method).parameters if inspect.isfunction(method) else {}
        if all(parameter.default is not NotProvided for parameter in parameters.values()):
            continue  # not one of the methods that set something
        try:
            hints = typing.get_type_hints(method)
        except Exception:  # some of Ray's are only there for type checkers
            hints = {}
        for name, parameter in parameters.items():
            default = parameter.default
            is_setting = name != "self" and parameter.kind is not parameter.VAR_KEYWORD
            if is_setting and not (isinstance(default, int) and default == DEPRECATED_VALUE):
                annotation = hints.get(name, parameter.annotation)
                keys.setdefault(name, (method.__name__, parameter.replace(annotation=annotation)))
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
            raise unknown("config key", key, keys, show=12)
        section, parameter = keys[key]
        calls.setdefault(section, {})[key] = check_setting(config, parameter, value)
    _check_api_stack(calls.pop("api_stack", {}))
    if "environment" in calls:
        env_config = calls["environment"].get("env_config") or {}
        if calls["environment"].get("env") is not None:
            env = names.environment(calls["environment"]["env"], env_config)
            calls["environment"]["env"] = env
    evaluation_config = calls.get("evaluation", {}).get("evaluation_config")
    if isinstance(evaluation_config, dict):
        for key, value in evaluation_config.items():
            if key not in keys:
                raise unknown("key in evaluation_config", key, keys, show=12)
            evaluation_config[key] = check_setting(config, keys[key][1], value)
    for section, arguments in calls.items():
        try:
            getattr(config, section)(**arguments)
        except Exception as error:
            raise MecError(f"config: {one_line(error)}") from None
    _check_model_config(config)
    _check_policies(config)
    validate(config)
    return config


def validate(config: Any) -> None:
    """Call ``config.validate()`` and turn what it raises into one line.

    Args:
        config: An ``AlgorithmConfig``; not changed.

    Raises:
        MecError: The config is not valid.
    """
    from rllib_mec.algorithms.bounds import check_bounds

    if not config.enable_rl_module_and_learner or not config.enable_env_runner_and_connector_v2:
        _check_api_stack({"enable_rl_module_and_learner": False})
    try:
        check_bounds(config)
        # A copy, since some configs fill in values while they validate.
        config.copy(copy_frozen=False).validate()
    except MecError:
        raise
    except Exception as error:
        raise MecError(f"config: {one_line(error)}") from None
    check_stock(config)


def _check_api_stack(settings: dict[str, Any]) -> None:
    for key, value in settings.items():
        if value is not True:
            raise MecError(
                f"{key}: {value}: only RLlib's new API stack is supported, drop this key"
            )


def check_setting(config: Any, parameter: inspect.Parameter, value: Any) -> Any:
    """A value for an argument of one of a config's methods.

    Args:
        config: The ``AlgorithmConfig``.
        parameter: The argument, from :func:`known_keys`.
        value: What the user gave; where an object is wanted, its class path.

    Raises:
        MecError: It is of the wrong kind, or names no object.
    """
    from rllib_mec.algorithms.bounds import bounds_of, is_default

    key = parameter.name
    if key == "framework" and value != "torch":
        raise MecError(f"framework must be 'torch', got {value!r}: RLlib 2.60 has no other")
    takes_object = key.startswith("on_") or key.endswith(_OBJECT_KEYS)
    if takes_object and names.is_class_path(value):
        return names.load_object(key, value)
    if key == "rl_module_spec" and isinstance(value, dict):
        return _rl_module_spec(value)
    if (bound := bounds_of(config).get(key)) is not None:
        return value if is_default(config, key, value) else _check_bound(key, value, bound)
    # Some annotations do not know of the default.
    kinds = typing.Union[parameter.annotation, type(vars(config).get(key)), None]  # noqa: UP007
    return _check_value(key, value, kinds)


def _rl_module_spec(settings: dict[str, Any]) -> Any:
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec

    fields = {field.name for field in dataclasses.fields(RLModuleSpec)}
    for key in settings:
        if key not in fields:
            raise unknown("key in rl_module_spec", key, fields)
    settings = dict(settings)
    if isinstance(settings.get("module_class"), str):
        settings["module_class"] = names.load_object("module_class", settings["module_class"])
    return RLModuleSpec(**settings)


def _check_bound(key: str, value: Any, bound: Any) -> Any:
    """Reject a value out of its bound; whole floats become ints where a whole number is wanted."""
    from rllib_mec.algorithms.bounds import check_bound

    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    try:
        check_bound(key, value, bound)
        return value
    except MecError:
        with contextlib.suppress(MecError):
            check_bound(key, whole, bound)  # `4e3` is a float to YAML
            return whole
        raise


def _check_value(key: str, value: Any, kind: Any) -> Any:
    """Reject a value of the wrong kind, e.g. ``lr: fast``; whole floats become ints."""
    # Lists are schedules, which not all of Ray's annotations know of; objects are Ray's to check.
    if not isinstance(value, str | float | int | dict):
        return value
    settings = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    try:
        TypeAdapter(kind, config=settings).validate_python(value)
    except ValidationError as error:
        if not (isinstance(value, float) and value.is_integer()):
            raise refusal(error, key) from None
        return _check_value(key, int(value), kind)  # `4e3` is a float to YAML
    except (PydanticUserError, PydanticUndefinedAnnotation):
        return value  # an annotation that is only there for type checkers
    if key.startswith("num_") and not isinstance(value, str):
        checked(key, value, NonNegative)
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
            raise unknown("key in model_config", key, fields)


def _check_policies(config: Any) -> None:
    """By default all agents act by ``default_policy``, which must then be among the policies."""
    from ray.rllib.core import DEFAULT_MODULE_ID

    maps = config.policy_mapping_fn is not type(config)().policy_mapping_fn
    if not maps and DEFAULT_MODULE_ID not in config.policies:
        raise MecError(
            f"policies {sorted(config.policies)}: give policy_mapping_fn (pkg.module:function) too,"
            f" which says who acts by which; without it all act by {DEFAULT_MODULE_ID!r}"
        )


_PROPERTY_NAMES = {
    "callbacks_class": "callbacks",
    "framework": "framework",
    "input_": "input",
    "lambda_": "lambda",
}


def property_name(key: str, properties: dict[str, Any]) -> str:
    """The name under which ``config.to_dict()`` holds a setting.

    Args:
        key: The setting, as an argument of the config's methods.
        properties: What ``config.to_dict()`` gives.

    Raises:
        MecError: It has none, so Tune cannot search over it.
    """
    for name in (_PROPERTY_NAMES.get(key, key), f"_{key}", f"callbacks_{key}"):
        if name in properties:
            return name
    raise MecError(f"config key {key!r} cannot be searched over")
