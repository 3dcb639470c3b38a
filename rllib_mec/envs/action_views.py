"""Views of an MD's action: one space for algorithms that do not take a hybrid ``Dict``.

| ``actions`` | Space of an MD | For |
|---|---|---|
| ``"dict"`` | the ``Dict`` of Eq. (7) | hybrid policies, EMH-PPO |
| ``"flat"`` | one ``MultiDiscrete``, power in ``power_levels`` bins | discrete policies |
| ``"continuous"`` | one ``Box(0, 1)``, all tasks cut at ``fixed_partition`` | continuous policies |

A flat or continuous action is a row of columns, in this order: of each of the W_max task slots the
partition point (flat alone, unless ``fixed_partition`` is given), then of each the channel, of each
the server, of each the power, and last the window. What has one choice only has no column.

Which choices make sense is in ``infos[agent]["action_mask"]``, as the space's ``sample(mask=...)``
takes it; but for the continuous view, whose ``Box`` knows no masks: there it is ``None``, and a
choice that makes no sense is played as the nearest one that does.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rllib_mec.envs.actions import ACTION_KEYS, action_space, check_actions
from rllib_mec.errors import MecError, unknown
from rllib_mec.network.checks import Switch, checked, whole_number
from rllib_mec.network.scenario import Scenario
from rllib_mec.registry import VIEW_ARGUMENTS

POWER_LEVELS = 11
"""Default number of power bins of the flat view."""


@dataclasses.dataclass(frozen=True)
class ActionView(abc.ABC):
    """How agents see the decisions of Eq. (7).

    Attributes:
        scenario: Says how many choices there are.
    """

    scenario: Scenario
    observe_mask: ClassVar[bool] = False  # whether agents see the mask beside their observation

    @abc.abstractmethod
    def make_space(self) -> spaces.Space:
        """One MD's action space, a new object."""

    @abc.abstractmethod
    def check(self, agent: str, action: Any, space: Any) -> None:
        """Check one MD's action.

        Args:
            agent: Whose, for the message.
            action: What it plays.
            space: Its space, of :meth:`make_space`.

        Raises:
            MecError: It is not in the space; names the agent, what was given and expected.
        """

    @abc.abstractmethod
    def mask(self, masks: Mapping[str, np.ndarray]) -> Any:
        """What the space's ``sample(mask=...)`` takes.

        Args:
            masks: Which choices of one MD make sense, by decision, ``(choices,)`` int8.
        """

    def seen_space(self, space: spaces.Box) -> spaces.Space:
        """The space of :meth:`seen`.

        Args:
            space: Of one MD's observation.
        """
        return space

    def seen(self, observation: np.ndarray, mask: Any) -> Any:
        """What one MD's agent observes.

        Args:
            observation: The MD's, ``(..., size)``.
            mask: Of :meth:`mask`; its choices may have as many dimensions before them.
        """
        return observation

    @abc.abstractmethod
    def decode(self, action: Any) -> dict[str, np.ndarray]:
        """The decisions that an action stands for.

        Args:
            action: An action of the view, or a batch of them; leading dimensions are kept.

        Returns:
            ``partition``, ``channel``, ``server``, ``power`` ``(..., W_max)``, ``window`` ``(...)``
            in the terms of the ``Dict`` of Eq. (7).
        """


