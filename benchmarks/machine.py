"""What a benchmark ran on, in one line."""

from __future__ import annotations

import os
import pathlib
import platform
import subprocess


def describe_machine() -> str:
    """Processor, cores, Python and the commit that is checked out."""
    model = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        names = [li.split(":")[1] for li in info.read_text().splitlines() if "model name" in li]
        model = names[0].strip() if names else model
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, commit {commit}"
