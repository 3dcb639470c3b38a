"""Asks an MDP's laws, which may be a user's: what one raises or gives is checked in one place.

A law of a user's own is handed copies, so that it may write into what it is given.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rllib_mec.envs.masks import CHOICES, MASKS, mask_shapes
from rllib_mec.envs.observation import ObservationLayout, State
from rllib_mec.errors import MecError, place, users_code
from rllib_mec.network.checks import LEAST_METRES, MOST_METRES, MOST_TASKS

if TYPE_CHECKING:
    from rllib_mec.envs.mdp import MDP

_OURS = str(Path(__file__).parents[1])
_MOST = float(np.finfo(np.float32).max)


class Numbers(NamedTuple):
    """What the numbers that a law gives must be.

    Attributes:
        dtype: What the kernels, or the networks, take them as.
        least: The smallest.
        most: The largest.
    """

    dtype: type[np.number]
    least: float
    most: float


_WHOLE = Numbers(np.int64, 0, MOST_TASKS)
_METRES = Numbers(np.float64, 0.0, _MOST)

NUMBERS = {
    "observe": Numbers(np.float32, 0.0, _MOST),
    "draw_tasks": Numbers(np.int64, 1, MOST_TASKS),
    "draw_distances": Numbers(np.float64, LEAST_METRES, MOST_METRES),
    "draw_gains": Numbers(np.float64, 0.0, _MOST),
    "task_rewards": Numbers(np.float64, -_MOST, _MOST),
}
"""Law -> its numbers."""


def numbers(mdp: MDP, law: str, shape: tuple[int, ...], *given: Any) -> np.ndarray:
    """What a law gives, as the kernels take it.

    Args:
        mdp: The MDP.
        law: One of :data:`NUMBERS`.
        shape: What it must have.
        *given: The law's arguments.

    Raises:
        MecError: The law fails, or gives an array of another shape or kind, or a value out of its
            range.
    """
    wanted = NUMBERS[law]
    if law == "draw_tasks" and mdp.tasks_arrive:  # an episode may begin without a task
        wanted = wanted._replace(least=0)
    return _checked(mdp, law, _ask(mdp, law, *given), shape, wanted)


def times(mdp: MDP, law: str, shape: tuple[int, ...], draw: Any) -> np.ndarray:
    """When things happen, ``(*shape, K)``, ms; inf where nothing more does.

    Args:
        mdp: The MDP.
        law: ``draw_arrivals`` or one of :data:`PRESENCE`.
        shape: What it must have before its last axis.
        draw: Random numbers of the episodes' first step.

    Raises:
        MecError: The law fails, or gives something else, or times below 0 or that fall.
    """
    given = _ask(mdp, law, draw)
    length = 2 if law == "draw_visits" else None
    lengths = ", ".join(map(str, (*shape, length or "K")))
    expected = f"an array ({lengths}) of times from 0 on that do not fall, inf last"
    if not isinstance(given, np.ndarray) or given.dtype.kind not in "iuf":
        raise _refused(mdp, law, expected, _kind_of(given))
    if given.shape[:-1] != shape or given.shape[-1] != (length or given.shape[-1]):
        raise _refused(mdp, law, expected, f"one of shape {given.shape}")
    if not (given >= 0).all() or (given[..., 1:] < given[..., :-1]).any():
        raise _refused(mdp, law, expected, "others")
    return given.astype(np.float64)


PRESENCE = {
    "draw_server_outages": "num_servers",
    "draw_device_outages": "num_devices",
    "draw_visits": "num_devices",
}
"""Law of who is there when -> the scenario's number of what it speaks of."""


def presence(mdp: MDP, draw: Any) -> tuple[np.ndarray, ...]:
    """When servers and MDs are out, and MDs join and leave, each as :func:`times`.

    Args:
        mdp: The MDP.
        draw: Random numbers of the episodes' first step.

    Raises:
        MecError: As :func:`times`.
    """
    worlds = len(draw.keys)
    return tuple(
        times(mdp, law, (worlds, getattr(mdp.scenario, number)), draw)
        for law, number in PRESENCE.items()
    )


