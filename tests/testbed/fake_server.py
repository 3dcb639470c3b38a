"""A MEC server of a few lines that answers rightly, or goes wrong as a test asks for."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rllib_mec.testbed.frames import RESULT, Frame, decode, encode
from rllib_mec.testbed.hello import Hello
from rllib_mec.testbed.tensors import from_frame, result_blobs


def hello_of(model, scheduler=False):
    return Hello(
        model=model.name,
        input_shape=model.input_shape,
        heads=tuple(point.head for point in model.points),
        codec=model.codec,
        fingerprint=model.fingerprint,
        probe_digest=model.probe_digest(),
        max_frame_bytes=2**20,
        exact=True,
        scheduler=scheduler,
    )


class FakeServer:
    """``misbehave(handler, reply)`` sends something else than the reply; None sends the reply."""

    def __init__(self, model):
        self.model = model
        self.hello, self.hello_status = hello_of(model), 200
        self.misbehave = None
        self.request_ids = []
        self.answered = 0
        self.schedule = {}  # route -> function of the request's JSON, returns status and JSON
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if fake.hello_status != 200:
                    return self.reply(fake.hello_status, b'{"detail": "and got no token"}')
                return self.reply(200, json.dumps(fake.hello.to_json()).encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path in fake.schedule:
                    status, answer = fake.schedule[self.path](json.loads(body))
                    return self.reply(status, json.dumps(answer).encode())
                frame = decode(body)
                fake.request_ids.append(frame.request_id)
                reply = encode(fake.answer(frame))
                if fake.misbehave is None:
                    fake.answered += 1
                    return self.reply(200, reply)
                return fake.misbehave(self, reply)

            def reply(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # devices that time out close their connection

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, frame):
        tensors = from_frame(frame, self.model.specs(frame.point))
        leaves = self.model.leaves(self.model.tail(frame.point, tensors))
        return Frame(
            RESULT,
            frame.request_id,
            frame.fingerprint,
            frame.point,
            tensors=result_blobs(leaves),
            server_us=1,
        )

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def fake_server(model):
    server = FakeServer(model)
    try:
        yield server
    finally:
        server.close()


def answers_too_late(handler, reply):
    time.sleep(0.4)
    handler.reply(200, reply)


def drips(handler, reply):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(reply)))
    handler.end_headers()
    for i in range(40):
        handler.wfile.write(reply[i : i + 1])
        handler.wfile.flush()
        time.sleep(0.02)
    handler.close_connection = True


def hangs_up(handler, reply):
    handler.close_connection = True


def cuts_its_reply(handler, reply):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(reply)))
    handler.end_headers()
    handler.wfile.write(reply[:-7])
    handler.close_connection = True


def is_no_http(handler, reply):
    handler.wfile.write(b"\x00\xffgarbage\r\n\r\n" * 3)
    handler.close_connection = True


def sends_random_bytes(handler, reply):
    handler.reply(200, bytes(range(256)) * 3)


def flips_a_bit(handler, reply):
    handler.reply(200, reply[:-1] + bytes([reply[-1] ^ 1]))


def sends_a_huge_reply(handler, reply):
    handler.reply(200, bytes(2**20))


def answers_another_request(handler, reply):
    handler.reply(200, encode(dataclasses.replace(decode(reply), request_id=bytes(16))))


def answers_of_other_weights(handler, reply):
    handler.reply(200, encode(dataclasses.replace(decode(reply), fingerprint=bytes(8))))


def answers_a_wrong_shape(handler, reply):
    frame = decode(reply)
    blob = dataclasses.replace(frame.tensors[0], shape=(10,))
    handler.reply(200, encode(dataclasses.replace(frame, tensors=(blob,))))


def answers_no_tensor(handler, reply):
    handler.reply(200, encode(dataclasses.replace(decode(reply), tensors=())))


def fails(handler, reply):
    handler.reply(500, b"Internal Server Error")


def refuses(handler, reply):
    handler.reply(409, b'{"detail": "the server has other weights"}')


FAULTS = [
    answers_too_late,
    drips,
    hangs_up,
    cuts_its_reply,
    is_no_http,
    sends_random_bytes,
    flips_a_bit,
    sends_a_huge_reply,
    answers_another_request,
    answers_of_other_weights,
    answers_a_wrong_shape,
    answers_no_tensor,
    fails,
    refuses,
]
