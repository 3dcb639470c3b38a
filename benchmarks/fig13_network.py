"""The ResNet-50 of Fig. 13 and the images it classifies: CIFAR-10, or scikit-learn's digits.

The network is torchvision's with a 3x3 stem of stride 1, as is common for 32x32 images; published
CIFAR-10 weights with torchvision's parameter names load into it.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
from typing import TextIO

import torch
import torchvision
from torch import nn
from torch.nn import functional

from rllib_mec.errors import MecError, one_line

BATCH_SIZE = 32
LEARNING_RATE = 0.05
_DIGITS_HELD_OUT = 360
_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
_BAR_WIDTH = 30


@dataclasses.dataclass(frozen=True)
class Images:
    """Normalised RGB images with their classes.

    Attributes:
        name: Of the data set.
        inputs: ``(images, 3, 32, 32)`` float32.
        labels: ``(images,)`` int64.
        augmented: Whether training flips and shifts them.
    """

    name: str
    inputs: torch.Tensor
    labels: torch.Tensor
    augmented: bool


def digits(train: bool) -> Images:
    """scikit-learn's 1797 hand-written digits, enlarged from 8x8; the same 360 are held out always.

    Raises:
        MecError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MecError(
            "the digits data set comes with scikit-learn: pip install scikit-learn, or give --data"
        ) from None
    bunch = load_digits()
    grey = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    inputs = functional.interpolate(grey, size=32, mode="bilinear").repeat(1, 3, 1, 1)
    inputs = (inputs - 0.305) / 0.376  # mean and standard deviation of all pixels
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    chosen = order[:-_DIGITS_HELD_OUT] if train else order[-_DIGITS_HELD_OUT:]
    return Images("digits", inputs[chosen], torch.tensor(bunch.target)[chosen], augmented=False)


def cifar10(folder: pathlib.Path, train: bool, limit: int | None = None) -> Images:
    """CIFAR-10 from where the user has it.

    Args:
        folder: Holds ``cifar-10-batches-py``.
        train: Whether to read the training images rather than the test images.
        limit: The most images; the first ones.

    Raises:
        MecError: It is not there.
    """
    try:
        data = torchvision.datasets.CIFAR10(str(folder), train=train, download=False)
    except (RuntimeError, OSError) as error:
        raise MecError(
            f"--data: no CIFAR-10 in {str(folder)!r} (expected cifar-10-batches-py in it):"
            f" {one_line(error)}"
        ) from None
    inputs = torch.from_numpy(data.data[:limit]).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (_CIFAR_MEAN, _CIFAR_STD))
    return Images(
        "CIFAR-10", (inputs - mean) / std, torch.tensor(data.targets[:limit]), augmented=True
    )


def resnet50() -> nn.Module:
    """ResNet-50 for 32x32 images and ten classes, untrained."""
    model = torchvision.models.resnet50(num_classes=10, zero_init_residual=True)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    return model


def load_weights(model: nn.Module, path: pathlib.Path) -> nn.Module:
    """Load a state dict, and switch to eval mode.

    Raises:
        MecError: The file is missing or holds other parameters.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except FileNotFoundError:
        raise MecError(f"--weights: there is no file {str(path)!r}") from None
    except Exception as error:  # torch has many for a file that is no state dict
        raise MecError(f"--weights: {str(path)!r} does not fit: {one_line(error)}") from None
    return model.eval()


class Bar:
    """A progress bar with the time left; on no terminal, a line every ten seconds.

    Args:
        total: Steps of the whole work.
        done: Steps that an earlier run did.
        stream: Where to print.
    """

    def __init__(self, total: int, done: int = 0, stream: TextIO | None = None):
        """Start the clock."""
        self._total, self._done, self._before = total, done, done
        self._stream = stream or sys.stderr
        self._began, self._printed = time.monotonic(), -1e9

    def step(self, text: str) -> None:
        """Count a step and say what is going on."""
        self._done += 1
        now = time.monotonic()
        terminal = self._stream.isatty()
        if now - self._printed < (0.2 if terminal else 10) and self._done < self._total:
            return
        self._printed = now
        pace = (now - self._began) / (self._done - self._before)
        left = round(pace * (self._total - self._done))
        filled = _BAR_WIDTH * self._done // self._total
        line = (
            f"[{'#' * filled:.<{_BAR_WIDTH}}] {100 * self._done // self._total:3} %  {text}"
            f"  {left // 60}:{left % 60:02} left"
        )
        end = "\r" if terminal and self._done < self._total else "\n"
        print(f"\x1b[K{line}" if terminal else line, end=end, file=self._stream, flush=True)


def train(images: Images, epochs: int, checkpoint: pathlib.Path, device: str) -> nn.Module:
    """Train from scratch, or go on from a checkpoint.

    The checkpoint is written after every epoch, in one piece; an epoch's order depends only on its
    number, so a resumed training sees the same batches as an uninterrupted one.

    Args:
        images: The training images.
        epochs: How often to show each of them.
        checkpoint: File of the checkpoint.
        device: Where to train.

    Returns:
        The network in eval mode.
    """
    torch.manual_seed(0)
    model = resnet50().to(device, memory_format=torch.channels_last)
    steps = len(images.labels) // BATCH_SIZE
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, epochs * steps)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        if saved["epochs"] == epochs:
            for name, part in parts.items():
                part.load_state_dict(saved[name])
            first = saved["epoch"]
    if first < epochs:
        print(f"training ResNet-50 on {len(images.labels)} {images.name}; Ctrl-C is safe")
    bar = Bar(epochs * steps, first * steps)
    model.train()
    for epoch in range(first, epochs):
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(len(images.labels), generator=generator)
        for chosen in order[: steps * BATCH_SIZE].split(BATCH_SIZE):
            inputs = images.inputs[chosen]
            if images.augmented:
                inputs = _shifted_and_flipped(inputs, generator)
            inputs = inputs.to(device, memory_format=torch.channels_last)
            loss = functional.cross_entropy(model(inputs), images.labels[chosen].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.step(f"epoch {epoch + 1}/{epochs}, loss {loss.item():.3f}")
        states = {name: part.state_dict() for name, part in parts.items()}
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        unfinished = checkpoint.with_suffix(".part")
        torch.save({"epoch": epoch + 1, "epochs": epochs, **states}, unfinished)
        unfinished.replace(checkpoint)
    return model.eval()


def _shifted_and_flipped(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift a batch by up to four pixels, and mirror half of its images."""
    right, down = (int(torch.randint(9, (1,), generator=generator)) for _ in range(2))
    inputs = functional.pad(inputs, (4, 4, 4, 4))[..., down : down + 32, right : right + 32]
    mirrored = torch.rand(len(inputs), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, inputs.flip(-1), inputs)
