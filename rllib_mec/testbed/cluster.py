"""A Ray cluster of others, as a place to serve on: looked at before, and left as it was."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

from rllib_mec.clusters import connect
from rllib_mec.errors import MecError, one_line
from rllib_mec.testbed.options import ServerOptions

_LOOK_S = 120.0  # a worker that has not run anything imports torch first


def check_address(address: str) -> None:
    """Check that an address can be one to serve on.

    Args:
        address: As given.

    Raises:
        MecError: It is none, or one of Ray Client, which cannot run Serve's calls.
    """
    if address == "local" or "://" in address or not address:
        raise MecError(
            f"expected HOST:PORT of a Ray cluster, or auto, got {address!r}"
            " (without --ray-address, the server runs a Ray of its own)"
        )


@contextlib.contextmanager
def cluster(
    address: str, options: ServerOptions, note: Callable[[str], None], **log: Any
) -> Iterator[None]:
    """Be connected to a cluster while a block deploys and serves; afterwards it is as it was.

    Args:
        address: The cluster's.
        options: What will be served.
        note: Told, in one line, why it takes long.
        log: Options of ``ray.init``.

    Raises:
        MecError: No connection, the cluster lacks this package or has another version of it, or
            runs Serve for others already.
    """
    import ray
    from ray import serve

    connect(address, **log)
    try:
        _check_packages(address)
        serves = serve.status()
        if serves.proxies or serves.applications:
            what = ", ".join(serves.applications) or "no application"
            raise MecError(
                f"the cluster {address} runs Serve already ({what}): have its config file deploy"
                " rllib_mec.testbed.server:tail_application, or end it with `serve shutdown`"
            )
        cpus = ray.cluster_resources().get("CPU", 0.0)
        if cpus < options.replicas * options.threads:
            wanted = options.replicas * options.threads
            note(f"{wanted} CPUs are asked for, the cluster has {cpus:g}: waiting for more")
        try:
            yield
        finally:
            # The cluster may be gone; if not, Ray prints that Serve's processes ended.
            with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
                serve.shutdown()
    finally:
        ray.shutdown()


def _check_packages(address: str) -> None:
    import ray

    task = ray.remote(num_cpus=0, max_retries=0)(_versions)
    try:
        there = ray.get(task.remote(), timeout=_LOOK_S)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if "Error: " in line]
        reason = one_line(lines[-1] if lines else error)
        raise MecError(
            f"the cluster {address} cannot run a server: {reason}"
            " (pip install 'rllib_mec[testbed]' on its machines)"
        ) from None
    here = _versions()
    for name, version in here.items():
        if there[name] != version:
            raise MecError(
                f"the cluster {address} has {name} {there[name]}, this machine {version}:"
                " expected the same"
            )


def _versions() -> dict[str, str]:
    """Of what server and cluster must have alike; imports all that a replica does."""
    import dataclasses

    import ray
    import torch

    from rllib_mec.testbed import scheduler_server, server
    from rllib_mec.testbed.options import ServerOptions

    fields = ", ".join(field.name for field in dataclasses.fields(ServerOptions))
    assert server and scheduler_server
    return {"ray": ray.__version__, "torch": torch.__version__, "rllib_mec with options": fields}
