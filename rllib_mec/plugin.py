"""Doors for a user's own parts, and the way of all names into others' tables and to Ray's workers.

Neither Ray nor Gymnasium is imported here. Names enter their tables when they are imported, now or
later, so that ``import rllib_mec`` stays fast and ``PPOConfig().environment("mec_task_window_v0")``
works in any import order.

What a script registers has to be known in Ray's workers too. Of Ray's tables, that of environment
creators is the one that it ships to them, so a creator of ours takes along all that was registered:
by path where the worker can import it, by value where it stands in ``__main__`` or in a function.
"""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import wrapt

from rllib_mec.errors import MecError, one_line
from rllib_mec.registry import ALGORITHMS, ENVIRONMENTS, POLICIES
from rllib_mec.tables import DNNS, Entry, Table, late_sources, path_of

Part = TypeVar("Part")

_LOGGER = logging.getLogger(__name__)

_TABLES: dict[str, Table] = {t.kind: t for t in (ENVIRONMENTS, ALGORITHMS, POLICIES, DNNS)}
_OF_THE_PACKAGE = {kind: frozenset(table.known()) for kind, table in _TABLES.items()}


def register_env(env: Part) -> Part:
    """Give an environment of your own its name everywhere; as a decorator too.

    From then on it works in ``rllib train`` and ``rllib evaluate``, with RLlib's algorithms and
    EMH-PPO, also in Ray's workers. The same again does nothing. A class of a script itself is
    copied to the workers as it is now: register it after what it uses is defined.

    Args:
        env: A subclass of :class:`~rllib_mec.envs.mdp.MDP`, of which the PettingZoo environment is
            made, or of :class:`~rllib_mec.envs.parallel.MecParallelEnv`. Its name is the MDP's
            ``env_id``.

    Returns:
        ``env``.

    Raises:
        MecError: It is no such class, lacks a law or an ``env_id``, or the name is another's.
    """
    own = env_class(getattr(env, "__name__", repr(env)), env)
    _add(ENVIRONMENTS, own.mdp_class.env_id, env)
    return env


def register_algorithm(name: str, algorithm: Part) -> Part:
    """Give an algorithm of your own a name that ``run:`` and ``--algo`` take.

    Args:
        name: Its name.
        algorithm: A subclass of RLlib's ``Algorithm``, or its path ``pkg.module:Class``.

    Returns:
        ``algorithm``.

    Raises:
        MecError: It is no such class, or the name is another's.
    """
    if not isinstance(algorithm, str):
        algorithm_class(name, algorithm)
    _add(ALGORITHMS, name, algorithm)
    return algorithm


def register_policy(name: str, policy: Part) -> Part:
    """Give a policy that needs no training a name that ``compare`` and ``render`` take.

    Args:
        name: Its name.
        policy: A subclass of :class:`~rllib_mec.policies.policy.Policy` whose constructor takes
            the MDP, a function that makes one of it, or the path ``pkg.module:Name`` of either.

    Returns:
        ``policy``.

    Raises:
        MecError: It is no such class, or the name is another's.
    """
    if not isinstance(policy, str):
        policy_class(name, policy)
    _add(POLICIES, name, policy)
    return policy


def register_dnn(name: str, factory: Part, *, input: Sequence[int] | Mapping[str, Any]) -> Part:
    """Give a DNN of your own a name that a scenario's ``dnn`` takes.

    Args:
        name: Its name, none of torchvision's.
        factory: Makes the ``torch.nn.Module``, without arguments; or its path
            ``pkg.module:function``.
        input: Shape of one input without the batch dimension, e.g. ``(3, 64, 64)``, or all
            arguments with it, e.g. ``{"input_ids": "int64[1,16]"}``.

    Returns:
        ``factory``.

    Raises:
        MecError: It cannot be called, the shape is none, or the name is another's.
    """
    from rllib_mec.dnn.models import check_factory, check_own_name, input_shape

    check_own_name(name)
    if not isinstance(factory, str):
        check_factory(name, factory)
    _add(DNNS, name, factory, input=input_shape("input", input))
    return factory