@dataclasses.dataclass(frozen=True)
class DictView(ActionView):
    """The ``Dict`` itself."""

    def make_space(self) -> spaces.Dict:
        """See the base class."""
        return action_space(self.scenario)

    def check(self, agent: str, action: Any, space: Any) -> None:
        """See the base class."""
        check_actions(action, self.scenario, (), agent)

    def mask(self, masks: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """A mask for each decision, of a choice for each task; none for the power.

        See the base class.
        """
        slots = self.scenario.max_window
        per_task = {name: (masks[name],) * slots for name in ("partition", "channel", "server")}
        return {**per_task, "power": None, "window": masks["window"]}

    def decode(self, action: Any) -> dict[str, np.ndarray]:
        """The action as it is; see the base class."""
        kinds = {key: float if key == "power" else np.int64 for key in ACTION_KEYS}
        return {key: np.asarray(action[key], dtype=kind) for key, kind in kinds.items()}


@dataclasses.dataclass(frozen=True)
class _ColumnView(ActionView):
    """A row of columns.

    Attributes:
        scenario: Says how many choices there are.
        fixed_partition: Partition point of all tasks; ``None`` where it is a choice.
    """

    fixed_partition: int | None

    @property
    def _choices(self) -> dict[str, int]:
        """Decision -> number of choices; a power has none to count."""
        scenario = self.scenario
        point = {} if self.fixed_partition is not None else {"partition": scenario.num_points}
        return {
            **point,
            "channel": scenario.num_channels,
            "server": scenario.num_servers,
            "power": self._power_choices,
            "window": scenario.max_window,
        }

    @property
    @abc.abstractmethod
    def _power_choices(self) -> int: ...

    @property
    def _column_choices(self) -> np.ndarray:
        """Number of choices of each column, ``(columns,)``."""
        slots = self.scenario.max_window
        widths = {key: 1 if key == "window" else slots for key in self._choices}
        return np.concatenate(
            [np.full(widths[key], n, int) for key, n in self._choices.items() if n != 1]
        )

    @abc.abstractmethod
    def _as_choice(self, column: np.ndarray, num_choices: int) -> np.ndarray:
        """What columns of a discrete decision choose, int."""

    @abc.abstractmethod
    def _as_power(self, column: np.ndarray) -> np.ndarray:
        """What columns of the power choose, in [0, 1]."""

    def decode(self, action: Any) -> dict[str, np.ndarray]:
        """See the base class."""
        columns = np.asarray(action)
        slots = self.scenario.max_window
        shape = columns.shape[:-1]
        decided: dict[str, np.ndarray] = {
            "partition": np.full((*shape, slots), self.fixed_partition or 0)
        }
        start = 0
        for key, choices in self._choices.items():
            width = 1 if key == "window" else slots
            if choices == 1:
                decided[key] = np.zeros((*shape, width), dtype=np.int64)
                continue
            own = columns[..., start : start + width]
            start += width
            decided[key] = self._as_power(own) if key == "power" else self._as_choice(own, choices)
        decided["window"] = decided["window"][..., 0]
        return decided

    def check(self, agent: str, action: Any, space: Any) -> None:
        """See the base class."""
        try:
            row = np.asarray(action)
        except ValueError:  # rows of unequal length
            row = np.empty(0, dtype=object)
        kind = np.integer if isinstance(space, spaces.MultiDiscrete) else np.number
        if row.shape != space.shape or not np.issubdtype(row.dtype, kind):
            what = "integers" if kind is np.integer else "numbers"
            raise MecError(
                f"the action of {agent} must be {space.shape[0]} {what}, "
                f"but is {row.dtype} of shape {row.shape}"
            )
        highest = self._column_choices - 1 if kind is np.integer else np.ones(space.shape)
        outside = ~((row >= 0) & (row <= highest))  # true for NaN too
        if outside.any():
            column = int(np.argmax(outside))
            raise MecError(
                f"column {column} of the action of {agent} must lie in [0, {highest[column]:g}], "
                f"but is {row[column]}"
            )


@dataclasses.dataclass(frozen=True)
class FlatView(_ColumnView):
    """One ``MultiDiscrete``.

    Attributes:
        scenario: Says how many choices there are.
        fixed_partition: Partition point of all tasks; ``None`` where it is a choice.
        power_levels: Number of powers to choose from, evenly from 0 to 1, both included.
        observe_mask: Whether agents see the mask beside their observation.
    """

    power_levels: int
    observe_mask: bool = dataclasses.field(default=False, kw_only=True)  # type: ignore[misc]

    @property
    def _power_choices(self) -> int:
        return self.power_levels

    def make_space(self) -> spaces.MultiDiscrete:
        """See the base class."""
        return spaces.MultiDiscrete(self._column_choices)

    def mask(self, masks: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """A mask for each column; any power makes sense. See the base class."""
        every = {"power": np.ones(self.power_levels, dtype=np.int8), **masks}
        columns: list[np.ndarray] = []
        for key, choices in self._choices.items():
            width = 1 if key == "window" else self.scenario.max_window
            columns += [every[key]] * width if choices != 1 else []
        return tuple(columns)

    def seen_space(self, space: spaces.Box) -> spaces.Space:
        """RLlib's convention with a mask; see the base class."""
        if not self.observe_mask:
            return space
        width = int(self._column_choices.sum())
        mask = spaces.Box(0.0, 1.0, (width,), np.float32)
        return spaces.Dict(action_mask=mask, observations=space)

    def seen(self, observation: np.ndarray, mask: Any) -> Any:
        """RLlib's convention with a mask, of all columns in a row; see the base class."""
        if not self.observe_mask:
            return observation
        worlds = observation.shape[:-1]
        columns = [np.broadcast_to(column, (*worlds, column.shape[-1])) for column in mask]
        flat = np.concatenate(columns, axis=-1, dtype=np.float32)
        return {"action_mask": flat, "observations": observation}

    def _as_choice(self, column: np.ndarray, num_choices: int) -> np.ndarray:
        return column.astype(np.int64)

    def _as_power(self, column: np.ndarray) -> np.ndarray:
        return column / (self.power_levels - 1)


@dataclasses.dataclass(frozen=True)
class ContinuousView(_ColumnView):
    """One ``Box(0, 1)``: of K choices, the k-th is played from k/K to (k+1)/K."""

    @property
    def _power_choices(self) -> int:
        return 0  # any number of them

    def make_space(self) -> spaces.Box:
        """See the base class."""
        return spaces.Box(0.0, 1.0, self._column_choices.shape, np.float32)

    def mask(self, masks: Mapping[str, np.ndarray]) -> None:
        """None: Gymnasium knows no mask of a ``Box``. See the base class."""

    def _as_choice(self, column: np.ndarray, num_choices: int) -> np.ndarray:
        return np.minimum((column * num_choices).astype(np.int64), num_choices - 1)

    def _as_power(self, column: np.ndarray) -> np.ndarray:
        return column


VIEWS = ("dict", "flat", "continuous")
"""Values of an environment's ``actions``."""


def view_of(scenario: Scenario, env_config: Mapping[str, Any]) -> ActionView:
    """The view that an environment's arguments ask for.

    Args:
        scenario: Of the environment.
        env_config: Its arguments; what is none of a view does not matter.

    Raises:
        MecError: As :func:`action_view`.
    """
    given = {key: env_config[key] for key in VIEW_ARGUMENTS if key in env_config}
    return action_view(scenario, **given)


def action_view(
    scenario: Scenario,
    actions: str = "dict",
    power_levels: int | None = None,
    fixed_partition: int | None = None,
    observe_mask: bool = False,
) -> ActionView:
    """Make a view by an environment's arguments.

    Args:
        scenario: Says how many choices there are.
        actions: One of :data:`VIEWS`.
        power_levels: Number of power bins, at least 2; of the flat view alone, 11 by default.
        fixed_partition: Index of the partition point at which all tasks are cut, but for full
            local; the continuous view needs one, the flat one may have one.
        observe_mask: Whether agents observe ``{"action_mask", "observations"}``, as RLlib's
            ``ActionMaskingTorchRLModule`` takes it; of the flat view alone.

    Returns:
        The view.

    Raises:
        MecError: There is no such view, it needs another argument, or one is out of its range.
    """
    if actions not in VIEWS:
        raise unknown("actions", actions, VIEWS)
    if power_levels is not None:
        if actions != "flat":
            raise MecError(f"power_levels is an argument of actions='flat', not of {actions!r}")
        if whole_number("power_levels", power_levels) < 2:
            raise MecError(f"power_levels must be at least 2, but is {power_levels}")
    if checked("observe_mask", observe_mask, Switch) and actions != "flat":
        raise MecError(
            f"observe_mask is an argument of actions='flat', not of {actions!r}: RLlib's module "
            "masks logits of choices alone"
        )
    if actions == "dict":
        if fixed_partition is not None:
            raise MecError("fixed_partition is for actions='flat' or 'continuous', not for 'dict'")
        return DictView(scenario)
    # Of unlike DNNs the one that has fewest says at which points all can be cut.
    fewest = min(scenario.tables, key=lambda table: table.num_points)
    dnn, last = fewest.dnn, fewest.num_points - 2
    if fixed_partition is not None:
        is_whole = isinstance(fixed_partition, int) and not isinstance(fixed_partition, bool)
        if not is_whole or not 0 <= fixed_partition <= last:
            raise MecError(
                f"fixed_partition must be a partition point of {dnn} but full local, "
                f"0..{last}, but is {fixed_partition!r}"
            )
        fits = np.all(scenario.has_point, axis=0)
        if not fits[fixed_partition]:
            choices = ", ".join(map(str, np.flatnonzero(fits[: last + 1])))
            raise MecError(
                f"fixed_partition must be a partition point whose head the MDs' memory_mb holds, "
                f"one of {choices}, but is {fixed_partition}"
            )
    if actions == "flat":
        levels = power_levels or POWER_LEVELS
        return FlatView(scenario, fixed_partition, levels, observe_mask=observe_mask)
    if fixed_partition is None:
        raise MecError(
            "actions='continuous' needs fixed_partition, the partition point of all tasks "
            f"(0..{last} of {dnn}): a cut is no continuous choice"
        )
    return ContinuousView(scenario, fixed_partition)
