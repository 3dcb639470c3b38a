"""What a replica answers that starts anew, after weights were loaded without a restart."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
import tiny_model
import torch

from rllib_mec.errors import MecError
from rllib_mec.testbed.options import ServerOptions
from rllib_mec.testbed.server import TailServer
from rllib_mec.testbed.sources import Sources

OPTIONS = ServerOptions(tiny_model.PATH, tiny_model.INPUT_SHAPE, method="operator")


@pytest.fixture
def sources(tmp_path):
    return Sources(tmp_path / "versions", OPTIONS)


def model_of(seed):
    return dataclasses.replace(OPTIONS, seed=seed).load_model()


def replica_of(sources):
    """What Serve makes a replica of, without Serve; it has no HTTP."""
    return TailServer.func_or_class.__mro__[1](OPTIONS, sources.folder)


def test_the_newest_and_the_one_before_are_kept(sources):
    models = [model_of(seed) for seed in range(3)]
    for number, model in enumerate(models, 1):
        sources.add(number, model)
    sources.discard_old()
    kept = Sources(sources.folder, OPTIONS).kept()
    assert [source.number for source in kept] == [2, 3]
    for source, model in zip(kept, models[1:], strict=True):
        assert source.fingerprint == model.fingerprint
        assert source.options.load_model().fingerprint == model.fingerprint
    assert len(list(sources.folder.iterdir())) == 2
    sources.discard(3)
    assert [source.number for source in sources.kept()] == [2]


def test_the_same_weights_again_leave_the_others(sources):
    for number, seed in enumerate((0, 1, 1, 0), 1):
        sources.add(number, model_of(seed))
    assert [source.number for source in sources.kept()] == [3, 4]


def test_what_a_process_that_was_killed_left_unfinished_does_not_count(sources):
    sources.add(1, model_of(0))
    (sources.folder / "unfinished-00000002-00").mkdir()
    (sources.folder / "lost+found").mkdir()
    assert [source.number for source in sources.kept()] == [1]


def test_a_full_disk_is_said_and_leaves_nothing(sources, monkeypatch):
    def save(state, path):
        path.write_text("half")
        raise RuntimeError("enforce fail at inline_container.cc:\nunexpected pos")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(MecError, match="cannot keep version 1: enforce fail") as caught:
        sources.add(1, model_of(0))
    assert "\n" not in str(caught.value)
    assert list(sources.folder.iterdir()) == []


def test_on_another_machine_the_options_say_all(tmp_path):
    for folder in (None, tmp_path / "not_here"):
        sources = Sources(folder, OPTIONS)
        assert sources.kept() == []
        assert sources.of(7) == OPTIONS


def test_the_checkpoint_is_kept_too(tmp_path):
    options = dataclasses.replace(OPTIONS, checkpoint="pretrained")
    sources = Sources(tmp_path / "versions", options)
    sources.add(1, model_of(0))
    [source] = sources.kept()
    assert source.options.checkpoint.startswith(str(sources.folder))
    assert source.options.load_policy().name == options.load_policy().name


def test_a_replica_that_starts_anew_answers_what_the_others_answer(sources):
    first, second, third = (model_of(seed) for seed in range(3))
    sources.add(1, first)
    old = replica_of(sources)
    sources.add(2, second)
    assert asyncio.run(old.reload(2)) == ""
    new = replica_of(sources)  # with the options that it was deployed with
    for replica in (old, new):
        assert replica.hello()["fingerprint"] == second.fingerprint.hex()
        assert replica.hello()["older"] == [first.fingerprint.hex()]
        assert replica.health()["version"] == 2
    sources.add(3, third)  # of which it is not told, as it was starting
    asyncio.run(new.check_health())
    assert new.hello()["fingerprint"] == third.fingerprint.hex()
    assert new.hello()["older"] == [second.fingerprint.hex()]


def test_a_version_that_cannot_be_loaded_leaves_a_replica_as_it_was(sources):
    sources.add(1, model_of(0))
    replica = replica_of(sources)
    sources.add(2, model_of(1))
    [path] = sources.folder.glob("00000002-*/weights.pt")
    path.write_bytes(b"none")
    assert "holds no weights" in asyncio.run(replica.reload(2))
    asyncio.run(replica.check_health())
    assert replica.health()["version"] == 1
