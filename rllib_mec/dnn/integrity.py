"""Damage to files: archives say it by the checksums of their parts, ONNX files by a digest."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from rllib_mec.errors import MecError

_KEY = b"rllib_mec.sha256"
_DIGITS = 2 * hashlib.sha256().digest_size
# An entry {key, value} of a ModelProto's metadata_props (field 14): tag, length, content. A message
# of Protocol Buffers may go on at its end, so that any reader of ONNX takes it for one more entry.
_ENTRY = b"\x0a%c%b\x12%c" % (len(_KEY), _KEY, _DIGITS)
_BEGIN = b"\x72%c%b" % (len(_ENTRY) + _DIGITS, _ENTRY)


def check_archive(path: str | Path) -> None:
    """Check every part of a zip archive, which ``torch.load`` itself does not.

    Args:
        path: A file of ``torch.save`` or ``torch.export.save``.

    Raises:
        MecError: A part is not what was written.
        zipfile.BadZipFile: It is no such archive any more.
    """
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise MecError(f"the file {str(path)!r} is damaged, in its part {damaged!r}")


def seal(path: Path) -> None:
    """Add a digest of all that an ONNX file holds, as one more entry of its metadata.

    Args:
        path: The file.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("ab") as file:
        file.write(_BEGIN + digest.encode())


def check_seal(path: Path) -> None:
    """Check an ONNX file against its digest.

    Args:
        path: The file.

    Raises:
        MecError: It is not what was written.
    """
    content = path.read_bytes()
    at = max(0, len(content) - len(_BEGIN) - _DIGITS)
    if content[at:] != _BEGIN + hashlib.sha256(content[:at]).hexdigest().encode():
        raise MecError(
            f"the file {str(path)!r} is damaged, or was changed after save_half wrote it"
        )
