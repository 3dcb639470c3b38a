"""Which trials are begun, and which go on: Tune's search algorithms and schedulers, by name.

Both are made once while the experiment is checked, so that whatever Ray has to say of their
arguments, of a missing library or of a search space comes before training, on one line.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rllib_mec.errors import MecError, one_line, unknown
from rllib_mec.experiments import config_schema, names, search_space
from rllib_mec.experiments.specification import Specification
from rllib_mec.experiments.stop_criteria import RETURN, check_result_key
from rllib_mec.experiments.translate import SCHEDULERS, translate_config

_MUTATIONS = {"pbt": "hyperparam_mutations", "pb2": "hyperparam_bounds"}
"""Scheduler -> its argument with what it changes in the trials that it lets begin anew."""

_UNSEARCHED = ("variant_generator", "random")
"""Tune's own grid and random search, which needs no library and takes every search space."""


@dataclasses.dataclass(frozen=True)
class Tuning:
    """Scheduler and search algorithm of an experiment.

    Attributes:
        metric: Result key by which they tell good trials.
        mode: ``"max"`` or ``"min"`` of it.
        scheduler: Name of Tune's scheduler.
        scheduler_arguments: Its arguments; those that change settings have our search spaces.
        search_alg: Name of Tune's search algorithm; None: its own grid and random search.
        search_arguments: Its arguments.
        searched: What it searches over, as a part of a config; empty without one.
        asked: Whether anything here looks at the metric.
    """

    metric: str
    mode: str
    scheduler: str = "fifo"
    scheduler_arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    search_alg: str | None = None
    search_arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    searched: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def asked(self) -> bool:
        """Whether scheduler or search algorithm look at the metric."""
        return self.search_alg is not None or "metric" in self.scheduler_arguments

    @property
    def mutated(self) -> dict[str, Any]:
        """What the scheduler changes in trials, as in a file: a setting -> a search space."""
        return self.scheduler_arguments.get(_MUTATIONS.get(self.scheduler, ""), {})

    def make_scheduler(self) -> Any:
        """A new scheduler.

        Raises:
            MecError: Ray's reason why there is none.
        """
        from ray.tune.schedulers import SCHEDULER_IMPORT

        arguments = dict(self.scheduler_arguments)
        if self.scheduler == "pbt" and self.mutated:
            arguments.setdefault("custom_explore_fn", _Within(self.mutated))
        return _make("scheduler", self.scheduler, SCHEDULER_IMPORT, arguments)

    def make_search_alg(self) -> Any:
        """A new search algorithm that knows what to search over; None for Tune's own.

        Raises:
            MecError: Ray's reason why there is none.
        """
        from ray.tune.search import SEARCH_ALG_IMPORT

        if self.search_alg is None:
            return None
        searcher = _make("search_alg", self.search_alg, SEARCH_ALG_IMPORT, self.search_arguments)
        try:
            searcher.set_search_properties(self.metric, self.mode, self.searched)
        except Exception as error:
            raise MecError(f"search_alg {self.search_alg}: {one_line(error)}") from None
        return searcher


def check_tuning(given: Specification, notify: Callable[[str], None]) -> Tuning:
    """The scheduler and the search algorithm that an experiment asks for.

    Args:
        given: The experiment's keys.
        notify: Called with one line for each old name.

    Raises:
        MecError: An unknown name or argument, a missing library, or two that do not go together.
    """
    from ray.tune.schedulers import SCHEDULER_IMPORT
    from ray.tune.search import SEARCH_ALG_IMPORT

    scheduler = _translated(given.scheduler or "fifo", notify)
    if scheduler not in SCHEDULER_IMPORT:
        raise unknown("scheduler", given.scheduler, SCHEDULER_IMPORT)
    search_alg = given.search_alg and given.search_alg.lower()
    if search_alg is not None and search_alg not in SEARCH_ALG_IMPORT:
        raise unknown("search_alg", given.search_alg, SEARCH_ALG_IMPORT)
    if search_alg is None and given.search_alg_config:
        raise MecError("search_alg_config needs search_alg, e.g. search_alg: optuna")
    if search_alg in _UNSEARCHED:
        search_alg = None
    if search_alg is not None and scheduler in {*_MUTATIONS, "pbt_replay"}:
        raise MecError(
            f"scheduler {scheduler} changes settings by itself: leave out search_alg {search_alg}"
        )
    if (scheduler == "hb_bohb") != (search_alg == "bohb"):
        raise MecError("scheduler hb_bohb and search_alg bohb need each other: give both")
    arguments = _arguments(given.scheduler_config, "scheduler_config", scheduler, notify)
    own = _arguments(given.search_alg_config, "search_alg_config", scheduler, notify)
    metric = check_result_key(
        "metric", given.metric or arguments.get("metric") or own.get("metric") or RETURN, notify
    )
    mode = given.mode or arguments.get("mode") or own.get("mode") or "max"
    accepted = _parameters("scheduler", scheduler, SCHEDULER_IMPORT)
    usual = {"metric": metric, "mode": mode}
    if "require_attrs" in accepted:  # episodes may be longer than an iteration
        usual["require_attrs"] = False
    arguments = {**{key: usual[key] for key in usual if key in accepted}, **arguments}
    own = {key: value for key, value in own.items() if key not in ("metric", "mode")}
    tuning = Tuning(metric, mode, scheduler, arguments, search_alg, own)
    tuning.make_scheduler()
    return tuning


