"""Fixtures shared by all tests."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
import types

import coverage
import pytest
import wrapt
from numba.core.dispatcher import Dispatcher

from rllib_mec import plugin
from rllib_mec.registry import ALGORITHMS, ENVIRONMENTS, POLICIES
from rllib_mec.tables import DNNS

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Else the workers of one test process, which are nice, wait for the other test process.
os.environ.setdefault("RAY_worker_niceness", "0")


def uncovered(compile_kernel):
    """Numba is not measured while it compiles, which nearly doubles what that takes."""

    @functools.wraps(compile_kernel)
    def compile_uncovered(*args, **kwargs):
        measured = coverage.Coverage.current()  # None, too, for a kernel that another one calls
        if measured is None or threading.current_thread() is not threading.main_thread():
            return compile_kernel(*args, **kwargs)
        measured.stop()
        try:
            return compile_kernel(*args, **kwargs)
        finally:
            measured.start()

    return compile_uncovered


Dispatcher.compile = uncovered(Dispatcher.compile)


@wrapt.when_imported("ray.rllib.connectors.connector_v2")
def find_callers_without_sources(module):
    """Ray's connectors ask who makes them, by `inspect.stack`, which reads the sources of all.

    That is most of the time that a runner or a learner takes to be made here, where pytest's own
    frames are many.
    """
    quick = types.SimpleNamespace(**vars(inspect))
    quick.stack = functools.partial(inspect.stack, context=0)
    module.inspect = quick


@pytest.fixture(autouse=True)
def names_are_given_back():
    """What a test registers does not outlive it, in Ray's tables neither."""
    kept = [(table, dict(table._entries)) for table in (ENVIRONMENTS, ALGORITHMS, POLICIES, DNNS)]
    algorithms = set(ALGORITHMS._entries)
    yield
    if all(table._entries == entries for table, entries in kept):
        return
    added = set(ALGORITHMS._entries) - algorithms
    for table, entries in kept:
        table._entries = entries
    if "ray.tune.registry" in sys.modules:
        plugin._enter_envs(sys.modules["ray.tune.registry"], anew=True)
    if "ray.rllib.algorithms.registry" in sys.modules:
        for name in added:
            sys.modules["ray.rllib.algorithms.registry"].ALGORITHMS.pop(name, None)


@pytest.fixture(scope="session")
def ray_session():
    """One Ray for all tests that need it, since starting it takes seconds."""
    import ray

    if not ray.is_initialized():
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    yield ray
    ray.shutdown()
