"""Compiles the simulator's kernels with numba, and keeps the result on disk between processes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numba.core.config

from rllib_mec.cache import cache_folder

Kernel = TypeVar("Kernel", bound=Callable)

# What numba makes at run time is unknown to type checkers.
config: Any = numba.core.config
njit: Any = numba.njit


# Named after the sources of all kernels: numba looks only at the file of the function that it
# compiled, so that a kernel would keep an outdated copy of those it calls from other files. It also
# writes beside the sources, which may be read-only. NUMBA_CACHE_DIR, where set, is still the place.
_KERNELS = [
    path
    for path in Path(__file__).parent.rglob("*.py")
    if re.search("^@(compiled|inlined)$", path.read_text("utf-8"), re.MULTILINE)
]
_CACHE_FOLDER = str(cache_folder("kernels", _KERNELS, config.CACHE_DIR))


def compiled(function: Kernel, **options: Any) -> Kernel:
    """Compile a kernel: no Python objects, no GIL, IEEE division, cached on disk if possible.

    Args:
        function: Takes numbers, arrays and NamedTuples of them.
        **options: Others of numba's.
    """
    options |= {"nogil": True, "error_model": "numpy"}
    given = config.CACHE_DIR
    config.CACHE_DIR = _CACHE_FOLDER
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to write: compile anew in every process
        return njit(**options)(function)
    finally:
        config.CACHE_DIR = given


def inlined(function: Kernel) -> Kernel:
    """Compile a part of kernels, put in where they call it: a call counts references to arrays.

    Args:
        function: As for :func:`compiled`.
    """
    return compiled(function, inline="always")
