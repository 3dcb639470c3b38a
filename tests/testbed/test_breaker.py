"""The circuit breaker."""

from __future__ import annotations

import pytest

from rllib_mec.testbed.breaker import CircuitBreaker


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def make(clock, spread=0.5):
    return CircuitBreaker(0.1, 1.0, clock=clock, spread=lambda: spread)


def test_it_begins_closed(clock):
    breaker = make(clock)
    assert breaker.is_closed
    assert breaker.allows()


def test_waits_double_up_to_the_longest(clock):
    breaker = make(clock)
    waits = []
    for _ in range(6):
        breaker.failed()
        waits.append(breaker.retry_in_s)
        clock.now += breaker.retry_in_s
        assert breaker.allows()
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_while_it_is_open_nothing_is_let_through(clock):
    breaker = make(clock)
    breaker.failed()
    clock.now += 0.099
    assert not breaker.allows()


def test_a_success_forgets_all_failures(clock):
    breaker = make(clock)
    for _ in range(5):
        breaker.failed()
    breaker.succeeded()
    assert breaker.allows()
    breaker.failed()
    assert breaker.retry_in_s == pytest.approx(0.1)


def test_waits_are_spread_by_a_fifth(clock):
    for spread, expected in ((0.0, 0.08), (1.0, 0.12)):
        breaker = make(clock, spread)
        breaker.failed()
        assert breaker.retry_in_s == pytest.approx(expected)


def test_a_thousand_failures_do_not_overflow(clock):
    breaker = make(clock)
    for _ in range(2000):
        breaker.failed()
    assert breaker.retry_in_s == pytest.approx(1.0)
