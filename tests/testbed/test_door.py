"""What every request passes before a route sees it."""

from __future__ import annotations

import asyncio
import json

import pytest

from rllib_mec.testbed import door
from rllib_mec.testbed.door import Door, Rules, retry_after

TOKEN = "a" * 32


async def echo(scope, receive, send):
    """A route that answers with its body."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


class Client:
    """Sends the chunks of a body; None waits for ever, as a slow link does."""

    def __init__(self, entrance, chunks=(b"",), headers=(), path="/infer"):
        self.chunks, self.sent = list(chunks), []
        names = [(name.encode(), value.encode()) for name, value in headers]
        method = "GET" if path.startswith("/v2") else "POST"
        self.scope = {"type": "http", "method": method, "path": path, "headers": names}
        self.entrance = entrance

    async def receive(self):
        if not self.chunks:
            return {"type": "http.disconnect"}
        chunk = self.chunks.pop(0)
        if chunk is None:
            await asyncio.sleep(3600)
        more = bool(self.chunks)
        return {"type": "http.request", "body": chunk, "more_body": more}

    async def send(self, message):
        self.sent.append(message)

    async def __call__(self):
        await self.entrance(self.scope, self.receive, self.send)
        if not self.sent:
            return None, b"", {}
        headers = {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}
        return self.sent[0]["status"], self.sent[1]["body"], headers


def rules_of(**values):
    rules = Rules()
    for name, value in values.items():
        setattr(rules, name, value)
    return rules


def ask(rules, *arguments, **options):
    return asyncio.run(Client(Door(echo, rules), *arguments, **options)())


def detail(body):
    return json.loads(body)["detail"]


def test_a_body_in_pieces_comes_in_whole():
    assert ask(Rules(), [b"ab", b"", b"cd"])[:2] == (200, b"abcd")


@pytest.mark.parametrize("given", [None, "Bearer b", "Bearer " + "b" * 32, "a" * 32, "Bearer é"])
def test_without_the_token_nobody_comes_in_and_no_body_is_read(given):
    headers = [] if given is None else [("authorization", given)]
    client = Client(Door(echo, rules_of(token=TOKEN)), [None], headers)
    status, body, answered = asyncio.run(client())
    assert (status, answered["www-authenticate"]) == (401, "Bearer")
    assert detail(body).startswith("the server asks for its token, and got ")
    assert client.chunks == [None]


def test_with_the_token_and_to_ask_for_health_everybody_does():
    rules = rules_of(token=TOKEN)
    assert ask(rules, [b"x"], [("authorization", f"Bearer {TOKEN}")])[0] == 200
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert ask(rules, path=path)[0] == 200
    assert ask(rules, path="/v2/models/x/ready")[0] == 401


@pytest.mark.parametrize(
    ("chunks", "headers"),
    [
        ([None], [("content-length", "11")]),
        ([None], [("content-length", "-1")]),
        ([None], [("content-length", "x")]),
        ([b"a" * 6, b"a" * 5, None], []),
    ],
)
def test_a_body_that_is_too_long_is_refused_as_soon_as_that_is_known(chunks, headers):
    status, body, _ = ask(rules_of(max_bytes=10), chunks, headers)
    assert status == 413
    assert "10 bytes that are taken" in detail(body) or "at most 10 are taken" in detail(body)


def test_a_slow_body_is_given_up_and_holds_up_nobody():
    async def main():
        entrance = Door(echo, rules_of(body_s=0.2))
        slow = [Client(entrance, [b"a", None])() for _ in range(8)]
        waiting = asyncio.gather(*slow)
        await asyncio.sleep(0)
        assert (await Client(entrance, [b"fast"])())[:2] == (200, b"fast")
        assert not waiting.done()
        return await waiting

    for status, body, _ in asyncio.run(main()):
        assert status == 408
        assert detail(body) == "the request was not whole within 0.2 s"


def test_a_device_may_have_so_many_uploads_at_once_and_others_theirs(monkeypatch):
    monkeypatch.setattr(door, "MAX_UPLOADS", 2)

    async def main():
        entrance = Door(echo, rules_of(body_s=0.2))
        of = lambda name, *chunks: Client(entrance, chunks, [("x-mec-device", name)])()  # noqa: E731
        slow = asyncio.gather(of("a", None), of("a", None))
        await asyncio.sleep(0)
        more, other = await of("a", b"x"), await of("b", b"x")
        health = await Client(
            entrance, [None], [("x-mec-device", "a")], path="/v2/models/x/ready"
        )()
        assert health[0] == 200
        await slow
        return more, other, await of("a", b"x")

    more, other, after = asyncio.run(main())
    assert (more[0], more[2]["retry-after"]) == (429, "1")
    assert other[0] == after[0] == 200


def test_all_bodies_together_are_bounded(monkeypatch):
    monkeypatch.setattr(door, "MAX_BUFFERED_BYTES", 4)

    async def main():
        entrance = Door(echo, rules_of(body_s=0.2))
        slow = asyncio.ensure_future(Client(entrance, [b"abcd", None])())
        await asyncio.sleep(0.01)
        full = await Client(entrance, [b"x"])()
        await slow
        return full[0], (await Client(entrance, [b"x"])())[0]

    assert asyncio.run(main()) == (503, 200)


def test_who_hangs_up_gets_no_answer_and_counts_no_more():
    client = Client(Door(echo, Rules()), [b"a", b""])
    client.chunks = [b"a"]
    client.receive = iter_receive([b"a"])
    assert asyncio.run(client())[0] is None


def iter_receive(chunks):
    async def receive():
        if chunks:
            return {"type": "http.request", "body": chunks.pop(0), "more_body": True}
        return {"type": "http.disconnect"}

    return receive


def test_a_server_that_is_to_end_finishes_what_it_has_and_takes_no_more():
    async def main():
        go = asyncio.Event()

        async def slow(scope, receive, send):
            await go.wait()
            await echo(scope, receive, send)

        rules = Rules()
        entrance = Door(slow, rules)
        inside = asyncio.ensure_future(Client(entrance, [b"in"])())
        await asyncio.sleep(0.05)
        drained = asyncio.ensure_future(rules.drain())
        await asyncio.sleep(0.05)
        late = await Client(entrance, [b"x"])()
        ready = await Client(entrance, path="/v2/health/ready")()
        assert not drained.done()
        go.set()
        assert (await inside)[:2] == (200, b"in")
        await drained
        return late, ready

    late, ready = asyncio.run(main())
    assert late[0] == ready[0] == 503
    assert late[2]["retry-after"] == "20"


def test_when_to_come_again_is_said_in_seconds_and_in_milliseconds():
    assert retry_after(None) == {}
    assert retry_after(0.02) == {"Retry-After": "1", "Retry-After-Ms": "20"}
    assert retry_after(1.5) == {"Retry-After": "2", "Retry-After-Ms": "1500"}
