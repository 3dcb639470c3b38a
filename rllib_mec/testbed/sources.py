"""What the kept versions were loaded from, where a replica that starts anew finds it.

The files that ``--weights`` and ``--checkpoint`` name may have changed since, and hold one version
only; a replica that crashed would come back with another than the rest, or refuse devices that have
the version before.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from rllib_mec.checkpoints import find_checkpoint
from rllib_mec.errors import MecError, one_line
from rllib_mec.testbed.options import ServerOptions
from rllib_mec.testbed.split_model import SplitModel
from rllib_mec.testbed.versions import newest_kept

_WEIGHTS, _CHECKPOINT, _UNFINISHED = "weights.pt", "checkpoint", "unfinished-"


@dataclass(frozen=True)
class Source:
    """Of one version.

    Attributes:
        number: The version's.
        fingerprint: Of its DNN.
        options: That load it.
    """

    number: int
    fingerprint: bytes
    options: ServerOptions


class Sources:
    """Those of a server, as its process keeps them and its replicas read them.

    Args:
        folder: Where they lie; a replica on another machine does not see it, and loads what the
            options say. None: nowhere.
        options: Resolved options of the server.

    Attributes:
        folder: As given.
    """

    def __init__(self, folder: Path | None, options: ServerOptions):
        """Look at nothing yet."""
        self.folder, self._options = folder, options

    def add(self, number: int, model: SplitModel) -> None:
        """Keep a version, whole or not at all.

        Args:
            number: The version's.
            model: Its DNN; the checkpoint is read from where the options say.

        Raises:
            MecError: The disk is full, or the checkpoint cannot be read.
        """
        assert self.folder is not None, "a replica adds nothing"
        name = f"{number:08d}-{model.fingerprint.hex()}"
        made = self.folder / f"{_UNFINISHED}{name}"
        try:
            made.mkdir(0o700, parents=True)
            torch.save(model.module.state_dict(), made / _WEIGHTS)
            if self._options.checkpoint:
                shutil.copytree(find_checkpoint(self._options.checkpoint), made / _CHECKPOINT)
            os.rename(made, self.folder / name)
        except (OSError, RuntimeError) as error:  # torch has the latter for a full disk
            shutil.rmtree(made, ignore_errors=True)
            raise MecError(f"cannot keep version {number}: {one_line(error)}") from None

    def discard(self, number: int) -> None:
        """Forget a version that is not served after all.

        Args:
            number: The version's.
        """
        self._remove({number})

    def discard_old(self) -> None:
        """Forget what is not answered any more."""
        kept = {source.number for source in self.kept()}
        self._remove({number for number, _, _ in self._found()} - kept)

    def _remove(self, numbers: set[int]) -> None:
        for number, _, path in self._found():
            if number in numbers:
                shutil.rmtree(path, ignore_errors=True)

    def kept(self) -> list[Source]:
        """The versions to answer, the newest last; none where the folder is not seen."""
        return newest_kept(
            [Source(number, mark, self._from(path)) for number, mark, path in self._found()]
        )

    def of(self, number: int) -> ServerOptions:
        """What a version is loaded with.

        Args:
            number: The version's; where it is not seen, the options that there were first.
        """
        found = (self._from(path) for each, _, path in self._found() if each == number)
        return next(found, self._options)

    def _from(self, path: Path) -> ServerOptions:
        checkpoint = str(path / _CHECKPOINT) if self._options.checkpoint else None
        weights = str(path / _WEIGHTS)
        return dataclasses.replace(self._options, weights=weights, checkpoint=checkpoint)

    def _found(self) -> list[tuple[int, bytes, Path]]:
        try:
            paths = sorted(self.folder.iterdir()) if self.folder else []
        except OSError:  # another machine, or another user
            return []
        split = [(path.name.partition("-"), path) for path in paths]
        return [
            (int(number), bytes.fromhex(mark), path)
            for (number, _, mark), path in split
            if number.isdigit()
        ]
