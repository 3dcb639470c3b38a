"""The ``rllib`` command: ``rllib train`` and ``rllib evaluate``, as in Ray up to 2.40."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

import rllib_mec
from rllib_mec.cli.command import Group, run

rllib = click.version_option(rllib_mec.__version__, message="rllib_mec %(version)s")(
    Group(
        "rllib",
        "Train and evaluate RLlib algorithms (Ray 2.60, new API stack).",
        {
            "train": ("rllib_mec.cli.train", "train an algorithm: from a file, or from flags"),
            "evaluate": ("rllib_mec.cli.evaluate", "measure a trained policy"),
        },
    )
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``rllib`` command.

    Args:
        argv: Arguments without the program's name; default ``sys.argv[1:]``.

    Returns:
        The exit code: 0 fine, 1 training failed, 2 bad input, 130 interrupted.
    """
    return run(rllib, argv)


if __name__ == "__main__":
    sys.exit(main())
