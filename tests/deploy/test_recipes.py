"""The recipes of deploy/ hold what their tools ask of them, and run what there is."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import jsonschema
import pytest
import ray
import yaml
from prune_schema import SCHEMA, manifest
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts import scripts

from rllib_mec.cli.rllib import rllib

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RECIPES = ("Dockerfile", "compose.yaml", "ray-cluster.yaml", "rayjob.yaml")


def commands(program: str) -> list[list[str]]:
    """All calls of a program in the recipes, as lists of arguments."""
    found = []
    for recipe in RECIPES:
        for line in (DEPLOY / recipe).read_text().splitlines():
            call = re.search(rf"(?:^#.*?|: |- |')({program} [^`#]*)", line)
            if call and not line.startswith("# A ") and "docs." not in line:
                found.append(shlex.split(call[1].rstrip("'")))
    return found


def test_kuberay_knows_every_field_of_the_job():
    jsonschema.validate(manifest(), yaml.safe_load(SCHEMA.read_text()))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (("spec", "entrypiont"), "entrypiont"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "is not one of"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), "string"),
    ],
)
def test_the_kept_schema_of_kuberay_refuses_mistakes(where, message):
    job = part = manifest()
    for name in where[:-1]:
        part = part[name]
    part[where[-1]] = 1
    with pytest.raises(jsonschema.ValidationError, match=message):
        jsonschema.validate(job, yaml.safe_load(SCHEMA.read_text()))


def test_rays_launcher_takes_the_cluster():
    validate_config(prepare_config(yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())))


def test_docker_takes_the_services():
    check = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([sys.executable, *check, DEPLOY / "compose.yaml"], check=True)


def test_all_take_the_same_image_and_this_ray():
    texts = {name: (DEPLOY / name).read_text() for name in RECIPES}
    images = [
        image for text in texts.values() for image in re.findall(r"^ *image: (\S+)", text, re.M)
    ]
    assert set(images) == {"rllib-mec"} and len(images) == 4
    assert manifest()["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
    least = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    python = re.search(r"^FROM python:3\.(\d+)-slim$", texts["Dockerfile"], re.M)
    assert least and python and int(python[1]) >= int(least[1])


def test_what_the_image_copies_is_there_and_is_sent_to_docker():
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.*)", text, re.M) for name in line.split()[:-1]]
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert len(copied) > 3
    assert [name for name in copied if f"!{name}" not in sent or not (ROOT / name).exists()] == []


def test_every_command_of_rllib_and_ray_is_one():
    trained = commands("rllib train")
    assert len(trained) == 3
    for _, command, *arguments in trained:
        train = rllib.get_command(click.Context(rllib), command)
        assert train and train.make_context("rllib train", list(arguments))
        assert (ROOT / arguments[arguments.index("file") + 1]).is_file()
    started = commands("ray start")
    assert len(started) == 4
    for _, command, *arguments in started:
        scripts.cli.commands[command].make_context("ray start", list(arguments))
    assert scripts.cli.commands["health-check"] and scripts.cli.commands["get-auth-token"]
