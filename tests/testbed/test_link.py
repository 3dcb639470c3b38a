"""The token bucket and the deadline."""

from __future__ import annotations

import math
import socket
import time

import pytest

from rllib_mec.errors import MecError
from rllib_mec.testbed.link import Link, LinkSocket


class Clock:
    """Time that passes only while somebody sleeps, and a bit longer than asked for."""

    def __init__(self, oversleep_s=0.0):
        self.now, self.oversleep_s = 100.0, oversleep_s

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds >= 0
        if seconds:
            self.now += seconds + self.oversleep_s


def send(link, size):
    chunks = []
    link.send(bytes(size), lambda chunk: chunks.append(len(chunk)))
    return chunks


def test_bytes_leave_at_the_rate():
    clock = Clock()
    link = Link(8.0, clock=clock, sleep=clock.sleep)  # 1 MB/s
    assert sum(send(link, 500_000)) == 500_000
    assert clock.now == pytest.approx(100.5)


def test_sleeping_too_long_is_made_up_for():
    clock = Clock(oversleep_s=1e-4)
    send(Link(8.0, clock=clock, sleep=clock.sleep), 500_000)
    assert clock.now == pytest.approx(100.5, abs=2e-4)


def test_an_idle_link_saves_nothing_up():
    clock = Clock()
    link = Link(8.0, clock=clock, sleep=clock.sleep)
    send(link, 1000)
    clock.now += 10.0
    before = clock.now
    send(link, 100_000)
    assert clock.now - before == pytest.approx(0.1)


def test_the_first_byte_does_not_wait_for_the_last():
    clock = Clock()
    link = Link(8.0, clock=clock, sleep=clock.sleep)
    times = []
    link.send(bytes(100_000), lambda chunk: times.append(clock.now))
    assert len(times) > 50
    assert times[0] < 100.01


def test_without_a_rate_everything_goes_at_once():
    clock = Clock()
    assert send(Link(clock=clock, sleep=clock.sleep), 10**6) == [10**6]
    assert clock.now == 100.0
    assert Link().seconds(10**9) == 0.0


def test_seconds_are_bits_over_rate():
    assert Link(50.0).seconds(602_112) == pytest.approx(8 * 602_112 / 50e6)


@pytest.mark.parametrize("rate", [0, -1.0, math.nan, math.inf])
def test_a_rate_must_be_positive(rate):
    with pytest.raises(MecError, match="bandwidth_mbps"):
        Link(rate)


def test_reading_ends_at_the_deadline_whatever_drips_in():
    near, far = socket.socketpair()
    with near, far:
        wrapped = LinkSocket(near, Link(), time.monotonic() + 60.0)
        reader = wrapped.makefile("rb")
        far.sendall(b"a")
        assert reader.read(1) == b"a"
        wrapped.deadline = time.monotonic() - 1.0
        far.sendall(b"b")  # there is something to read, but no time left
        with pytest.raises(TimeoutError):
            reader.read(1)
        with pytest.raises(TimeoutError):
            wrapped.sendall(b"c")
