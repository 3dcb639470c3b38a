"""What is around a trial: its share of the cluster, its runtime environment, Tune's callbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_mec.errors import MecError, one_line, unknown
from rllib_mec.experiments import names

_RAYS_NAMES = {"cpu": "CPU", "gpu": "GPU"}


def resource_settings(configs: Sequence[Any], wanted: Mapping[str, float]) -> dict[str, Any]:
    """The config keys by which a trial takes what ``resources_per_trial`` says, no more, no less.

    GPUs go to the learners; the main process takes the CPUs that env runners and learners leave.

    Args:
        configs: The trials' ``AlgorithmConfig``.
        wanted: In all, as ``{"cpu": 4, "gpu": 1}``; other names are Ray's custom resources.

    Raises:
        MecError: It is less than what the processes of a trial take, or differs between trials.
    """
    total = {_RAYS_NAMES.get(name.lower(), name): amount for name, amount in wanted.items()}
    found = [_settings(config, total) for config in configs]
    if any(other != found[0] for other in found):
        raise MecError("resources_per_trial needs trials with equal num_env_runners, num_learners")
    return found[0]


def _settings(config: Any, total: dict[str, float]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if "GPU" in total:
        settings["num_gpus_per_learner"] = total["GPU"] / max(1, config.num_learners)
    if "CPU" in total:
        _, *others = config.algo_class.default_resource_request(config).bundles
        taken = sum(bundle.get("CPU", 0) for bundle in others)
        rest = total["CPU"] - taken
        if rest < 0:
            raise MecError(
                f"resources_per_trial: a trial's env runners and learners take {taken:g} CPUs, "
                f"more than {total['CPU']:g}: lower num_env_runners or num_learners"
            )
        rest = int(rest) if rest == int(rest) else rest
        settings["num_cpus_for_main_process"] = rest
        if config.num_learners == 0:  # it learns in the main process, which takes the larger
            settings["num_cpus_per_learner"] = rest
    custom = {name: amount for name, amount in total.items() if name not in _RAYS_NAMES.values()}
    if custom:
        settings["custom_resources_for_main_process"] = custom
    return settings


def check_runtime_env(runtime_env: dict[str, Any]) -> dict[str, Any]:
    """A runtime environment that Ray takes.

    Args:
        runtime_env: As in a file.

    Raises:
        MecError: An unknown key, a folder that is not there, or what Ray has against it.
    """
    from ray.runtime_env import RuntimeEnv

    for key in runtime_env:
        if key not in RuntimeEnv.known_fields:
            raise unknown(
                "key in runtime_env", key, (k for k in RuntimeEnv.known_fields if k[0] != "_")
            )
    folder = runtime_env.get("working_dir")
    if isinstance(folder, str) and "://" not in folder and not Path(folder).expanduser().exists():
        raise MecError(f"runtime_env: there is no working_dir {folder!r}")
    try:
        RuntimeEnv(**runtime_env)
    except Exception as error:
        raise MecError(f"runtime_env: {one_line(error)}") from None
    return runtime_env


def make_callbacks(given: Sequence[str | Mapping[str, Mapping[str, Any]]]) -> list[Any]:
    """Tune's callbacks.

    Args:
        given: Class paths, or one-key mappings of a class path to arguments.

    Raises:
        MecError: No such class, none of Tune's callbacks, or arguments that it does not take.
    """
    from ray.tune import Callback

    made = []
    for entry in given:
        if isinstance(entry, Mapping) and len(entry) != 1:
            raise MecError(f"callbacks: expected {{class path: {{argument: value}}}}, got {entry}")
        path, arguments = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
        if not names.is_class_path(path):
            raise MecError(f"callbacks: {path!r} is no class path (pkg.module:Class)")
        found = names.load_object("callback", path)
        if not (isinstance(found, type) and issubclass(found, Callback)):
            raise MecError(f"callback {path} is not a subclass of ray.tune.Callback")
        try:
            made.append(found(**arguments))
        except Exception as error:
            raise MecError(f"callback {path}: {one_line(error)}") from None
    return made