def env_class(name: str, part: Any) -> Any:
    """The :class:`~rllib_mec.envs.parallel.MecParallelEnv` class that a part stands for.

    Args:
        name: What it was asked for by, for messages.
        part: As for :func:`register_env`.

    Raises:
        MecError: As :func:`register_env`.
    """
    from rllib_mec.envs.from_mdp import env_class as check

    return check(name, part)


def algorithm_class(name: str, part: Any) -> Any:
    """The part, if it is an RLlib algorithm.

    Args:
        name: What it was asked for by, for messages.
        part: What was found.

    Raises:
        MecError: It is none.
    """
    # Looked for by name, so that registering does not import Ray.
    bases = [path_of(base) for base in getattr(part, "__mro__", ())]
    if "ray.rllib.algorithms.algorithm:Algorithm" not in bases:
        raise MecError(f"algorithm {name!r} must be a subclass of ray.rllib's Algorithm: {part!r}")
    return part


def policy_class(name: str, part: Any) -> Any:
    """The part, if it is a policy's class, or a function that makes policies.

    Args:
        name: What it was asked for by, for messages.
        part: What was found.

    Raises:
        MecError: It is none, or lacks ``decide``.
    """
    from rllib_mec.policies.policy import Policy

    if callable(part) and not isinstance(part, type):
        return part
    if not (isinstance(part, type) and issubclass(part, Policy)):
        raise MecError(f"policy {name!r} must be a subclass of rllib_mec's Policy, but is {part!r}")
    if missing := sorted(getattr(part, "__abstractmethods__", ())):
        raise MecError(f"policy {name!r} lacks {', '.join(missing)}")
    if not isinstance(getattr(part, "name", None), str):
        raise MecError(f"policy {name!r} lacks the class attribute `name`, what tables call it")
    return part


class EnvCreator:
    """What RLlib makes a registered environment by; pickled, it takes all registrations along.

    Args:
        name: A name of :data:`~rllib_mec.registry.ENVIRONMENTS`, or a class path.
    """

    def __init__(self, name: str):
        """Keep the name."""
        self.name = name

    def __call__(self, env_config: dict[str, Any]) -> Any:
        """Make the environment as an RLlib ``MultiAgentEnv``."""
        return make_rllib_env(self.name, env_config)

    def __reduce__(self) -> tuple[Callable[..., EnvCreator], tuple[str, list[_Shipped]]]:
        """The name, and what was registered."""
        return _arrived, (self.name, _registered())


def make_rllib_env(name: str, env_config: dict[str, Any]) -> Any:
    """Make a registered environment as an RLlib ``MultiAgentEnv``.

    Args:
        name: A name of :data:`~rllib_mec.registry.ENVIRONMENTS`, or a class path.
        env_config: The environment's keyword arguments.
    """
    from rllib_mec.algorithms.multi_agent_env import PettingZooMultiAgentEnv

    return PettingZooMultiAgentEnv(ENVIRONMENTS.load(name)(**env_config))


def register() -> None:
    """Enter all names into the tables of Ray and Gymnasium, now or when these are imported."""
    wrapt.register_post_import_hook(_enter_gymnasium, "gymnasium.envs.registration")
    late_sources.append(_fetch_from_ray)
    wrapt.register_post_import_hook(_enter_envs, "ray.tune.registry")
    wrapt.register_post_import_hook(_enter_algorithms, "ray.rllib.algorithms.registry")


def enter_env(name: str) -> None:
    """Enter a class path into Ray's table, for it to be an env's name there too.

    Args:
        name: A name of :data:`~rllib_mec.registry.ENVIRONMENTS`, or a class path.
    """
    import ray.tune.registry

    ray.tune.registry.register_env(name, EnvCreator(name))


