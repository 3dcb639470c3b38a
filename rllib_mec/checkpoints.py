"""Finding an algorithm's checkpoint below a path, and reading what it holds without Ray running.

RLlib passes over parts and weights that a checkpoint lacks, and goes on with random ones: here that
is an error.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from rllib_mec import remote
from rllib_mec.errors import MecError, one_line

METADATA = "rllib_checkpoint.json"
CLASS_FILE = "class_and_ctor_args.pkl"
LEARNED = Path("learner_group", "learner", "rl_module")
"""The part of a checkpoint with the networks."""

PRETRAINED = {
    "pretrained": Path(__file__).parent / "pretrained" / "emh_ppo",
    "pretrained-many": Path(__file__).parent / "pretrained" / "emh_ppo_many",
}
"""The checkpoints that come with the package, by the words that stand for them: for 1 to 8 devices,
and for more; pretrained/README.md is their model card."""

_NUMBERED = re.compile(r"^checkpoint_\d+$")


@dataclasses.dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint was trained with.

    Attributes:
        path: Absolute folder of the checkpoint.
        algorithm: The ``Algorithm`` subclass.
        config: Its ``AlgorithmConfig``.
    """

    path: Path
    algorithm: Any
    config: Any


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint folder that a path means.

    Args:
        path: A checkpoint, or a trial's or experiment's folder; of a trial the newest checkpoint is
            taken, of an experiment the trial with the best last return. A word of
            :data:`PRETRAINED` is one that comes with the package (a folder of that name is
            ``./pretrained``). A URL means likewise what lies there.

    Returns:
        The absolute path; of a URL, that of a copy, see :func:`rllib_mec.remote.origin`.

    Raises:
        MecError: There is none.
    """
    if str(path) in PRETRAINED:
        return PRETRAINED[str(path)]
    if remote.is_url(path):
        return _find_remote(str(path))
    folder = Path(path).expanduser().absolute()
    if not folder.exists():
        own = " and ".join(map(repr, PRETRAINED))
        raise MecError(f"no such checkpoint: {path} ({own} are the package's own)")
    if folder.is_file():
        raise MecError(
            f"{path} is a file, expected the folder of a checkpoint, trial or experiment"
        )
    if (folder / METADATA).is_file():
        return folder
    newest = _newest_of_trial(folder)
    if newest:
        return newest
    found = {child: newest for child in _folders(folder) if (newest := _newest_of_trial(child))}
    if not found:
        raise MecError(
            f"{path} is not a checkpoint and holds none: no {METADATA} in it, nor in folders named "
            "checkpoint_* of trials"
        )
    if len({_env_config(trial) for trial in found}) > 1:
        raise MecError(
            f"{path} holds trials of different env_config, whose returns cannot be compared: "
            f"give the folder of one, e.g. {min(found)}"
        )
    return found[max(found, key=lambda trial: (_last_return(trial), found[trial].stat().st_mtime))]


def _find_remote(url: str) -> Path:
    """Copy what is needed to tell the checkpoints of a URL apart, then the one that it means."""

    def tells(file: PurePath) -> bool:
        in_checkpoint = any(_NUMBERED.match(part) for part in file.parts[:-1])
        return file.name in (METADATA, CLASS_FILE) if in_checkpoint else len(file.parts) < 3

    copy = remote.copied(url, tells)
    try:
        found = find_checkpoint(copy)
    except MecError as error:
        raise MecError(str(error).replace(str(copy), url)) from None
    return remote.copied(remote.joined(url, *found.relative_to(copy).parts))


def _env_config(trial: Path) -> str:
    file = trial / "params.json"
    try:
        params = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise MecError(f"{file} cannot be read: {one_line(error)}") from None
    return json.dumps(params.get("env_config"), sort_keys=True)


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder; none if it may not be read."""
    try:
        return [child for child in folder.iterdir() if child.is_dir()]
    except OSError:
        return []


