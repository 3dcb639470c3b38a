"""Whether training can start from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_mec import registry
from rllib_mec.algorithms.env_config import check_mdp
from rllib_mec.algorithms.stock_checks import check_restore
from rllib_mec.checkpoints import CheckpointInfo, read_info
from rllib_mec.errors import MecError
from rllib_mec.experiments.documents import add_to_path

if TYPE_CHECKING:
    from rllib_mec.envs.mdp import MDP


def read_here(path: str | Path) -> CheckpointInfo:
    """What a checkpoint holds, with the user's own classes imported from the working folder.

    Args:
        path: As for :func:`rllib_mec.checkpoints.find_checkpoint`.

    Raises:
        MecError: As :func:`rllib_mec.checkpoints.read_info`.
    """
    add_to_path(Path.cwd())
    return read_info(path)


def check_fits(path: str | Path, algorithm: Any, config: Any) -> Path:
    """The checkpoint that ``path`` means, if training with a config can start from it.

    Args:
        path: As for :func:`rllib_mec.checkpoints.find_checkpoint`.
        algorithm: The algorithm to be trained.
        config: Its config.

    Raises:
        MecError: It is of another algorithm, or of a scenario of another shape, or of what Ray
            cannot restore.
    """
    check_restore(config)
    info = read_here(path)
    if info.algorithm is not algorithm:
        raise MecError(
            f"the checkpoint {path} is of {registry.algorithm_name(info.algorithm)}, "
            f"not of {registry.algorithm_name(algorithm)}"
        )
    if config.env in registry.ENVIRONMENTS and info.config.env in registry.ENVIRONMENTS:
        check_shape(path, *(check_mdp(c.env, c.env_config) for c in (info.config, config)))
    return info.path


def check_shape(path: str | Path, trained: MDP, here: MDP) -> None:
    """Check that networks fit where they are to be used.

    Args:
        path: Their checkpoint, for the message.
        trained: Where they were trained.
        here: Where they are to be used.

    Raises:
        MecError: A field differs on which their shapes depend.
    """
    for field, then in trained.shape.items():
        now = here.shape[field]
        if then != now:
            raise MecError(
                f"the checkpoint {path} was trained with {field}={then!r}, "
                f"but the scenario has {field}={now!r}"
            )
