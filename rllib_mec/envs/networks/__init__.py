"""Networks by name: what ``network: campus_wifi`` in an ``env_config`` stands for.

Each is a YAML file beside this one that says where its numbers come from.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from importlib import resources
from typing import Any

import yaml

from rllib_mec.envs import arrivals, presence
from rllib_mec.errors import unknown
from rllib_mec.network.consistency import USED_BY, UsedBy

KEY = "network"
"""Key of an ``env_config`` that names one."""

PAPER = "paper"

_COUNTS = {"num_devices": "devices", "num_servers": "servers", "num_channels": "channels"}

_USED_BY: UsedBy = {**USED_BY, **arrivals.USED_BY, **presence.USED_BY}


@functools.cache
def names() -> tuple[str, ...]:
    """Names of all networks, the paper's first."""
    files = resources.files(__name__).iterdir()
    return (PAPER, *sorted(f.name[: -len(".yaml")] for f in files if f.name.endswith(".yaml")))


@functools.cache
def _fields(name: str) -> dict[str, Any]:
    if name == PAPER:
        return {}
    return yaml.safe_load((resources.files(__name__) / f"{name}.yaml").read_text("utf-8"))


def expanded(env_config: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """An ``env_config`` with its network's fields, those that it does not set itself.

    A number of devices, servers or channels takes the place of the network's groups of them, and
    another law that of what only the network's reads.

    Args:
        env_config: Field names and values; ``network`` may name a network.
        known: Fields of the MDP and its scenario: others, such as arrivals where all tasks are
            there at the start, are left out.

    Raises:
        MecError: There is no network of that name.
    """
    given = {key: value for key, value in env_config.items() if key != KEY}
    name = env_config.get(KEY, PAPER)
    if not isinstance(name, str) or name not in names():
        raise unknown(KEY, name, names())
    replaced = {groups for number, groups in _COUNTS.items() if number in given}
    replaced |= {
        field
        for field, (chooser, choices) in _USED_BY.items()
        if chooser in given and given[chooser] not in choices
    }
    return {k: v for k, v in _fields(name).items() if k in known and k not in replaced} | given