def check_search(tuning: Tuning, searched: dict[str, Any]) -> Tuning:
    """The same with what is searched over.

    Args:
        tuning: From :func:`check_tuning`.
        searched: The part of a config that holds search spaces.

    Raises:
        MecError: Nothing is searched over, or a space that the search algorithm cannot take.
    """
    if tuning.search_alg is None:
        return tuning
    if not searched:
        raise MecError(
            f"search_alg {tuning.search_alg}: the config holds no search space, such as "
            "lr: {loguniform: [1e-5, 1e-3]}"
        )
    tuning = dataclasses.replace(tuning, searched=searched)
    tuning.make_search_alg()
    return tuning


def initial_values(tuning: Tuning, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A config in which trials differ from the start in what the scheduler will change.

    Args:
        tuning: From :func:`check_tuning`.
        settings: The config; what it sets stays.
    """
    return _filled(settings, tuning.mutated, bounds=tuning.scheduler == "pb2")


def under_property_names(tuning: Tuning, config: Any) -> Tuning:
    """The same, with settings named as ``config.to_dict()`` has them.

    Args:
        tuning: From :func:`check_tuning`.
        config: An ``AlgorithmConfig``.

    Raises:
        MecError: The scheduler is to change what Tune cannot reach.
    """
    if not tuning.mutated:
        return tuning
    held = config.to_dict()
    named = {config_schema.property_name(k, held): v for k, v in tuning.mutated.items()}
    arguments = {**tuning.scheduler_arguments, _MUTATIONS[tuning.scheduler]: named}
    return dataclasses.replace(tuning, scheduler_arguments=arguments)


class _Within:
    """PBT's change of a setting, kept within the bounds of its search space."""

    def __init__(self, mutated: Mapping[str, Any]):
        self._mutated = mutated

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        return _clipped(config, self._mutated)


def _clipped(config: Mapping[str, Any], mutated: Mapping[str, Any]) -> dict[str, Any]:
    from ray.tune.search.sample import Float, Integer

    clipped = dict(config)
    for key, space in mutated.items():
        if isinstance(space, Mapping):
            clipped[key] = _clipped(config[key], space)
        elif isinstance(space, Float | Integer):
            high = space.upper - 1 if isinstance(space, Integer) else space.upper
            clipped[key] = min(max(config[key], space.lower), high)
    return clipped


def _filled(settings: Mapping[str, Any], mutated: Mapping[str, Any], bounds: bool) -> dict:
    from ray import tune
    from ray.tune.search.sample import Domain

    filled = dict(settings)
    for key, space in mutated.items():
        if isinstance(space, Mapping):
            nested = filled.get(key) or {}
            filled[key] = _filled(nested, space, bounds) if isinstance(nested, Mapping) else nested
        elif key not in filled:
            if bounds and isinstance(space, list | tuple):
                space = tune.uniform(*space)
            filled[key] = space if isinstance(space, Domain) else tune.choice(list(space))
    return filled


def _translated(name: str, notify: Callable[[str], None]) -> str:
    lower = name.lower()
    if lower in SCHEDULERS:
        notify(f"scheduler {name!r} is Tune's {SCHEDULERS[lower]!r}")
    return SCHEDULERS.get(lower, lower)


def _arguments(
    given: dict[str, Any] | None, where: str, scheduler: str, notify: Callable[[str], None]
) -> dict[str, Any]:
    """Arguments as given, with search spaces, result keys and functions in place of their names."""
    bounds = _MUTATIONS["pb2"]
    arguments = {
        key: value if key == bounds else search_space.resolve(value, f"{where}.{key}")
        for key, value in (given or {}).items()
    }
    for key in ("metric", "time_attr"):
        if isinstance(arguments.get(key), str):
            arguments[key] = check_result_key(f"{where}.{key}", arguments[key], notify)
    if names.is_class_path(path := arguments.get("custom_explore_fn", "")):
        arguments["custom_explore_fn"] = names.load_object("custom_explore_fn", path)
    mutated = arguments.get(_MUTATIONS.get(scheduler, ""), {})
    if not isinstance(mutated, Mapping):
        raise MecError(f"{where}.{_MUTATIONS[scheduler]} must be a mapping, but is {mutated!r}")
    if mutated:
        arguments[_MUTATIONS[scheduler]] = translate_config(dict(mutated), notify)
    return arguments


def _class(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The class of a name in one of Tune's tables, which has functions for those with libraries."""
    found = table[name]
    try:
        return found() if inspect.isfunction(found) else found
    except Exception as error:
        raise MecError(f"{kind} {name}: {one_line(error)}") from None


def _parameters(kind: str, name: str, table: Mapping[str, Any]) -> Mapping[str, Any]:
    return inspect.signature(_class(kind, name, table)).parameters


def _make(kind: str, name: str, table: Mapping[str, Any], arguments: dict[str, Any]) -> Any:
    accepted = _parameters(kind, name, table)
    for key in arguments:
        if key not in accepted:
            raise unknown(f"key for {kind} {name}", key, accepted, show=20)
    try:
        return _class(kind, name, table)(**arguments)
    except Exception as error:
        raise MecError(f"{kind} {name}: {one_line(error)}") from None
