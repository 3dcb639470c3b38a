"""``env_config: {randomize: ...}``: training on scenarios drawn around that of the other keys.

A field has a list of choices, or ``{between: [low, high]}``. A pool of scenarios is drawn once, by
the config's seed alone, so that env runners and learners have the same one without a word between
them. An iteration plays one of them, all in turn, since worlds of a batch have one shape.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rllib_mec.envs import networks
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.task_window import TaskWindowMDP
from rllib_mec.errors import MecError, unknown
from rllib_mec.network.checks import whole_number
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.streams import RANDOMIZE_STREAM
from rllib_mec.policies import LocalOnly
from rllib_mec.registry import RANDOMIZE, algorithm_name, make_mdp

BETWEEN = "between"

NUM_SCENARIOS = "num_scenarios"
"""Key beside the fields: how many scenarios to draw; equal ones are one."""

DEFAULT_NUM_SCENARIOS = 16

_PATH = f"env_config.{RANDOMIZE}"


@dataclasses.dataclass(frozen=True)
class Pool:
    """The scenarios that a config trains on.

    Rewards are divided by ``reward_scale`` times the cost of a task done locally, over that cost in
    the config's own scenario: a DNN of ten times the work has rewards ten times as large. The cost
    is that of Eq. (8) where every MD does one task locally.

    Attributes:
        base: The MDP of the config's own scenario, without ``randomize``.
        mdps: Those trained on: the drawn ones, or ``base`` alone.
        reward_scales: What rewards are divided by in each.
    """

    base: MDP
    mdps: tuple[MDP, ...]
    reward_scales: tuple[float, ...]

    @classmethod
    def of(cls, config: Any) -> Pool:
        """Draw the scenarios of a config.

        Args:
            config: The algorithm's config, valid.
        """
        env, base = str(config.env), make_mdp(str(config.env), config.env_config)
        if not is_randomized(config):
            return cls(base, (base,), (config.reward_scale,))
        mdps = tuple(make_mdp(env, _fields_with(config, drawn)) for drawn in _draw(config, base))
        scales = (config.reward_scale * _local_cost(mdp) / _local_cost(base) for mdp in mdps)
        return cls(base, mdps, tuple(scales))

    def __len__(self) -> int:
        """Number of scenarios."""
        return len(self.mdps)

    def turn(self, iteration: int) -> int:
        """Whose turn it is: an index into :attr:`mdps`.

        Args:
            iteration: Updates that the weights have had.
        """
        return iteration % len(self)


def is_randomized(config: Any) -> bool:
    """Whether a config trains on drawn scenarios.

    Args:
        config: An ``AlgorithmConfig``.
    """
    return config.env_config.get(RANDOMIZE) is not None


def carries_over(config: Any) -> bool:
    """Whether the weights of a config's networks fit any scenario.

    Args:
        config: An ``AlgorithmConfig``.
    """
    networks_of = getattr(config, "joint_module_class", None)
    return networks_of is not None and networks_of().carries_over


def check_randomize(config: Any) -> None:
    """Refuse scenarios that cannot be drawn, or trained on.

    Each choice is checked by itself, and each drawn scenario, as a config that trains on it alone.

    Args:
        config: The algorithm's config, valid but for this.

    Raises:
        MecError: Names the path of what is wrong.
    """
    evaluation = config.evaluation_config if isinstance(config.evaluation_config, Mapping) else {}
    if (evaluation.get("env_config") or {}).get(RANDOMIZE) is not None:
        raise MecError(
            f"evaluation_config: leave {RANDOMIZE} out of env_config: "
            "an evaluation plays the scenario of the other keys"
        )
    if not is_randomized(config) or config.in_evaluation:
        return
    for name, has, why in (
        ("env_to_module_connector", config._env_to_module_connector, "is made for one shape"),
        ("module_to_env_connector", config._module_to_env_connector, "is made for one shape"),
        ("output", config.output, "has rows of one shape"),
    ):
        if has:
            raise MecError(f"{name} {why}: leave it out with {_PATH}, or give one scenario")
    _check_alone(config, {}, "")
    base = make_mdp(str(config.env), config.env_config)
    fields, number = _fields(config, base), _number(config)
    for name, given in fields.items():
        for where, choice in _choices(name, given, base).items():
            _check_alone(config, {name: choice}, f"{_PATH}.{name}{where}: ")
    for i, drawn in enumerate(_draw(config, base)):
        text = ", ".join(f"{name}={value!r}" for name, value in drawn.items())
        _check_alone(config, drawn, f"{_PATH}: scenario {i} of at most {number} ({text}): ")


def _check_alone(config: Any, changes: Mapping[str, Any], prefix: str) -> None:
    alone = config.copy(copy_frozen=False)
    alone.env_config = _fields_with(config, changes)
    try:
        alone.validate()
    except MecError as error:
        own = str(error).removeprefix("env_config: ") if prefix else error
        raise MecError(f"{prefix}{own}") from None


def _fields_with(config: Any, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """``env_config`` without this key, and with drawn fields; groups replace the number of them."""
    replaced = {f"num_{name}" for name in ("devices", "servers", "channels") if name in drawn}
    own = {k: v for k, v in config.env_config.items() if k not in {RANDOMIZE, *replaced}}
    return {**own, **drawn}


def _number(config: Any) -> int:
    given = config.env_config[RANDOMIZE].get(NUM_SCENARIOS, DEFAULT_NUM_SCENARIOS)
    return whole_number(f"{_PATH}.{NUM_SCENARIOS}", given)


def _fields(config: Any, base: MDP) -> dict[str, Any]:
    """What may vary of each field."""
    randomize = config.env_config[RANDOMIZE]
    if not isinstance(randomize, Mapping):
        raise MecError(f"{_PATH} must be a mapping of fields to choices, but is {randomize!r}")
    known = {field.name for field in dataclasses.fields(Scenario)}
    known |= {*base.settings, networks.KEY, NUM_SCENARIOS}
    for name in randomize:
        if name not in known:
            raise unknown(f"key of {_PATH}", name, known, show=12)
    fields = {name: given for name, given in randomize.items() if name != NUM_SCENARIOS}
    if not fields:
        raise MecError(f"{_PATH} names no field to draw: give one, e.g. {{num_devices: [2, 3, 4]}}")
    return fields


def _choices(name: str, given: Any, base: MDP) -> dict[str, Any]:
    """Path below the field -> value: its choices, or the ends of what they are between.

    Raises:
        MecError: It is neither a list with something in it nor ``{between: [low, high]}``.
    """
    if isinstance(given, list | tuple) and given:
        return {f"[{i}]": choice for i, choice in enumerate(given)}
    if not isinstance(given, Mapping):
        expected = f"a list of choices that is not empty, or {{{BETWEEN}: [low, high]}}"
        raise MecError(f"{_PATH}.{name} must be {expected}, but is {given!r}")
    for key in given:
        if key != BETWEEN:
            raise unknown(f"key of {_PATH}.{name}", key, [BETWEEN])
    ends: Any = given.get(BETWEEN)
    numbers = isinstance(ends, list | tuple) and len(ends) == 2 and all(map(_is_number, ends))
    if not numbers or ends[0] > ends[1]:
        raise MecError(
            f"{_PATH}.{name}.{BETWEEN} must be two numbers, the lower one first, but is {ends!r}"
        )
    value = _value(name, base)
    if value is not None and not _is_number(value):
        raise MecError(
            f"{_PATH}.{name} must be a list of choices, but is {dict(given)!r}: "
            f"{BETWEEN} is for numbers, and {name} is {value!r}"
        )
    return {f".{BETWEEN}[{i}]": end for i, end in enumerate(ends)}


def is_among(value: Any, given: Any) -> bool:
    """Whether a field's value is one of those that it was drawn from, or between their ends.

    Args:
        value: Of the field.
        given: What ``randomize`` has for the field.
    """
    if isinstance(given, Mapping):
        low, high = given[BETWEEN]
        return low <= value <= high
    choices = [tuple(choice) if isinstance(choice, list) else choice for choice in given]
    return (tuple(value) if isinstance(value, list) else value) in choices


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _value(name: str, base: MDP) -> Any:
    """What a field is in the config's own scenario; it says whether its numbers are whole."""
    if name == networks.KEY:
        return ""
    return base.settings[name] if name in base.settings else getattr(base.scenario, name)


