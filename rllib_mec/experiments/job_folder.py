"""A working folder that stays, for what ``ray job submit --working-dir`` runs.

Ray keeps its copy of a submitted folder in its temporary folder, and lets whatever node comes to it
first write it: where nodes share that folder (two on a machine do, and those with one on a network
drive), the second deletes the first one's and writes it again. A process in there, the driver of
the job, is then in a folder that is no more, and everything that asks for its name fails: Tune
does, with ``[Errno 2] No such file or directory``, after the training.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rllib_mec.errors import MecError
from rllib_mec.remote import is_url

_OF_RAY = "working_dir_files"


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """While the block runs, a job works in a folder of its own with the same files."""
    here = Path.cwd()
    if _OF_RAY not in here.parts:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="rllib_mec_job_") as name:
        copy = shutil.copytree(here, Path(name, here.name), symlinks=True, copy_function=_link)
        os.chdir(copy)
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.chdir(here)


def check_storage(storage_path: str) -> None:
    """Refuse results in Ray's copy of a submitted folder, which Ray deletes.

    Args:
        storage_path: Where results go.

    Raises:
        MecError: They would go there.
    """
    if not is_url(storage_path) and _OF_RAY in Path(storage_path).parts:
        raise MecError(
            f"storage_path {storage_path} lies in Ray's copy of the submitted folder, which Ray"
            " deletes: give an absolute folder or a URL"
        )


def _link(source: str, target: str) -> None:
    """The file is kept however its other name is deleted; on another disk it is copied."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
