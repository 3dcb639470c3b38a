"""The ``rllib-mec`` command: tools around the plugin, one module each.

A subcommand is a module with ``add_arguments(parser)`` and ``run(arguments) -> int``, named in
:data:`SUBCOMMANDS`; it is imported only when it is asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from rllib_mec.errors import MecError, unknown

BAD_INPUT = 2
INTERRUPTED = 130

SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "partition": ("rllib_mec.cli.partition", "tabulate where a DNN can be cut, and the best cut"),
    "compare": ("rllib_mec.cli.compare", "compare policies, and to the planner's near-optimal one"),
    "plot": ("rllib_mec.cli.plot", "draw training curves with bands over seeds"),
    "render": ("rllib_mec.cli.render", "show an episode as a Gantt chart or an animation"),
    "device": ("rllib_mec.cli.device", "work through tasks, split with a MEC server"),
    "server": ("rllib_mec.cli.server", "run a MEC server: tails of a DNN, and the scheduler"),
    "testbed": ("rllib_mec.cli.testbed", "emulate server and devices on this machine"),
}
"""The only object to edit to add a subcommand: its name, its module, one line of help."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are ours: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        raise MecError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: The command line after the program's name; default: the process's own.

    Returns:
        The exit code: 0 fine, 2 bad input (one line on stderr), 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if not argv or argv[0] in ("-h", "--help"):
            print(_overview())
            return 0 if argv else BAD_INPUT
        if argv[0] not in SUBCOMMANDS:
            raise unknown("command", argv[0], SUBCOMMANDS)
        module_name, summary = SUBCOMMANDS[argv[0]]
        module = import_module(module_name)
        parser = _Parser(
            prog=f"rllib-mec {argv[0]}",
            description=module.__doc__ or summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(parser)
        return module.run(parser.parse_args(argv[1:]))
    except MecError as error:
        print(f"rllib-mec: error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\nrllib-mec: error: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `rllib-mec ... | head`
        sys.stderr.close()
        return 1


def _overview() -> str:
    width = max(map(len, SUBCOMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in SUBCOMMANDS.items()]
    return "\n".join(["usage: rllib-mec COMMAND ...", "", *lines, "", "rllib-mec COMMAND --help"])
