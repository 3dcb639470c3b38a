"""Whether training can start from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_mec import registry
from rllib_mec.algorithms.env_config import check_mdp
from rllib_mec.algorithms.randomize import carries_over
from rllib_mec.algorithms.stock_checks import check_restore
from rllib_mec.checkpoints import LEARNED, CheckpointInfo, read_info, read_state, read_weights
from rllib_mec.errors import MecError, one_line
from rllib_mec.experiments.documents import add_to_path

if TYPE_CHECKING:
    from rllib_mec.envs.mdp import MDP

_RUNNER = "env_runner"


def read_here(path: str | Path) -> CheckpointInfo:
    """What a checkpoint holds, with the user's own classes imported from the working folder.

    Args:
        path: As for :func:`rllib_mec.checkpoints.find_checkpoint`.

    Raises:
        MecError: As :func:`rllib_mec.checkpoints.read_info`.
    """
    add_to_path(Path.cwd())
    return read_info(path)


def check_fits(path: str | Path, algorithm: Any, configs: Sequence[Any]) -> str:
    """The folder of the checkpoint that ``path`` means, if training can start from it.

    Args:
        path: As for :func:`rllib_mec.checkpoints.find_checkpoint`.
        algorithm: The algorithm to be trained.
        configs: Its configs, one of each trial.

    Raises:
        MecError: It is of another algorithm, or of a scenario of another shape, or of what Ray
            cannot restore; or it is not whole.
    """
    for config in configs:
        check_restore(config)
    info = read_here(path)
    if info.algorithm is not algorithm:
        raise MecError(
            f"the checkpoint {path} is of {registry.algorithm_name(info.algorithm)}, "
            f"not of {registry.algorithm_name(algorithm)}"
        )
    for config in configs:
        if config.env in registry.ENVIRONMENTS and info.config.env in registry.ENVIRONMENTS:
            trained, here = (check_mdp(c.env, c.env_config) for c in (info.config, config))
            if not (carries_over(info.config) and carries_over(config)):
                check_shape(path, trained, here)
        check_whole(info, config)
    return str(info.path)  # Tune takes no URL here


def check_whole(info: CheckpointInfo, config: Any) -> None:
    """Restore all of a checkpoint that Ray would, into an env runner and networks made for it.

    Args:
        info: The checkpoint.
        config: Of the training that is to start from it.

    Raises:
        MecError: A part is missing, cannot be read or does not fit.
    """
    from ray.rllib.core.rl_module.apis.target_network_api import TargetNetworkAPI

    read_state(info.path, "", "algorithm_state")
    read_state(info.path, LEARNED.parent.parent)
    read_state(info.path, LEARNED.parent)
    read_state(info.path, LEARNED, "module_state")
    runner = make_runner(config)
    try:
        modules = config.get_multi_rl_module_spec(
            spaces=runner.get_spaces(), inference_only=False
        ).build()
        for name in modules.keys():
            module = modules[name]
            if isinstance(module, TargetNetworkAPI):  # as the learner does
                module.make_target_networks()
            read_weights(info.path, name, module, exactly=True)
        if info.config.is_online and info.config.create_local_env_runner:
            read_state(info.path, _RUNNER)
        restore_connectors(runner, info)
    finally:
        runner.stop()
    evaluation = info.path / "eval_env_runner"
    if config.evaluation_interval and evaluation.is_dir():
        for folder in (evaluation, *evaluation.rglob("*")):
            if folder.is_dir():
                read_state(info.path, folder.relative_to(info.path))


def make_runner(config: Any) -> Any:
    """An env runner with one env, in this process and without Ray.

    Args:
        config: Of the algorithm; not changed.

    Raises:
        MecError: The environment, or the config's networks for it, cannot be made.
    """
    from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    config = config.copy(copy_frozen=False)
    config.learners(num_learners=0, num_gpus_per_learner=0)
    # One env: of several in parallel, the short episodes would come in first and be favoured.
    config.env_runners(
        num_env_runners=0, num_envs_per_env_runner=1, num_gpus_per_env_runner=0, explore=False
    )
    default = MultiAgentEnvRunner if config.is_multi_agent else SingleAgentEnvRunner
    try:
        return (config.env_runner_cls or default)(config=config, worker_index=0, num_workers=0)
    except Exception as error:
        env = getattr(config.env, "__name__", config.env)
        raise MecError(
            f"environment {env!r}, or networks for it, cannot be made: {one_line(error)}"
        ) from None


def restore_connectors(runner: Any, info: CheckpointInfo) -> None:
    """Restore an env runner's connectors, from where the algorithm has kept them.

    Args:
        runner: As :func:`make_runner` makes it.
        info: The checkpoint.

    Raises:
        MecError: A part of theirs is missing, cannot be read or does not fit.
    """
    if not info.config.is_online:
        return
    folder = _RUNNER if info.config.create_local_env_runner else ""
    for name, pipeline in (
        ("env_to_module_connector", runner._env_to_module),
        ("module_to_env_connector", runner._module_to_env),
    ):
        if pipeline is None:
            continue
        _check_part(info.path, Path(folder, name), pipeline)
        try:
            pipeline.restore_from_path(str(info.path / folder / name))
        except Exception as error:
            raise MecError(
                f"{Path(folder, name)} of the checkpoint {info.path} does not fit: "
                f"{one_line(error)}"
            ) from None


def _check_part(checkpoint: Path, part: Path, component: Any) -> None:
    """Check that a component and all that it consists of have written what can be read."""
    read_state(checkpoint, part, component.STATE_FILE_NAME)
    for name, piece in component.get_checkpointable_components():
        # RLlib writes no folder for a connector without a state.
        if (checkpoint / part / name).is_dir() or piece.get_state():
            _check_part(checkpoint, part / name, piece)


def check_shape(path: str | Path, trained: MDP, here: MDP, hint: str = "") -> None:
    """Check that networks fit where they are to be used.

    Args:
        path: Their checkpoint, for the message.
        trained: Where they were trained.
        here: Where they are to be used.
        hint: What the message says besides.

    Raises:
        MecError: A field differs on which their shapes depend.
    """
    for field, then in trained.shape.items():
        now = here.shape[field]
        if then != now:
            raise MecError(
                f"the checkpoint {path} was trained with {field}={then!r}, "
                f"but the scenario has {field}={now!r}{hint}"
            )