def observed(mdp: MDP, state: State) -> np.ndarray:
    """The observation of a state.

    Args:
        mdp: The MDP.
        state: Of B worlds.

    Returns:
        ``(B, size_of(mdp))`` float32.

    Raises:
        MecError: As :func:`numbers`.
    """
    return numbers(mdp, "observe", (len(state.queues), size_of(mdp)), state)


def decoded(mdp: MDP, observation: np.ndarray) -> State:
    """Queues and distances out of observations.

    Args:
        mdp: The MDP.
        observation: ``(B, size_of(mdp))``.

    Raises:
        MecError: The layout has no such parts, or the law fails or gives something else.
    """
    state = _ask(mdp, "decode", observation)
    if not isinstance(state, State):
        raise _refused(mdp, "decode", "a State", _kind_of(state))
    shape = (len(observation), mdp.scenario.num_devices)
    return state._replace(
        queues=_checked(mdp, "decode", state.queues, shape, _WHOLE),
        distances_m=_checked(mdp, "decode", state.distances_m, shape, _METRES),
    )


def action_mask(mdp: MDP, state: State) -> dict[str, np.ndarray]:
    """Which choices make sense.

    Args:
        mdp: The MDP.
        state: Of B worlds.

    Returns:
        Of each of :data:`~rllib_mec.envs.masks.CHOICES` a mask, ``(B, N, choices)`` bool.

    Raises:
        MecError: The law fails, or gives something else, or leaves an MD no choice.
    """
    law = "action_mask"
    given = _ask(mdp, law, state)
    if _where(mdp, law)[0] is None:  # one of ours
        return given
    shapes = mask_shapes(len(state.queues), mdp.scenario)
    if not isinstance(given, Mapping) or set(given) != set(shapes):
        came = f"one of {list(given)}" if isinstance(given, Mapping) else _kind_of(given)
        raise _refused(mdp, law, f"a dict of {', '.join(shapes)}", came)
    masks = {}
    for name, shape in shapes.items():
        values = given[name]
        expected = f"of {name!r} an array {shape} of bool with some choice for each MD"
        if not isinstance(values, np.ndarray) or values.dtype != np.bool_:
            came = f"one of {values.dtype}" if isinstance(values, np.ndarray) else _kind_of(values)
            raise _refused(mdp, law, expected, came)
        if values.shape != shape:
            raise _refused(mdp, law, expected, f"one of shape {values.shape}")
        if not values.any(-1).all():
            at = tuple(int(i[0]) for i in np.nonzero(~values.any(-1)))
            raise _refused(mdp, law, expected, f"none at {list(at)}")
        masks[name] = values
    return masks


def mask_columns(mdp: MDP, state: State) -> dict[str, np.ndarray]:
    """Masks of the decisions of which our own algorithms mask choices.

    Args:
        mdp: The MDP.
        state: Of B worlds.

    Returns:
        Masks by the names of :data:`~rllib_mec.envs.masks.MASKS`; nothing if none is masked.

    Raises:
        MecError: The laws ``masked_heads`` and ``action_mask`` fail, or give something else.
    """
    law = "masked_heads"
    heads = _ask(mdp, law)
    if not isinstance(heads, tuple | list) or any(name not in CHOICES for name in heads):
        raise _refused(mdp, law, f"a tuple of names of {', '.join(CHOICES)}", f"{heads!r}")
    masks = action_mask(mdp, state) if heads else {}
    return {MASKS[head]: masks[head] for head in heads}


def seen_mask_columns(mdp: MDP, observation: np.ndarray) -> dict[str, np.ndarray]:
    """The same, as far as observations tell.

    Args:
        mdp: The MDP.
        observation: ``(B, size_of(mdp))``; without queues and distances in it, none are known of.

    Raises:
        MecError: As :func:`mask_columns`.
    """
    if {"queues", "distances"} <= layout_of(mdp).sizes.keys():
        return mask_columns(mdp, decoded(mdp, observation))
    shape = (len(observation), mdp.scenario.num_devices)
    return mask_columns(mdp, State(np.zeros(shape, dtype=np.int64), np.zeros(shape)))


