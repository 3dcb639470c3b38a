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
    """The commit that is checked out, with ``-dirty`` if its files were changed since."""
    described = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--dirty"],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def describe_machine() -> str:
    """Processor, cores, Python and the commit that is checked out."""
    return f"{processor()}, commit {commit()}"
