"""Folders behind URLs (``s3://``, ``gs://``, ...), as Ray Tune writes results to them.

A folder's files are copied here before they are read. All access goes through pyarrow, as Tune's
does, so that what can be read here can be written there.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from rllib_mec.errors import MecError, one_line

ANSWER_S = 30.0
"""How long to wait for a storage service; its own clients try again for minutes."""

SCHEMES = ("abfs", "abfss", "file", "gcs", "gs", "hdfs", "s3", "viewfs")
"""What pyarrow, and so Tune, knows."""

Result = TypeVar("Result")

_HINTS = (
    (
        ("NO_SUCH_BUCKET", "NoSuchBucket", "Bucket '"),
        "there is no such bucket: create it, or correct its name",
    ),
    (
        ("ACCESS_DENIED", "INVALID_ACCESS_KEY", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN"),
        "the credentials are refused: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role",
    ),
    (
        ("NETWORK_CONNECTION", "Couldn't connect", "resolve host", "Could not resolve"),
        "no connection: check the network, and the endpoint (AWS_ENDPOINT_URL)",
    ),
    (("Unauthenticated", "UNAUTHENTICATED"), "the credentials are refused: run `gcloud auth`"),
)
"""What is in pyarrow's messages -> what to do."""


def is_url(path: object) -> bool:
    """Whether a path is a URL.

    Args:
        path: The path.
    """
    return "://" in str(path)


def in_time(work: Callable[[], Result], url: str) -> Result:
    """What a piece of work with a storage service returns, if it does so in time.

    Args:
        work: The work; its thread is left behind if it takes too long.
        url: Where it works, for the message.

    Raises:
        MecError: It failed, or took longer than :data:`ANSWER_S`.
    """
    done: list[tuple[bool, Any]] = []

    def try_it() -> None:
        try:
            done.append((True, work()))
        except Exception as error:
            done.append((False, error))

    thread = threading.Thread(target=try_it, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    if not done:
        raise MecError(f"{url}: no answer in {ANSWER_S:g} s: check the network and the endpoint")
    succeeded, outcome = done[0]
    if succeeded:
        return outcome
    text = one_line(outcome)
    hint = next((hint for words, hint in _HINTS if any(word in text for word in words)), None)
    raise MecError(f"{url}: {hint} ({text})" if hint else f"{url}: {text}") from None


def open_folder(path: str) -> tuple[Any, str]:
    """The ``pyarrow`` file system of a folder or URL, and the path in it.

    Args:
        path: An absolute folder, or a URL.

    Raises:
        MecError: A scheme that pyarrow does not know, or a service that does not answer.
    """
    from pyarrow import fs

    if not is_url(path):
        return fs.LocalFileSystem(), path
    scheme = urlsplit(path).scheme
    if scheme not in SCHEMES:
        raise MecError(f"{path}: expected a folder or a URL of {', '.join(SCHEMES)}")
    return in_time(lambda: fs.FileSystem.from_uri(path), path)


def listed(path: str, *, recursive: bool = False) -> list[Any]:
    """What lies in a folder, as ``pyarrow.fs.FileInfo``; nothing if there is none.

    Args:
        path: An absolute folder, or a URL.
        recursive: Whether to look into its folders too.

    Raises:
        MecError: As :func:`open_folder`.
    """
    from pyarrow import fs

    system, inside = open_folder(path)
    selector = fs.FileSelector(inside, allow_not_found=True, recursive=recursive)
    return in_time(lambda: system.get_file_info(selector), path)


def joined(path: str, *parts: str) -> str:
    """A path below a folder or URL.

    Args:
        path: The folder, or a URL, whose query is kept.
        *parts: What follows.
    """
    if not is_url(path):
        return str(Path(path, *parts))
    split = urlsplit(path)
    return split._replace(path=str(PurePosixPath(split.path or "/", *parts))).geturl()


def located(storage_path: str, checkpoint_path: str) -> str:
    """The URL, or the folder, of what Tune calls a path in a file system.

    Args:
        storage_path: Of the experiment: its folder, or its URL.
        checkpoint_path: Tune's, without a scheme.
    """
    if not is_url(storage_path):
        return checkpoint_path
    _, root = open_folder(storage_path)
    return joined(storage_path, str(PurePosixPath(checkpoint_path).relative_to(root)))


@functools.cache
def _root() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="rllib_mec_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_COPIED: dict[Path, str] = {}
"""Folder here -> its URL."""


def copied(url: str, wanted: Callable[[PurePosixPath], bool] = lambda path: True) -> Path:
    """A copy of what lies behind a URL, which goes when the process ends.

    Args:
        url: Of a folder.
        wanted: Which files, by their path below it.

    Returns:
        The folder; of one below it that is copied later, the copy lies in here too.

    Raises:
        MecError: There is no such folder, or it cannot be read.
    """
    system, inside = open_folder(url)
    files = [info for info in listed(url, recursive=True) if info.is_file]
    if not files:
        raise MecError(f"there is nothing in {url}")
    here = _root() / urlsplit(url).scheme / inside.strip("/")
    _COPIED[here] = url

    def fetch(info: Any, target: Path) -> None:
        """Copy one file.

        Args:
            info: What the file system says of it.
            target: Where it goes.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        with system.open_input_stream(info.path) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)

    for info in files:
        below = PurePosixPath(info.path).relative_to(inside)
        target = here / below
        is_there = target.is_file() and target.stat().st_size == info.size
        if wanted(below) and not is_there:
            in_time(functools.partial(fetch, info, target), url)
    return here


def origin(path: Path) -> str:
    """Where a path is from: its URL, if it lies in a copy, else itself.

    Args:
        path: A path here.
    """
    for folder in (path, *path.parents):
        if folder in _COPIED:
            return joined(_COPIED[folder], *path.relative_to(folder).parts)
    return str(path)
