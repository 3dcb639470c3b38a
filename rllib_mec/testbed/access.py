"""How a device shows itself to a server: a token that both know, TLS, and a name."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from rllib_mec.errors import MecError

TOKEN_VARIABLE = "RLLIB_MEC_TOKEN"
DEVICE_HEADER = "x-mec-device"
MAX_DEVICE_NAME = 64
_LEAST_TOKEN = 16
_HOW = f"a file of --token-file, or {TOKEN_VARIABLE}"


@dataclass(frozen=True)
class Access:
    """What goes with every request of a device.

    Attributes:
        device: Its name, by which a server shares its queue fairly.
        token: What server and devices know and nobody else; None: a server that asks for none.
        tls: Verifies the server; None: no TLS.

    Raises:
        MecError: The name is none.
    """

    device: str = ""
    token: str | None = None
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        """Check the name.

        Raises:
            MecError: It is none.
        """
        if self.device and not re.fullmatch(
            rf"[\w.:@-]{{1,{MAX_DEVICE_NAME}}}", self.device, re.ASCII
        ):
            raise MecError(
                f"a device's name has 1 to {MAX_DEVICE_NAME} letters, digits and . : @ _ -,"
                f" got {self.device[:MAX_DEVICE_NAME]!r}"
            )

    def headers(self) -> dict[str, str]:
        """The HTTP headers that say so."""
        token = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return {**token, **({DEVICE_HEADER: self.device} if self.device else {})}


def read_token(file: str | None = None) -> str | None:
    """The shared token: of a file, or else of the environment's ``RLLIB_MEC_TOKEN``.

    Args:
        file: Path of the file; blanks around its one line do not count.

    Returns:
        The token; None where there is neither.

    Raises:
        MecError: The file cannot be read, or what it holds is no token.
    """
    try:
        text = os.environ.get(TOKEN_VARIABLE) if file is None else Path(file).read_text().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise MecError(f"cannot read the token of {file!r}: {reason}") from None
    if text is None:
        return None
    if len(text) < _LEAST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        where = TOKEN_VARIABLE if file is None else repr(file)
        raise MecError(
            f"the token of {where} has {len(text)} characters: expected at least {_LEAST_TOKEN},"
            " printable and without blanks, as `openssl rand -hex 32` gives"
        )
    return text


def check_token(token: str | None, host: str) -> None:
    """Check that strangers need a token where they can reach the server.

    Args:
        token: What the server will ask for.
        host: Address that it will listen on.

    Raises:
        MecError: It is open to other machines, and has none.
    """
    if token is None and not is_loopback(host):
        raise MecError(
            f"a server at {host} can be reached from other machines: it needs a token, {_HOW}"
            " (or --host 127.0.0.1)"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    Args:
        host: A name or an IP address.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def trusting(certificates: str | None) -> ssl.SSLContext | None:
    """TLS that takes only a server with one of some certificates, or one that they signed.

    Args:
        certificates: Path of a PEM file; None: no TLS.

    Raises:
        MecError: It cannot be read, or is no such file.
    """
    if certificates is None:
        return None
    try:
        return ssl.create_default_context(cafile=certificates)
    except (OSError, ValueError) as error:  # an SSLError is an OSError, too
        is_missing = isinstance(error, FileNotFoundError | PermissionError)
        reason = error.strerror if is_missing else "it holds no certificate (PEM)"
        raise MecError(f"cannot trust {certificates!r}: {reason}") from None


def own_front(certificate: str | None) -> ssl.SSLContext | None:
    """TLS to a server of this very process, whose certificate may name another address.

    Args:
        certificate: The server's; None: no TLS.
    """
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check_certificate(certificate: str, key: str) -> None:
    """Check that a server can be had with a certificate: that devices would accept its dates.

    A handshake in memory, with the certificate itself as what is trusted, finds it out.

    Args:
        certificate: Path of the PEM file of the server's certificate, and those that signed it.
        key: Path of its private key.

    Raises:
        MecError: A file cannot be read, they do not belong together, or it is not valid today.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for file in (certificate, key):
        if not os.access(file, os.R_OK):
            raise MecError(f"cannot read {file!r}")
    try:
        # Asked for a password, OpenSSL would wait at the terminal.
        server.load_cert_chain(certificate, key, password=lambda: "")
        client.load_verify_locations(certificate)
        _shake_hands(server, client)
    except ssl.SSLCertVerificationError as error:
        raise MecError(f"the certificate {certificate!r}: {error.verify_message}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise MecError(
            f"{certificate!r} and {key!r} are no certificate and key: {reason}"
        ) from None


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(back, there, server_side=False),
        server.wrap_bio(there, back, server_side=True),
    ]
    waiting = list(sides)
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