class _Shipped(NamedTuple):
    """An entry on its way to another process.

    Attributes:
        kind: The table's.
        name: Its name.
        target: Its path, or the part as a pickle, so that one that cannot be read spoils no other.
        facts: See :class:`~rllib_mec.tables.Entry`.
    """

    kind: str
    name: str
    target: str | bytes
    facts: dict[str, Any]


def _add(table: Table, name: str, target: Any, **facts: Any) -> None:
    if table.add(name, target, **facts) and "ray.tune.registry" in sys.modules:
        _fetch_from_ray()  # in a worker: what the driver registered must not get lost
        _enter_envs(sys.modules["ray.tune.registry"], anew=True)
    if table is ALGORITHMS and "ray.rllib.algorithms.registry" in sys.modules:
        _enter_algorithms(sys.modules["ray.rllib.algorithms.registry"])


def _enter_envs(ray_tune_registry: Any, anew: bool = False) -> None:
    """Enter all environments; in a worker only what the driver has not entered already."""
    table = ray_tune_registry._global_registry
    for name in ENVIRONMENTS.known():
        if anew or not table.contains(ray_tune_registry.ENV_CREATOR, name):
            ray_tune_registry.register_env(name, EnvCreator(name))


def _enter_gymnasium(registration: Any) -> None:
    """Enter this package's environments, with one agent for all: ``rllib_mec/TaskWindow-v0``."""
    for name in _OF_THE_PACKAGE[ENVIRONMENTS.kind]:
        *words, version = name.removeprefix("mec_").split("_")
        title = "".join(word.capitalize() for word in words)
        registration.register(
            f"rllib_mec/{title}-{version}",
            entry_point="rllib_mec.envs.central:CentralEnv",
            kwargs={"env": name},
        )


def _enter_algorithms(rllib_registry: Any) -> None:
    for name in ALGORITHMS.known():
        # RLlib's own table: a name and a function that imports the algorithm on its first use.
        rllib_registry.ALGORITHMS[name] = _AlgorithmLoader(name)


class _AlgorithmLoader(NamedTuple):
    """What RLlib's table of algorithms has for a name."""

    name: str

    def __call__(self) -> tuple[type, Any]:
        """The algorithm's class and its default config."""
        algorithm = ALGORITHMS.load(self.name)
        return algorithm, algorithm.get_default_config()


def _registered() -> list[_Shipped]:
    """All that was registered besides the package's own names."""
    return [
        _Shipped(kind, name, _portable(entry), dict(entry.facts))
        for kind, table in _TABLES.items()
        for name, entry in table.known().items()
        if name not in _OF_THE_PACKAGE[kind]
    ]


def _portable(entry: Entry) -> str | bytes:
    if "<" not in entry.path and not entry.path.startswith("__main__:"):
        return entry.path
    from ray import cloudpickle

    return cloudpickle.dumps(entry.target)  # pyright: ignore[reportPrivateImportUsage]


def _arrived(name: str, registered: list[_Shipped]) -> EnvCreator:
    """A creator as it is unpickled: what it took along is registered here too."""
    for kind, own_name, target, facts in registered:
        table = _TABLES[kind]
        if own_name in table.known():
            continue
        try:
            part = pickle.loads(target) if isinstance(target, bytes) else target
        except Exception as error:  # a module that the driver has and this process has not
            _LOGGER.warning("%s %r cannot be read here: %s", kind, own_name, one_line(error))
            continue
        table.add(own_name, part, **facts)
    return EnvCreator(name)


def _fetch_from_ray() -> None:
    """Register what the driver has: any of our creators in Ray's table has it all."""
    ray_tune_registry = sys.modules.get("ray.tune.registry")
    if ray_tune_registry is None:
        return
    table, kind = ray_tune_registry._global_registry, ray_tune_registry.ENV_CREATOR
    any_name = next(iter(_OF_THE_PACKAGE[ENVIRONMENTS.kind]))
    if table.contains(kind, any_name):
        table.get(kind, any_name)
