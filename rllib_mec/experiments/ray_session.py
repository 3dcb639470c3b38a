"""Starting Ray with what an experiment needs, and leaving it as it was found."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import ray

from rllib_mec.clusters import connect
from rllib_mec.errors import MecError, one_line
from rllib_mec.experiments.messages import note


@dataclasses.dataclass(frozen=True)
class RayOptions:
    """The ``--ray-...`` flags.

    Attributes:
        address: Cluster to connect to, or None for a Ray of our own.
        num_cpus: Cores of our own Ray (of each node, if ``num_nodes``).
        num_gpus: GPUs likewise.
        num_nodes: Emulate a cluster of this many nodes on this machine.
        object_store_memory: Bytes of the object store.
        dashboard: Whether to start Ray's web page.
        runtime_env: Ray's runtime environment of the workers.
    """

    address: str | None = None
    num_cpus: int | None = None
    num_gpus: int | None = None
    num_nodes: int | None = None
    object_store_memory: int | None = None
    dashboard: bool = False
    runtime_env: dict[str, Any] | None = None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def started(options: RayOptions, needs: dict[str, float], verbosity: int) -> Iterator[None]:
    """Run a block with Ray started, and stop Ray after it if it was started here.

    Args:
        options: How to start it.
        needs: Resources of one trial, e.g. ``{"CPU": 3}``.
        verbosity: From 1 on, what the workers print is shown.

    Raises:
        MecError: Ray cannot start, or one trial does not fit.
    """
    with _signal_handlers_kept(), _ray(options, needs, verbosity):
        yield


def spans_nodes(options: RayOptions) -> bool:
    """Whether Ray, once started, has nodes that are not of this process's making.

    Args:
        options: How it was started.
    """
    if options.address or os.environ.get("RAY_ADDRESS"):
        return True
    return not options.num_nodes and sum(node["Alive"] for node in ray.nodes()) > 1


@contextlib.contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Put back the handlers that Tune replaces and leaves, which would swallow the next Ctrl-C."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    if threading.current_thread() is not threading.main_thread():
        numbers = ()  # only the main thread may set handlers, and Tune then leaves them alone
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # installed from C, and not for Python to put back
                signal.signal(number, handler)


@contextlib.contextmanager
def _ray(options: RayOptions, needs: dict[str, float], verbosity: int) -> Iterator[None]:
    if ray.is_initialized():
        if options.runtime_env:
            note("runtime_env has no effect: Ray runs in this process already")
        _check_fit(needs, growing=True)
        yield
        return
    cluster = None
    logging: dict[str, Any] = {
        "log_to_driver": verbosity > 0,
        "logging_level": "INFO" if verbosity else "CRITICAL",
    }
    if options.runtime_env:
        logging["runtime_env"] = options.runtime_env
    address = options.address or os.environ.get("RAY_ADDRESS")
    try:
        if options.num_nodes:
            cluster = _emulated_cluster(options)
            ray.init(address=cluster.address, **logging)
        elif address:
            connect(address, **logging)
        else:
            ray.init(
                address="local",
                num_cpus=options.num_cpus or _enough_cores(needs),
                num_gpus=options.num_gpus,
                object_store_memory=options.object_store_memory,
                include_dashboard=options.dashboard,
                **logging,
            )
    except MecError:
        raise
    except Exception as error:
        missing = "missing packages" in str(error)  # all that Ray says of it in its exception
        hint = ": --ray-ui needs `pip install 'ray[default]'`" if missing else ""
        raise MecError(f"Ray cannot start: {one_line(error)}{hint}") from None
    try:
        _check_fit(needs, growing=bool(address))
        yield
    finally:
        ray.shutdown()
        if cluster is not None:
            cluster.shutdown()


def _emulated_cluster(options: RayOptions) -> Any:
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for _ in range(options.num_nodes or 0):
        cluster.add_node(
            num_cpus=options.num_cpus or 1,
            num_gpus=options.num_gpus or 0,
            object_store_memory=options.object_store_memory,
        )
    return cluster


def _enough_cores(needs: dict[str, float]) -> int:
    """This machine's cores, or what one trial asks for: sharing beats waiting forever."""
    cores, wanted = _cores(), int(-(-needs.get("CPU", 0) // 1))
    if wanted > cores:
        note(f"a trial asks for {wanted} CPUs, this machine has {cores}: its processes share them")
    return max(cores, wanted)


def _check_fit(needs: dict[str, float], growing: bool) -> None:
    """A trial that never fits would wait forever, silently.

    Args:
        needs: Resources of one trial.
        growing: The cluster may grow, so only remark on it.
    """
    has = ray.cluster_resources()
    for resource, amount in needs.items():
        if amount > has.get(resource, 0):
            message = f"a trial asks for {amount:g} {resource}, Ray has {has.get(resource, 0):g}"
            if not growing:
                raise MecError(
                    f"{message}: lower num_env_runners or num_learners, "
                    f"or give --ray-num-{resource.lower()}s {amount:g}"
                )
            note(f"{message}; waiting until there are more")