def layout_of(mdp: MDP) -> ObservationLayout:
    """The layout of an MDP's observations.

    Args:
        mdp: The MDP.

    Raises:
        MecError: The law fails, or gives something else; or its ``queues`` or ``distances`` are
            not one per MD.
    """
    layout = _ask(mdp, "observation_layout")
    if not isinstance(layout, ObservationLayout):
        hint = "; decorate it with @property" if callable(layout) else ""
        raise _refused(mdp, "observation_layout", f"an ObservationLayout{hint}", _kind_of(layout))
    num_devices = mdp.scenario.num_devices
    for part in ("queues", "distances"):
        size = layout.sizes.get(part, num_devices)
        if size != num_devices:
            wanted = f"{num_devices} {part!r}, one per MD, or a part of another name"
            raise _refused(mdp, "observation_layout", wanted, str(size))
    return layout


def size_of(mdp: MDP) -> int:
    """Numbers in an observation of the global state.

    Args:
        mdp: The MDP.

    Raises:
        MecError: As :func:`layout_of`, or ``observation_size`` is another one.
    """
    size, given = layout_of(mdp).size, _ask(mdp, "observation_size")
    if given != size:
        wanted = f"{size}, the size of observation_layout"
        raise _refused(mdp, "observation_size", wanted, f"{given!r}")
    return size


def _ask(mdp: MDP, law: str, *given: Any) -> Any:
    """What a law gives: a method's result, or an attribute's value."""
    file, _ = _where(mdp, law)
    if file is None:  # one of ours, which needs no watching
        attribute = getattr(mdp, law)
        return attribute(*given) if given else attribute
    with users_code(f"{type(mdp).__name__}.{law} failed", file):
        attribute = getattr(mdp, law)
        return attribute(*map(_copied, given)) if given else attribute


def _copied(given: Any) -> Any:
    """The same without memory in common."""
    if isinstance(given, np.ndarray):
        return given.copy()
    if isinstance(given, tuple):
        return type(given)(*map(_copied, given))
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        own = {f.name: _copied(getattr(given, f.name)) for f in dataclasses.fields(given)}
        return type(given)(**own)
    return given


def _where(mdp: MDP, law: str) -> tuple[str | None, int]:
    """File and line where a law stands; no file if it is one of ours."""
    found: Any = getattr(type(mdp), law, None)
    function = inspect.unwrap(getattr(found, "fget", None) or getattr(found, "func", found))
    code = getattr(function, "__code__", None)
    if code is None:  # a class attribute
        return getattr(sys.modules.get(type(mdp).__module__), "__file__", None) or "?", 0
    return (None if code.co_filename.startswith(_OURS) else code.co_filename), code.co_firstlineno


def _refused(mdp: MDP, law: str, expected: str, came: str) -> MecError:
    file, line = _where(mdp, law)
    name = f"{type(mdp).__name__}.{law}"
    if file is None:
        return MecError(
            f"{name} gave {came}, expected {expected}: "
            "a value of the scenario is beyond what the arithmetic can bear"
        )
    where = place(file, line) if line else ""
    return MecError(f"{name} must give {expected}, but gave {came}{where}")


def _checked(
    mdp: MDP, law: str, values: Any, shape: tuple[int, ...], wanted: Numbers
) -> np.ndarray:
    """The numbers as the kernels take them, without memory in common with the law."""
    is_whole = wanted.dtype is np.int64

    def refused(came: str) -> MecError:
        kind = "whole numbers" if is_whole else "numbers"
        expected = f"an array {shape} of {kind} from {wanted.least:g} to {wanted.most:g}"
        return _refused(mdp, law, expected, came)

    array = values
    if isinstance(values, list | tuple):
        try:
            array = np.array(values)
        except ValueError:
            raise refused("rows of unequal length") from None
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise refused(_kind_of(values))
    if array.dtype.kind not in ("iu" if is_whole else "iuf"):
        raise refused(f"one of {array.dtype}")
    if array.shape != shape:
        if law == "observe" and _where(mdp, law)[0] is None:  # by a layout that is the user's
            wanted_size = f"the size of observe's, {array.shape[1]}"
            raise _refused(mdp, "observation_layout", wanted_size, str(shape[1]))
        raise refused(f"one of shape {array.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        taken = np.array(array, wanted.dtype, order="C")
    is_good = (taken >= wanted.least) & (taken <= wanted.most)
    if not is_good.all():
        at = tuple(int(i[0]) for i in np.nonzero(~is_good))
        raise refused(f"{array[at]} at {list(at)}")
    return taken


def _kind_of(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
