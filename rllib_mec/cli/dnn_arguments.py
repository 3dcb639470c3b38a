"""Arguments about a DNN's weights, which must be the same on device and server."""

from __future__ import annotations

from typing import Any

import click

from rllib_mec.cli.command import option
from rllib_mec.errors import MecError


def _not_both(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and ctx.get_parameter_source("seed") is not click.ParameterSource.DEFAULT:
        raise MecError("--weights is not allowed with --seed")
    return value


def weight_options(function: Any) -> Any:
    """Give a command ``--seed`` or ``--weights``.

    Args:
        function: The command's function.
    """
    function = option(
        "--weights", metavar="FILE", callback=_not_both, help="a state dict, as torch.save wrote it"
    )(function)
    return option("--seed", type=int, default=0, is_eager=True, help="of random weights")(function)
