"""Where an experiment's results go: never over older ones, and the right ones on ``--resume``."""

from __future__ import annotations

import time
from pathlib import Path

from rllib_mec.errors import MecError

_STAMP = "_[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]_[0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_STATE = "experiment_state-*.json"


def fresh_name(storage_path: str, name: str) -> str:
    """The experiment's name, with the time appended if its folder already holds something.

    Args:
        storage_path: Where results go: a folder, or a URL.
        name: The experiment's.
    """
    if "://" in storage_path:  # listing a cloud folder needs credentials; Tune asks for them later
        return name
    folder = Path(storage_path, name)
    if not folder.exists() or not any(folder.iterdir()):
        return name
    stamped = name + time.strftime("_%Y-%m-%d_%H-%M-%S")
    while Path(storage_path, stamped).exists():  # two runs started in the same second
        time.sleep(1.0)
        stamped = name + time.strftime("_%Y-%m-%d_%H-%M-%S")
    return stamped


def name_to_resume(storage_path: str, name: str) -> str:
    """The newest folder of an experiment, with or without a time in its name.

    Args:
        storage_path: Where results go: a folder, or a URL.
        name: The experiment's, without a time.

    Raises:
        MecError: There is none that Tune can resume.
    """
    if "://" in storage_path:
        return name
    root = Path(storage_path)
    newest: tuple[float, str] | None = None
    for folder in [root / name, *root.glob(name + _STAMP)]:
        for state in folder.glob(_STATE):
            candidate = (state.stat().st_mtime, folder.name)
            newest = candidate if newest is None else max(newest, candidate)
    if newest is None:
        raise MecError(
            f"nothing to resume: no experiment {name!r} with saved state in {storage_path}"
        )
    return newest[1]
