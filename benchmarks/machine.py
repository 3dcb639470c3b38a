"""What a benchmark ran on, in one line."""

from __future__ import annotations

import functools
import os
import pathlib
import platform
import subprocess


def processor() -> str:
    """Processor, cores and Python."""
    model = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        names = [li.split(":")[1] for li in info.read_text().splitlines() if "model name" in li]
        model = names[0].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


@functools.cache
def commit() -> str:
    """The commit that is checked out, with ``-dirty`` if its files were changed since.

    Pages of results are no part of what makes results.
    """
    head = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "-uno", ":/", ":(top,exclude)benchmarks/results")
    return f"{head}-dirty" if head and changed else head or "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def describe_machine() -> str:
    """Processor, cores, Python and the commit that is checked out."""
    return f"{processor()}, commit {commit()}"
