"""Fixtures of the testbed's tests."""

from __future__ import annotations

import os

import pytest
import tiny_model
import torch
from real_server import NUM_TASKS, TOKEN, client_of, loaded, save_weights
from server_process import ServerProcess

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


@pytest.fixture(scope="session")
def checkpoint(ray_session, tmp_path_factory):
    """A policy that was initialised, not trained."""
    from rllib_mec.algorithms.emh_ppo import EMHPPOConfig

    scenario = {"num_devices": 2, "dnn": "mobilenet_v2", "max_window": 3}
    config = (
        EMHPPOConfig()
        .environment("mec_task_window_v0", env_config=scenario)
        .env_runners(num_envs_per_env_runner=2)
        .debugging(seed=0)
    )
    algorithm = config.build_algo()
    path = algorithm.save_to_path(tmp_path_factory.mktemp("policy") / "checkpoint")
    algorithm.stop()
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The real server's weights, its token, and its rows."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "token").write_text(TOKEN)
    save_weights(folder / "weights.pt", seed=0)
    return folder


@pytest.fixture(scope="session")
def server_process(checkpoint, files, server_environment):
    """The real server, one for all tests of a test process, whichever of their files it runs."""
    arguments = ["--weights", str(files / "weights.pt"), "--token-file", str(files / "token")]
    arguments += ["--csv", str(files / "rows.csv"), "--max-queue", "8", "--lease-s", "600"]
    server = ServerProcess([*arguments, "--checkpoint", checkpoint], server_environment)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(server_process):
    """The real server as it was started first: a test that ended it may have run before."""
    if server_process.process.poll() is not None:
        server_process.start()
    return server_process


@pytest.fixture(scope="session")
def model(server_process, files):
    return loaded(server_process, files)


@pytest.fixture(scope="session")
def tasks(model):
    return [task_input(model.input_shape, 0, i) for i in range(NUM_TASKS)]


@pytest.fixture(scope="session")
def whole(model, tasks):
    return [model.whole(x) for x in tasks]


@pytest.fixture
def client(server):
    client = client_of(server)
    yield client
    client.close()
