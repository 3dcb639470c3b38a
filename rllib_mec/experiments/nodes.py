"""Whether every node of a cluster can train: asked before training starts, of all at once.

Ray would start what it can, and RLlib go on without the env runners that failed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import platform
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import rllib_mec
from rllib_mec.errors import MecError, one_line
from rllib_mec.experiments.messages import note

ANSWER_S = 120.0
"""How long a node may take to start a worker, and to get a job's folder."""

_SLOW_S = 15.0
_SHOWN = 3
_PARTS = ("rllib_mec", "torch", "gymnasium", "pettingzoo", "networkx", "scipy", "numba", "pydantic")


@dataclasses.dataclass(frozen=True)
class Needs:
    """What training takes of a node.

    Attributes:
        modules: Top-level modules to be imported, besides those of this package.
        probe: Folder or URL in the storage in which there is a file ``driver``.
        storage_path: The storage, for messages.
        restore: A checkpoint that trials start from, if any.
    """

    modules: Sequence[str] = ()
    probe: str | None = None
    storage_path: str = ""
    restore: str | None = None


def check(needs: Needs) -> None:
    """Ask every node of the cluster that Ray is connected to.

    Args:
        needs: What training takes.

    Raises:
        MecError: A node lacks something, or does not answer.
    """
    asked = {
        node["NodeID"]: f"{node['NodeManagerAddress']}"
        for node in ray.nodes()
        if node["Alive"] and {"CPU", "GPU"} & node["Resources"].keys()
    }
    modules = tuple(dict.fromkeys([*_PARTS, *needs.modules]))
    task = ray.remote(num_cpus=0, max_retries=0)(_look_around())
    running = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            modules, needs.probe, needs.restore, node
        ): node
        for node in asked
    }
    done, open_ = ray.wait(list(running), num_returns=len(running), timeout=_SLOW_S)
    if open_:
        note(f"waiting for {_list([asked[running[ref]] for ref in open_])} to answer")
        done, open_ = ray.wait(list(running), num_returns=len(running), timeout=ANSWER_S - _SLOW_S)
    faults = {running[ref]: f"does not answer within {ANSWER_S:g} s" for ref in open_}
    for ref in open_:
        ray.cancel(ref, force=True)
    here = {"ray": ray.__version__, "python": platform.python_version(), "package": _fingerprint()}
    for ref in done:
        try:
            fault = _fault(ray.get(ref), here, needs)
        except Exception as error:
            fault = f"cannot run a task: {one_line(error)[:160]}"
        if fault:
            faults[running[ref]] = fault
    if faults:
        said = [f"{asked[node]} {fault}" for node, fault in faults.items()]
        raise MecError(f"{len(said)} of {len(asked)} nodes cannot train: {_list(said)}")


def _list(names: Sequence[str]) -> str:
    more = f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "; ".join(names[:_SHOWN]) + more


def _fault(found: dict[str, Any], here: dict[str, str], needs: Needs) -> str | None:
    """What a node lacks."""
    if "rllib_mec" in found["missing"]:
        return (
            "has no rllib_mec: pip install it in the Python of its `ray start`"
            f" ({found['executable']}), or `ray job submit --working-dir` its folder"
        )
    if found["missing"]:
        return f"has no {', '.join(found['missing'])} (Python: {found['executable']})"
    for name in ("ray", "python"):
        # Ray joins processes whose Pythons differ in the last number, and warns.
        theirs, ours = (_minor(name, version) for version in (found[name], here[name]))
        if theirs != ours:
            return f"has {name.capitalize()} {found[name]}, expected {here[name]} as here"
    if found["package"] != here["package"]:
        return f"has another version of rllib_mec ({found['folder']}): install the same on all"
    if found["storage"]:
        return (
            f"does not see storage_path {needs.storage_path} ({found['storage']}): give a folder"
            " that all nodes share, or a URL such as s3://bucket/folder"
        )
    if found["restore"]:
        return f"does not see the checkpoint {needs.restore}: put it where all nodes see it"
    return None


def _minor(name: str, version: str) -> str:
    return version.rpartition(".")[0] if name == "python" else version


def _fingerprint() -> str:
    return _look_around()(("rllib_mec",), None, None, "")["package"]


def _look_around() -> Any:
    """The task; made in a function, so that Ray ships it by value to nodes that lack this file."""

    def look_around(modules: Any, probe: Any, restore: Any, node: str) -> dict[str, Any]:
        import hashlib
        import importlib.util
        import os
        import pathlib
        import platform
        import sys

        import ray

        found: dict[str, Any] = {
            "ray": ray.__version__,
            "python": platform.python_version(),
            "executable": sys.executable,
            "missing": [],
            "package": None,
            "folder": None,
            "storage": None,
            "restore": None,
        }
        for name in modules:
            try:
                missing = name not in sys.modules and importlib.util.find_spec(name) is None
            except (ImportError, ValueError):
                missing = True
            if missing:
                found["missing"].append(name)
        spec = None if "rllib_mec" in found["missing"] else importlib.util.find_spec("rllib_mec")
        if spec is not None and spec.origin:
            folder = pathlib.Path(spec.origin).parent
            digest = hashlib.sha256()
            for file in sorted(folder.rglob("*.py")):
                digest.update(file.relative_to(folder).as_posix().encode())
                digest.update(file.read_bytes().replace(b"\r\n", b"\n"))
            found["folder"], found["package"] = str(folder), digest.hexdigest()
        if restore and "://" not in restore and not os.path.exists(restore):
            found["restore"] = "not there"
        if probe:
            try:
                from pyarrow import fs

                is_url = "://" in probe
                system, path = fs.FileSystem.from_uri(probe) if is_url else (None, probe)
                system = system or fs.LocalFileSystem()
                if not system.get_file_info(f"{path}/driver").is_file:
                    raise FileNotFoundError("another disk than the one here")
                with system.open_output_stream(f"{path}/{node}") as file:
                    file.write(b"here")
            except Exception as error:
                found["storage"] = str(error)[:160]
        return found

    return look_around


def modules_of(*parts: Any) -> tuple[str, ...]:
    """Top-level modules, other than Ray's and this package's, that classes are from.

    Args:
        *parts: Classes, functions, class paths or names.
    """
    found = []
    for part in parts:
        module = part.partition(":")[0] if isinstance(part, str) and ":" in part else ""
        module = module or getattr(part, "__module__", "") or ""
        top = module.partition(".")[0]
        own = top in ("", "ray", "builtins", "__main__", rllib_mec.__name__)
        if not own and importlib.util.find_spec(top) is not None:  # else it is shipped by value
            found.append(top)
    return tuple(dict.fromkeys(found))
