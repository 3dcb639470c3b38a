"""The PettingZoo environment of an MDP of the user's own."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.parallel import MecParallelEnv
from rllib_mec.errors import MecError


def env_class(name: str, part: Any) -> type[MecParallelEnv]:
    """The environment class that a user's part stands for.

    Args:
        name: What it was asked for by, for messages.
        part: A subclass of :class:`~rllib_mec.envs.mdp.MDP`, whose ``env_id`` names it, or one of
            :class:`~rllib_mec.envs.parallel.MecParallelEnv`.

    Returns:
        The environment: the part itself, or the one of that MDP, always the same object.

    Raises:
        MecError: It is neither, or a subclass that lacks a law or its ``env_id``.
    """
    is_class = isinstance(part, type)
    if is_class and issubclass(part, MecParallelEnv):
        check_mdp_class(name, getattr(part, "mdp_class", None))
        return part
    if is_class and issubclass(part, MDP):
        check_mdp_class(name, part)
        return _env_of(part)
    raise MecError(
        f"environment {name!r} must be a subclass of MDP or MecParallelEnv, but is {part!r}"
    )


def check_mdp_class(name: str, mdp_class: Any) -> None:
    """Check that a class is a whole MDP.

    Args:
        name: What it was asked for by, for messages.
        mdp_class: The class.

    Raises:
        MecError: It lacks a law or an ``env_id`` of its own, or is no MDP.
    """
    if not (isinstance(mdp_class, type) and issubclass(mdp_class, MDP)):
        raise MecError(f"environment {name!r} has no MDP: its mdp_class is {mdp_class!r}")
    label = mdp_class.__name__
    if inspect.isabstract(mdp_class):
        missing = ", ".join(sorted(mdp_class.__abstractmethods__))
        raise MecError(f"{label} lacks {missing}: define it, or subclass TaskWindowMDP")
    env_id = vars(mdp_class).get("env_id")
    if not isinstance(env_id, str) or not env_id:
        raise MecError(
            f'{label} lacks an env_id of its own: give it one, e.g. env_id = "my_task_window_v0"'
        )
    fields = inspect.get_annotations(mdp_class)
    own = [field for field, hint in fields.items() if "ClassVar" not in str(hint)]
    if own and "__dataclass_fields__" not in vars(mdp_class):
        raise MecError(
            f"{label} has the field {own[0]!r}, but is no dataclass: decorate it with "
            "@dataclasses.dataclass(frozen=True)"
        )


@functools.cache
def _env_of(mdp_class: type[MDP]) -> type[MecParallelEnv]:
    content = {
        "__doc__": mdp_class.__doc__,
        "__module__": mdp_class.__module__,
        "mdp_class": mdp_class,
    }
    return type(f"{mdp_class.__name__}Env", (MecParallelEnv,), content)
