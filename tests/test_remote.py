"""Results behind URLs: trained to, read from and resumed from an S3 that runs here."""

from __future__ import annotations

import json
import time

import pytest
import yaml

from rllib_mec import remote
from rllib_mec.cli.mec import main as mec
from rllib_mec.cli.rllib import main as rllib
from rllib_mec.errors import MecError
from rllib_mec.experiments import storage

KEYS = {
    "AWS_ACCESS_KEY_ID": "me",
    "AWS_SECRET_ACCESS_KEY": "mine",
    "AWS_DEFAULT_REGION": "eu-west-1",
}
TINY = {
    "run": "EMH-PPO",
    "env": "mec_task_window_v0",
    "stop": {"training_iteration": 2},
    "config": {
        "env_config": {"num_devices": 2, "max_window": 2, "mean_tasks": 4},
        "model_config": {"embedding_hiddens": [8], "agent_hiddens": [8], "critic_hiddens": [8]},
        "num_envs_per_env_runner": 2,
        "train_batch_size_per_learner": 16,
        "minibatch_size": 16,
        "demonstrations": 0,
    },
}


@pytest.fixture(scope="module")
def service():
    """An S3 with one bucket; its endpoint."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        import boto3

        endpoint = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=endpoint).create_bucket(
            Bucket="lab", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield endpoint
    server.stop()


def one_line(capsys, code, *fragments):
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if "note:" not in line]
    assert code == 2 and len(errors) == 1 and out == "", (out, err)
    assert all(fragment in errors[0] for fragment in fragments), err


@pytest.mark.slow
def test_what_is_trained_to_s3_is_evaluated_compared_drawn_and_resumed_from_there(
    service, ray_session, tmp_path, capsys
):
    file = tmp_path / "lab.yaml"
    file.write_text(yaml.safe_dump({"lab": {**TINY, "storage_path": "s3://lab/runs"}}))
    assert rllib(["train", "file", str(file)]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("Evaluate it:"))
    checkpoint = line.split()[-1]
    assert checkpoint.startswith("s3://lab/runs/lab/EMHPPO_") and "checkpoint_" in checkpoint

    for path in (checkpoint, "s3://lab/runs/lab"):
        assert rllib(["evaluate", path, "--episodes", "2", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[1]["policy"] == "EMH-PPO"
    compared = ["--checkpoint", "s3://lab/runs/lab", "--policies", "local-only", "--episodes", "2"]
    assert mec(["compare", *compared]) == 0
    pytest.importorskip("matplotlib")
    assert mec(["plot", "s3://lab/runs", "--out", str(tmp_path / "curve.png")]) == 0
    assert mec(["render", checkpoint, "--out", str(tmp_path / "episode.png")]) == 0
    capsys.readouterr()

    further = json.dumps({"training_iteration": 3})
    assert rllib(["train", "file", str(file), "--resume", "--stop", further]) == 0
    assert "going on after iteration 2" in capsys.readouterr().out
    assert rllib(["train", "file", str(file), "--restore", checkpoint]) == 0
    out = capsys.readouterr().out
    assert "->  s3://lab/runs/lab_20" in out  # never over older ones
    assert {str(f.path).split("/")[-1][:4] for f in remote.listed("s3://lab/runs")} == {
        "lab",
        "lab_",
    }


def test_what_s3_refuses_is_one_line(service, capsys, monkeypatch):
    flags = ["train", "--algo", "PPO", "--env", "CartPole-v1", "--storage-path"]
    one_line(capsys, rllib([*flags, "s3://nobody/runs"]), "s3://nobody/runs", "no such bucket")
    one_line(capsys, rllib([*flags, "s4://lab/runs"]), "s4://lab/runs", "expected", "s3")
    one_line(capsys, rllib(["evaluate", "s3://lab/nothing"]), "there is nothing in s3://lab/noth")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    one_line(capsys, rllib([*flags, "s3://lab/runs"]), "s3://lab/runs", "AWS_ENDPOINT_URL")


@pytest.mark.parametrize(
    ("said", "fragment"),
    [
        ("AWS Error ACCESS_DENIED during PutObject", "credentials are refused: set AWS_"),
        ("AWS Error NO_SUCH_BUCKET during HeadBucket", "no such bucket"),
        ("AWS Error NETWORK_CONNECTION: curlCode: 7", "no connection"),
        ("Bucket 'lab' not found.", "no such bucket"),
        ("the moon is full", "the moon is full"),
    ],
)
def test_the_reason_is_kept_with_what_to_do(said, fragment):
    def fail():
        raise OSError(said)

    with pytest.raises(MecError, match=fragment) as caught:
        remote.in_time(fail, "s3://lab")
    assert said in str(caught.value) and str(caught.value).startswith("s3://lab: ")


def test_a_service_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(remote, "ANSWER_S", 0.01)
    with pytest.raises(MecError, match=r"no answer in 0\.01 s"):
        remote.in_time(lambda: time.sleep(1.0), "s3://lab")


def test_where_nothing_can_be_written_it_says_so():
    with pytest.raises(MecError, match="storage_path /proc/runs cannot be written to"):
        with storage.probed("/proc/runs"):
            pass


def test_a_full_disk_is_seen_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_LEAST_FREE", 1 << 60)
    with pytest.raises(MecError, match=r"the disk of storage_path .* is full"):
        with storage.probed(str(tmp_path / "runs" / "of_mine")):
            pass
    assert not [*tmp_path.iterdir()]


def test_paths_below_a_url_keep_its_query(tmp_path):
    assert remote.joined("s3://lab/runs?region=x", "a", "b") == "s3://lab/runs/a/b?region=x"
    assert remote.joined(str(tmp_path), "a") == str(tmp_path / "a")
    url = f"file://{tmp_path}"
    (tmp_path / "trial" / "checkpoint_000000").mkdir(parents=True)
    (tmp_path / "trial" / "result.json").write_text("{}")
    copy = remote.copied(url)
    assert (copy / "trial" / "result.json").is_file()
    assert remote.origin(copy / "trial") == f"{url}/trial"
    assert remote.origin(tmp_path) == str(tmp_path)
