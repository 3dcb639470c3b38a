"""The link of an emulated device: a network namespace shaped by tc, or a token bucket.

Shaping by the kernel holds for everything that a process sends, headers and handshakes included,
and in both directions; the token bucket only paces what the device's client sends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Protocol

from rllib_mec.errors import MecError, unknown

MODES = ("auto", "netns", "bucket")
"""How links are shaped: by the kernel where it can, or as said."""

_BURST_S = 250e-6  # what may leave at once; more would let small requests pass unshaped
_LEAST_BURST_BYTES = 3200  # two Ethernet frames
_LATENCY = "2s"  # how long a packet may queue before tc drops it


class Shaping(Protocol):
    """Where emulated devices live and what limits their links.

    Attributes:
        description: What it is, for reports.
        listen: Address that the server listens on.
        host: Address that the devices find it at.
        client_mbps: Rate that the device's own token bucket must keep; None: it is shaped outside.
    """

    description: str
    listen: str
    host: str
    client_mbps: float | None

    def server_command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` as the server.

        Args:
            argv: Program and arguments.
        """
        ...

    def command(self, device: int, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` as a device.

        Args:
            device: Its index, from 0.
            argv: Program and arguments.
        """
        ...


class TokenBuckets(Shaping):
    """All on the loopback interface; each device's client limits its own uplink.

    Args:
        bandwidth_mbps: Rate of each device's uplink.
        reason: Why nothing better is used.
    """

    listen = host = "127.0.0.1"

    def __init__(self, bandwidth_mbps: float, reason: str):
        """Nothing to set up."""
        self.client_mbps: float | None = bandwidth_mbps
        self.description = f"a token bucket in each device's client ({reason})"

    def server_command(self, argv: Sequence[str]) -> list[str]:
        """The command as it is; see the base class."""
        return list(argv)

    def command(self, device: int, argv: Sequence[str]) -> list[str]:
        """The command as it is; see the base class."""
        return list(argv)


class Namespaces(Shaping):
    """A network namespace for each device and for the server, with ``tc tbf`` in both directions.

    The bridge that joins them is in the server's namespace, which has all addresses to itself: it
    listens on all of them, where HAProxy can be its front, and nobody else can reach it.

    Use it as a context manager; it leaves nothing behind.

    Args:
        num_devices: How many.
        bandwidth_mbps: Rate of each device's link, each way, Ethernet headers included.
    """

    description = "network namespaces, tc tbf on each device's link, both ways"
    listen = "0.0.0.0"
    client_mbps: float | None = None

    def __init__(self, num_devices: int, bandwidth_mbps: float):
        """Choose names that no other emulation on this machine has."""
        self._tag = f"mec{os.getpid() % 100_000}"
        self._subnet = f"10.{83 + os.getpid() // 250 % 100}.{os.getpid() % 250}"
        self._num_devices = num_devices
        burst = max(_LEAST_BURST_BYTES, round(bandwidth_mbps * 125e3 * _BURST_S))
        self._tbf = f"root tbf rate {bandwidth_mbps * 1e6:.0f}bit burst {burst} latency {_LATENCY}"
        self.host = f"{self._subnet}.1"

    def server_command(self, argv: Sequence[str]) -> list[str]:
        """The command within the server's namespace; see the base class."""
        return _within(self._tag, argv)

    def command(self, device: int, argv: Sequence[str]) -> list[str]:
        """The command within the device's namespace; see the base class."""
        return _within(self._namespace(device), argv)

    def __enter__(self) -> Namespaces:
        """Set everything up.

        Raises:
            MecError: The kernel or the rights of this process do not allow it.
        """
        try:
            self._set_up()
        except BaseException:
            self._tear_down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove everything."""
        self._tear_down()

    def _set_up(self) -> None:
        server = bridge = self._tag
        _ip(f"netns add {server}")
        _ip(f"-n {server} link set lo up")
        _ip(f"-n {server} link add {bridge} type bridge")
        _ip(f"-n {server} addr add {self.host}/24 dev {bridge}")
        _ip(f"-n {server} link set {bridge} up")
        # Ray takes the address of the default route for its own; nothing is sent there.
        _ip(f"-n {server} route add default dev {bridge}")
        for n in range(self._num_devices):
            space, outer, inner = self._namespace(n), f"{self._tag}o{n}", f"{self._tag}i{n}"
            _ip(f"netns add {space}")
            _ip(f"-n {server} link add {outer} type veth peer name {inner} netns {space}")
            _ip(f"-n {server} link set {outer} master {bridge} up")
            _ip(f"-n {space} addr add {self._subnet}.{n + 2}/24 dev {inner}")
            _ip(f"-n {space} link set {inner} up")
            _ip(f"-n {space} link set lo up")
            for where, link in ((space, inner), (server, outer)):
                _run(["tc", "-n", where, *f"qdisc add dev {link} {self._tbf}".split()])

    def _tear_down(self) -> None:
        # Deleting the links at once matters: a namespace lives on until its last process ends.
        links = [*(f"{self._tag}o{n}" for n in range(self._num_devices)), self._tag]
        spaces = [*(self._namespace(n) for n in range(self._num_devices)), self._tag]
        commands = [f"-n {self._tag} link del {link}" for link in links]
        for command in [*commands, *(f"netns del {space}" for space in spaces)]:
            with contextlib.suppress(MecError):  # it was not made
                _ip(command)

    def _namespace(self, device: int) -> str:
        return f"{self._tag}-{device}"


def _within(namespace: str, argv: Sequence[str]) -> list[str]:
    return ["ip", "netns", "exec", namespace, *argv]


def _ip(command: str) -> None:
    _run(["ip", *command.split()])


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise MecError(f"{' '.join(argv[:4])}: {reason}")


@contextlib.contextmanager
def shaping(mode: str, num_devices: int, bandwidth_mbps: float) -> Iterator[Shaping]:
    """Shape the links of emulated devices while a block runs.

    Args:
        mode: One of :data:`MODES`.
        num_devices: How many devices.
        bandwidth_mbps: Rate of each device's link.

    Yields:
        What shapes them.

    Raises:
        MecError: There is no such mode, or ``"netns"`` is not possible here.
    """
    if mode not in MODES:
        raise unknown("link", mode, MODES)
    with contextlib.ExitStack() as stack:
        made: Shaping | None = None
        reason = "as asked for"
        if mode != "bucket":
            missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
            try:
                if missing:
                    raise MecError(f"{' and '.join(missing)} not installed")
                if not hasattr(os, "geteuid") or os.geteuid() != 0:
                    raise MecError("network namespaces need root")
                made = stack.enter_context(Namespaces(num_devices, bandwidth_mbps))
            except MecError as error:
                if mode == "netns":
                    raise MecError(f"--link netns is not possible here: {error}") from None
                reason = f"no namespaces: {error}"
        yield made or TokenBuckets(bandwidth_mbps, reason)