def _draw(config: Any, base: MDP) -> list[dict[str, Any]]:
    """The fields of each scenario that are drawn.

    Of each field the choices come equally often, and numbers fall evenly between their ends (a
    Latin hypercube): few scenarios then cover much. Fields do not change each other's draws.
    """
    number = _number(config)
    columns = {}
    for name, given in _fields(config, base).items():
        key = [RANDOMIZE_STREAM, config.seed or 0, zlib.crc32(name.encode())]
        rng = np.random.default_rng(key)
        choices = list(_choices(name, given, base).values())
        if not isinstance(given, Mapping):
            rounds = [rng.permutation(len(choices)) for _ in range(-(-number // len(choices)))]
            order = rng.permutation(np.concatenate(rounds)[:number])
            columns[name] = [choices[i] for i in order]
            continue
        (low, high), share = choices, (rng.permutation(number) + rng.random(number)) / number
        if isinstance(_value(name, base), int):
            columns[name] = [int(low + share_ * (high - low + 1)) for share_ in share]
        else:
            columns[name] = [float(low + share_ * (high - low)) for share_ in share]
    drawn: list[dict[str, Any]] = []
    for values in zip(*columns.values(), strict=True):
        own = dict(zip(columns, values, strict=True))
        if own not in drawn:
            drawn.append(own)
    return drawn


def _local_cost(mdp: MDP) -> float:
    """−r_k of Eq. (8) where every MD does a task locally."""
    worlds = TaskWindowMDP(mdp.scenario).make(1, num_tasks=1)
    return -float(worlds.step(LocalOnly(mdp.scenario).decide(worlds.observation())).reward[0])


def refuse_randomize(config: Any) -> None:
    """Refuse ``randomize`` where the networks fit one scenario.

    Args:
        config: The ``AlgorithmConfig``.

    Raises:
        MecError: They do, and what would not.
    """
    if not is_randomized(config) or carries_over(config):
        return
    name = algorithm_name(config.algo_class)
    raise MecError(
        f"{RANDOMIZE} in env_config needs networks that fit any scenario, which those of {name} do "
        "not here: leave it out, or train EMH-PPO with model_config {model: set}, MAPPO or MAT"
    )
