"""The ``rllib-mec`` command: tools around the plugin, one module each."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rllib_mec.cli.command import Group, run

mec = Group(
    "rllib-mec",
    "Tools for collaborative DNN inference in mobile edge computing.",
    {
        "partition": ("rllib_mec.cli.partition", "tabulate where a DNN can be cut, the best cut"),
        "compare": ("rllib_mec.cli.compare", "compare policies, also to a near-optimal planner"),
        "plot": ("rllib_mec.cli.plot", "draw training curves with bands over seeds"),
        "render": ("rllib_mec.cli.render", "show an episode as a Gantt chart or an animation"),
        "device": ("rllib_mec.cli.device", "work through tasks, split with a MEC server"),
        "server": ("rllib_mec.cli.server", "run a MEC server: tails of a DNN, and the scheduler"),
        "testbed": ("rllib_mec.cli.testbed", "emulate server and devices on this machine"),
    },
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: The command line after the program's name; default: the process's own.

    Returns:
        The exit code: 0 fine, 1 failed, 2 bad input, 130 interrupted.
    """
    return run(mec, argv)


if __name__ == "__main__":
    sys.exit(main())
