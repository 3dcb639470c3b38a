"""Folders on disk for what is dear to compute, kept between processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def cache_folder(name: str, sources: Iterable[Path], base: str | Path = "") -> Path:
    """A folder named after the source files that its content depends on.

    Args:
        name: What it is for.
        sources: The files; when one changes, so does the folder.
        base: Where it lies; by default ``rllib_mec`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.read_bytes())
    if not base:
        user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        base = Path(user) / "rllib_mec"
    return Path(base) / f"{name}-{digest.hexdigest()[:16]}"
