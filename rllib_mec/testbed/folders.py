"""A folder of this process's own, which nobody else can read, and what killed processes left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_PREFIX, _LOCK = "mec-", "lock"
_LONGEST_BASE = 24  # sockets lie in here, and a socket's path has at most 107 bytes
_YOUNG_S = 60.0


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A folder with mode 700 while a block runs; folders of processes that were killed go first.

    Yields:
        Its path.
    """
    base = Path(tempfile.gettempdir())
    if len(str(base)) > _LONGEST_BASE and os.access("/tmp", os.W_OK):
        base = Path("/tmp")
    sweep(base)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep(base: Path) -> None:
    """Remove what killed processes of this user left: folders whose lock nobody holds.

    Args:
        base: Where they lie.
    """
    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            # One that is being made has no lock yet.
            if status.st_uid != os.getuid() or time.time() - status.st_mtime < _YOUNG_S:
                continue
            with (folder / _LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
