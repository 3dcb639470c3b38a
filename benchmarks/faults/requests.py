"""Hostile requests: fuzzed, endless, too many."""

from __future__ import annotations

import random
import socket
import threading
import time

from faults.bench import PATIENT_S, TOKEN, Bench, Row, Server


def fuzz(server: Server, bench: Bench) -> Row:
    """Frames with bits flipped, cut and drawn; requests that are no HTTP; hostile JSON."""
    rng, valid, count, well = random.Random(0), bench.frame(5), 3000, 0
    start = f"POST /infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    with bench.at_work(server) as outcome:
        for i in range(count):
            data = bytearray(valid)
            for _ in range(rng.randrange(1, 5)):
                data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
            cut = data[: rng.randrange(len(data))] if i % 2 else data
            head = f"{start}Content-Length: {len(cut)}\r\nConnection: close\r\n\r\n".encode()
            sent = rng.randbytes(200) if i % 10 == 0 else head + bytes(cut)
            with socket.create_connection(("127.0.0.1", server.port), 10) as one:
                one.sendall(sent + b"\r\n\r\n")
                answer = one.recv(64)
            well += not answer or answer.split(b" ")[1][:1] == b"4"
    lost, local, _ = outcome
    fine = well if server.health() < 5e3 else 0
    return Row("fuzzed frames and requests", count, fine, lost, f"beside them {local} fell back")


def slow_uploads(server: Server, bench: Bench) -> Row:
    """Uploads that stop, while a fast device works."""
    head = f"POST /infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    held = []
    for i in range(200):
        one = socket.create_connection(("127.0.0.1", server.port))
        own = f"x-mec-device: slow_{i % 40}\r\nContent-Length: 600000\r\n\r\naaaa"
        one.sendall((head + own).encode())
        held.append(one)
    time.sleep(1)
    health = [server.health() for _ in range(10)]
    lost, local, _ = bench.work(server, "fast")
    for one in held:
        one.close()
    well = 200 if max(health) < 5e3 and not local else 0
    seen = f"health within {max(health):.0f} ms, {local} of the fast device's tasks fell back"
    return Row("uploads that do not end", 200, well, lost, seen)


def overload(server: Server, bench: Bench) -> Row:
    """One device with 24 connections, and three with one each."""
    from rllib_mec.testbed.client import FRAME_TYPE, ServerBusy

    data, stop, greedy, refused = bench.frame(0), threading.Event(), [], []

    def flood() -> None:
        client = server.client("greedy")
        while not stop.is_set():
            try:
                client.request("POST", "/infer", data, FRAME_TYPE, PATIENT_S, 2**20)
                greedy.append(None)
            except ServerBusy as busy:
                refused.append(busy.retry_after_s)
                time.sleep(busy.retry_after_s or 0.0)
        client.close()

    threads = [threading.Thread(target=flood) for _ in range(24)]
    for thread in threads:
        thread.start()
    outcomes: list = []
    fair = [
        threading.Thread(
            target=lambda n=n: outcomes.append(bench.work(server, f"fair_{n}", 0, PATIENT_S))
        )
        for n in range(3)
    ]
    before = len(greedy)
    for thread in fair:
        thread.start()
    for thread in fair:
        thread.join()
    during = len(greedy) - before
    stop.set()
    for thread in threads:
        thread.join()
    tasks = 3 * len(bench.inputs)
    local, lost = sum(o[1] for o in outcomes), sum(o[0] for o in outcomes)
    told = sum(each is not None for each in refused)
    seen = (
        f"meanwhile {during} of the other device, by 24 connections; of its {len(refused)} requests"
        f" that were turned away, {told} were told when to come again"
    )
    return Row("overload by one device", tasks, tasks - local, lost, seen)
