"""From a name or class path in a file to the algorithm class or environment it stands for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rllib_mec import registry
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.parallel import MecParallelEnv
from rllib_mec.errors import MecError, nearest, one_line, unknown
from rllib_mec.experiments.documents import add_to_path
from rllib_mec.plugin import enter_env
from rllib_mec.tables import import_object

_CLASS_PATH = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*$")


def is_class_path(text: object) -> bool:
    """Whether a text looks like ``pkg.module:Class`` or ``pkg.module.Class``.

    Args:
        text: What was given for a name, of any kind.
    """
    return isinstance(text, str) and bool(_CLASS_PATH.match(text))


def load_object(kind: str, path: str) -> Any:
    """Import what ``pkg.module:Name`` or ``pkg.module.Name`` names.

    Args:
        kind: What it is, for the error message.
        path: The class path.

    Raises:
        MecError: The module or the name in it does not exist.
    """
    add_to_path(Path.cwd())  # a console script does not have it, `python -m` does
    return import_object(":".join(path.replace(":", ".").rsplit(".", 1)), kind)


def algorithm_class(run: Any) -> Any:
    """The RLlib ``Algorithm`` subclass that ``run`` names.

    Args:
        run: A registered name, a class path, or already the class.

    Raises:
        MecError: No such algorithm.
    """
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.registry import ALGORITHMS

    found = run
    if isinstance(run, str):
        if run in registry.ALGORITHMS:
            found = registry.ALGORITHMS.load(run)
        elif run in ALGORITHMS:
            found = ALGORITHMS[run]()[0]
        elif is_class_path(run):
            found = load_object("algorithm", run)
        else:
            raise unknown("algorithm", run, ALGORITHMS)
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise MecError(f"algorithm {run!r} is not a subclass of ray.rllib's Algorithm")
    return found


def environment(env: Any, env_config: dict[str, Any]) -> Any:
    """What to pass to ``config.environment(env=...)``, after checking that it exists.

    Args:
        env: A registered id, a Gymnasium id, a class path, or already a class.
        env_config: The env's keyword arguments, which are checked here if it is a Gymnasium id.

    Raises:
        MecError: No such environment, or an ``env_config`` that it does not take.
    """
    if not isinstance(env, str):
        if isinstance(env, type):
            return env
        raise MecError(f"env must be a name or a class path, got {env!r}")
    path = env
    if is_class_path(env):
        add_to_path(Path.cwd())
        path = env if ":" in env else ":".join(env.rpartition(".")[::2])
    if path in registry.ENVIRONMENTS:
        enter_env(path)
        return path
    from ray.tune.registry import ENV_CREATOR, _global_registry

    if _global_registry.contains(ENV_CREATOR, env):
        return env
    if is_class_path(env):
        found = load_object("environment", env)
        if isinstance(found, type) and issubclass(found, MDP | MecParallelEnv):
            registry.ENVIRONMENTS.load(path)  # says what it lacks
        return found
    _check_gymnasium(env, env_config)
    return env


def _check_gymnasium(env: str, env_config: dict[str, Any]) -> None:
    import gymnasium

    if env.startswith("ALE/"):
        try:
            import ale_py  # pyright: ignore[reportMissingImports]

            gymnasium.register_envs(ale_py)
        except ImportError:
            raise MecError(f"environment {env!r} needs `pip install ale_py`") from None
    try:
        gymnasium.spec(env)
    except Exception as error:
        if ":" in env:  # gymnasium's own `module:Id-v0`
            raise MecError(f"unknown environment {env!r}: {one_line(error)}") from None
        names = [*registry.ENVIRONMENTS, *gymnasium.registry]
        close = nearest(env, names)
        hint = f"did you mean {close!r}? " if close else ""
        ours = ", ".join(registry.ENVIRONMENTS)
        raise MecError(
            f"unknown environment {env!r}: {hint}choose {ours}, a Gymnasium id "
            "or a class path (pkg.module:Class)"
        ) from None
    if env_config:
        try:
            gymnasium.make(env, **env_config).close()
        except Exception as error:
            raise MecError(
                f"environment {env!r} rejects its env_config: {one_line(error)}"
            ) from None
