"""Where an experiment's results go: never over older ones, and the right ones on ``--resume``."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from rllib_mec import remote
from rllib_mec.errors import MecError, one_line

_STAMPED = "_%Y-%m-%d_%H-%M-%S"
_STAMP = re.compile(r"(_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)?")
_STATE = "experiment_state-*.json"
_LEAST_FREE = 50_000_000


@contextlib.contextmanager
def probed(storage_path: str) -> Iterator[str]:
    """A file in the storage while a block runs, for others to look for; gone afterwards.

    Folders that were made for it go too, if nothing else is in them by then.

    Args:
        storage_path: Where results go: an absolute folder, made if it is not there, or a URL.

    Yields:
        The file's folder or URL.

    Raises:
        MecError: Nothing can be written there.
    """
    probe = remote.joined(storage_path, f".rllib_mec_{uuid.uuid4().hex}")
    system, inside = remote.open_folder(probe)
    folders = (
        [] if remote.is_url(storage_path) else [Path(storage_path), *Path(storage_path).parents]
    )
    made = [folder for folder in folders if not folder.exists()]

    def write() -> None:
        system.create_dir(inside)
        with system.open_output_stream(f"{inside}/driver") as file:
            file.write(b"here")

    if remote.is_url(storage_path):
        remote.in_time(write, storage_path)
    else:
        try:
            write()
        except OSError as error:
            reason = error.strerror or one_line(error)
            raise MecError(f"storage_path {storage_path} cannot be written to: {reason}") from None
    try:
        _check_room(storage_path)
        yield probe
    finally:
        with contextlib.suppress(Exception):
            remote.in_time(lambda: system.delete_dir(inside), storage_path)
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()


def _check_room(storage_path: str) -> None:
    if not remote.is_url(storage_path):
        free = shutil.disk_usage(storage_path).free
        if free < _LEAST_FREE:
            raise MecError(
                f"the disk of storage_path {storage_path} is full: {free / 1e6:.0f} MB are free, "
                f"expected {_LEAST_FREE / 1e6:.0f} MB for checkpoints at least"
            )


def fresh_name(storage_path: str, name: str) -> str:
    """The experiment's name, with the time appended if its folder already holds something.

    Args:
        storage_path: Where results go: a folder, or a URL.
        name: The experiment's.

    Raises:
        MecError: A URL whose service does not answer.
    """
    fresh = name
    while remote.listed(remote.joined(storage_path, fresh)) or (
        fresh != name and _exists(storage_path, fresh)  # two runs started in the same second
    ):
        if fresh != name:
            time.sleep(1.0)
        fresh = name + time.strftime(_STAMPED)
    return fresh


def _exists(storage_path: str, name: str) -> bool:
    return not remote.is_url(storage_path) and Path(storage_path, name).exists()


def name_to_resume(storage_path: str, name: str) -> str:
    """The newest folder of an experiment, with or without a time in its name.

    Args:
        storage_path: Where results go: a folder, or a URL.
        name: The experiment's, without a time.

    Raises:
        MecError: There is none that Tune can resume.
    """
    newest: tuple[int, str] | None = None
    for folder in remote.listed(storage_path):
        found = PurePosixPath(folder.path).name
        if folder.is_file or not found.startswith(name) or not _STAMP.fullmatch(found[len(name) :]):
            continue
        for state in remote.listed(remote.joined(storage_path, found)):
            if PurePosixPath(state.path).match(_STATE):
                candidate = (state.mtime_ns, found)
                newest = candidate if newest is None else max(newest, candidate)
    if newest is None:
        raise MecError(
            f"nothing to resume: no experiment {name!r} with saved state in {storage_path}"
        )
    return newest[1]
