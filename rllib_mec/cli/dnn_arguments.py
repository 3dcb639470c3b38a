"""Arguments about a DNN that several subcommands share."""

from __future__ import annotations

import argparse

from rllib_mec.errors import MecError


def input_shape(text: str) -> tuple[int, ...]:
    """The sizes in ``C,H,W``.

    Raises:
        MecError: They are none.
    """
    try:
        shape = tuple(int(size) for size in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise MecError(f"--input must be sizes such as 3,224,224, got {text!r}")
    return shape


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Declare where the weights come from, which must be the same on device and server."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--seed", type=int, default=0, help="seed of random weights (default 0)")
    group.add_argument("--weights", metavar="FILE", help="a state dict, as torch.save wrote it")
