"""What is asked of a cluster's nodes before training, and a job on two real nodes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rllib_mec.errors import MecError
from rllib_mec.experiments import job_folder, nodes

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

from faults.cluster import RAY, Node, cluster, environment  # noqa: E402

HERE = {"ray": "2.60.0", "python": "3.11.7", "package": nodes._fingerprint()}
NEEDS = nodes.Needs(storage_path="/data")


def looked(probe=None, modules=("rllib_mec",), restore=None):
    return nodes._look_around()(modules, probe, restore, "node")


def test_a_node_like_this_one_has_all(tmp_path):
    (tmp_path / "driver").write_text("here")
    found = looked(str(tmp_path), restore=str(tmp_path))
    assert nodes._fault({**found, "ray": "2.60.0", "python": "3.11.9"}, HERE, NEEDS) is None
    assert (tmp_path / "node").is_file()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"missing": ["rllib_mec", "torch"]}, "has no rllib_mec: pip install it"),
        ({"missing": ["my_env"]}, "has no my_env"),
        ({"ray": "2.61.0"}, "has Ray 2.61.0, expected 2.60.0"),
        ({"python": "3.12.1"}, "has Python 3.12.1, expected 3.11.7"),
        ({"package": "other"}, "has another version of rllib_mec"),
        ({"storage": "not there"}, r"does not see storage_path /data \(not there\)"),
        ({"restore": "not there"}, "does not see the checkpoint"),
    ],
)
def test_what_a_node_lacks_is_said(changes, said):
    import re

    found = {**looked(), **HERE, **changes}
    assert re.search(said, nodes._fault(found, HERE, NEEDS))


def test_storage_that_is_not_shared_and_modules_that_are_missing_are_found(tmp_path):
    found = looked(str(tmp_path / "elsewhere"), ("no_such_module",), str(tmp_path / "none"))
    assert found["storage"] and found["missing"] == ["no_such_module"] and found["restore"]


def test_modules_of_the_user_are_asked_for():
    class Local:
        pass

    assert nodes.modules_of("yaml:Loader", Local, subprocess.Popen, nodes.Needs) == (
        "yaml",
        "tests" if __name__.startswith("tests.") else "test_nodes",
        "subprocess",
    )


def test_a_job_keeps_its_folder_though_ray_deletes_it(tmp_path, monkeypatch):
    package = tmp_path / "working_dir_files" / "_ray_pkg_1"
    package.mkdir(parents=True)
    (package / "file").write_text("mine")
    monkeypatch.chdir(package)
    with pytest.raises(MecError, match="in Ray's copy of the submitted folder"):
        job_folder.check_storage(str(package / "results"))
    with job_folder.lasting():
        shutil.rmtree(package)
        package.mkdir()  # written anew by another node
        assert os.path.relpath("file") == "file" and Path("file").read_text() == "mine"
    assert Path.cwd() == package


@pytest.mark.slow
def test_a_job_runs_on_nodes_that_share_a_folder_and_a_node_that_cannot_train_is_refused(tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'rllib_mec':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
    )
    config = '{"num_env_runners": 1, "train_batch_size_per_learner": 100, "minibatch_size": 50}'
    train = ["train", "--algo", "PPO", "--env", "CartPole-v1", "--config", config]
    train += ["--stop", '{"training_iteration": 2}', "--storage-path", str(tmp_path / "results")]
    command = [sys.executable, "-m", "rllib_mec.cli.rllib", *train]
    with cluster(1, dashboard=True) as all_nodes:
        head = all_nodes[0]
        beside = Node(1, head.address, temp=head.temp)  # as two on a machine have it
        all_nodes.append(beside)
        beside.wait()
        work = tmp_path / "work"
        shutil.copytree(ROOT / "rllib_mec", work / "rllib_mec")
        submit = [*RAY, "job", "submit", "--address", head.dashboard, "--working-dir", "."]

        def run_job():
            outside = {k: v for k, v in environment().items() if k != "PYTHONPATH"}
            job = [*submit, "--", *command]
            return subprocess.run(job, env=outside, cwd=work, capture_output=True, text=True)

        tries = (run_job() for _ in range(5))  # until the head's agent takes jobs
        done = next(job for job in tries if "No available agent" not in job.stderr)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert "Mean return" in done.stdout

        shutil.rmtree(tmp_path / "results")
        all_nodes.append(Node(2, head.address, PYTHONPATH=str(blocked)))
        all_nodes[-1].wait()
        done = subprocess.run(
            [*command, "--ray-address", head.address],
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2, done
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("rllib: error")]
        assert "1 of 3 nodes cannot train: 127.0.0.4 has no rllib_mec: pip install" in line
        assert "Traceback" not in done.stderr and not (tmp_path / "results").exists()
