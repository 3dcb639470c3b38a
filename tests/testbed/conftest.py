"""Fixtures of the testbed's tests."""

from __future__ import annotations

import os

import pytest
import tiny_model
import torch

from rllib_mec.testbed.split_model import SplitModel, task_input


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Results depend on the number of threads in the last bits; server and device have one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny():
    """A DNN of microseconds; point 1 sends two tensors, as a skip connection crosses it."""
    return SplitModel.load(tiny_model.PATH, tiny_model.INPUT_SHAPE, method="operator")


@pytest.fixture(scope="session")
def inputs(tiny):
    return [task_input(tiny.input_shape, 0, i) for i in range(100)]


@pytest.fixture(scope="session")
def server_environment():
    """Environment of a server process that finds the tests' DNN."""
    here = os.path.dirname(__file__)
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