def _newest_of_trial(folder: Path) -> Path | None:
    """The newest complete checkpoint of a trial's folder."""
    numbered = [p for p in _folders(folder) if _NUMBERED.match(p.name) and is_complete(p)]
    return max(numbered, key=lambda p: int(p.name.split("_")[1]), default=None)


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end (a killed process leaves half ones).

    Args:
        checkpoint: Its folder.
    """
    return all((checkpoint / name).is_file() for name in (METADATA, CLASS_FILE))


def results(trial: Path) -> Iterator[dict[str, Any]]:
    """The results that Tune wrote in a trial's folder, in order.

    Args:
        trial: The trial's folder; without a ``result.json`` there are none.
    """
    file = trial / "result.json"
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # cut off by a kill
                continue


def _last_return(trial: Path) -> float:
    """The last mean return there is.

    Read by ourselves: Tune's ``ExperimentAnalysis`` needs the experiment's state, which a copied
    folder and a run that was killed early do not have.
    """
    means = [result.get("env_runners", {}).get("episode_return_mean") for result in results(trial)]
    return next((mean for mean in reversed(means) if mean is not None and mean == mean), -math.inf)


def read_info(path: str | Path) -> CheckpointInfo:
    """What algorithm and environment a checkpoint holds.

    Args:
        path: As for :func:`find_checkpoint`.

    Raises:
        MecError: No checkpoint of an RLlib algorithm of the new API stack, or classes of the user's
            that cannot be imported from here.
    """
    folder = find_checkpoint(path)
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    if not (folder / CLASS_FILE).is_file():
        raise MecError(f"{path} is not a checkpoint of RLlib's new API stack (no {CLASS_FILE})")
    content = _unpickle(folder, Path(CLASS_FILE))
    try:
        # Tune trains a subclass of its own making, which knows what it was made from.
        algorithm = getattr(content["class"], "__ray_actor_class__", content["class"])
        positional, keywords = content["ctor_args_and_kwargs"]
        config = keywords.get("config", positional[0] if positional else None)
    except Exception as error:
        raise MecError(f"checkpoint {path} cannot be read: {one_line(error)}") from None
    if not (isinstance(algorithm, type) and issubclass(algorithm, Algorithm)):
        raise MecError(f"{path} is not the checkpoint of an algorithm")
    if isinstance(config, dict):
        default = algorithm.get_default_config()
        try:
            config = (
                default.from_state(config)
                if "class" in config
                else default.update_from_dict(config)
            )
        except Exception as error:
            raise MecError(f"checkpoint {path} cannot be read: {one_line(error)}") from None
    if not isinstance(config, AlgorithmConfig):
        raise MecError(f"checkpoint {path} holds no config")
    return CheckpointInfo(folder, algorithm, config)


def read_state(checkpoint: Path, part: str | Path, name: str = "state") -> dict[str, Any]:
    """The state that a part of a checkpoint has written, from the file that RLlib would read.

    Args:
        checkpoint: Its folder.
        part: Folder of the part in it.
        name: Of the file, without its ending.

    Raises:
        MecError: There is none, or it cannot be read.
    """
    file = Path(part, f"{name}.msgpack")
    if not (checkpoint / file).is_file():
        return _unpickle(checkpoint, file.with_suffix(".pkl"))
    return _read(checkpoint, file, _unpack)


def _unpack(data: bytes) -> Any:
    from ray.rllib.utils.checkpoints import try_import_msgpack

    msgpack: Any = try_import_msgpack(error=True)
    return msgpack.unpackb(data, strict_map_key=False)


def _unpickle(checkpoint: Path, file: Path) -> dict[str, Any]:
    import ray.cloudpickle as pickle

    return _read(checkpoint, file, pickle.loads)


def _read(checkpoint: Path, file: Path, decode: Callable[[bytes], Any]) -> dict[str, Any]:
    part = next((p for p in [*file.parents][-2::-1] if not (checkpoint / p).is_dir()), file)
    if part != file or not (checkpoint / file).is_file():
        raise MecError(f"the checkpoint {checkpoint} is incomplete: there is no {part} in it")
    try:
        content = decode((checkpoint / file).read_bytes())
        if not isinstance(content, dict):
            raise TypeError(f"expected a dict, got {type(content).__name__}")
        return content
    except Exception as error:
        raise MecError(
            f"the checkpoint {checkpoint} cannot be read: {file}: {one_line(error)}"
        ) from None


def load_modules(checkpoint: Path) -> Any:
    """The networks of a checkpoint, a ``MultiRLModule``.

    Args:
        checkpoint: Its folder.

    Raises:
        MecError: They are not all there, cannot be read, or are not what this version has.
    """
    made_from = _unpickle(checkpoint, LEARNED / CLASS_FILE)
    try:
        positional, keywords = made_from["ctor_args_and_kwargs"]
        modules = made_from["class"](*positional, **keywords)
        names = list(modules.keys())
    except Exception as error:
        raise MecError(
            f"the checkpoint {checkpoint} does not fit this version of rllib_mec: {one_line(error)}"
        ) from None
    for name in names:
        modules[name].set_state(read_weights(checkpoint, name, modules[name]))
    return modules


def read_weights(
    checkpoint: Path, name: str, module: Any, *, exactly: bool = False
) -> dict[str, Any]:
    """The weights of one network of a checkpoint, once it is sure that a module takes them.

    Args:
        checkpoint: Its folder.
        name: The network's.
        module: The ``RLModule`` that they are for; not changed.
        exactly: Whether it must take all of them.

    Raises:
        MecError: They cannot be read, or differ from the module's in a name or a shape.
    """
    state = read_state(checkpoint, LEARNED / name, "module_state")
    read, taken = (
        {key: np.shape(value) for key, value in each.items()}
        for each in (state, module.get_state())
    )
    for key in {**taken, **read}:
        if key not in taken and not exactly:
            continue
        if read.get(key) != taken.get(key):
            has, needs = (
                f"with shape {each[key]}" if key in each else "none" for each in (read, taken)
            )
            raise MecError(
                f"the networks of the checkpoint {checkpoint} do not fit: of weights {key!r} of "
                f"{name} it has {has}, where {needs} is expected"
            )
    return state
