"""The MEC server on Ray Serve: the application that runs tails of a DNN.

``rllib-mec server`` runs them on this machine. On a cluster they are deployed by a Serve config
file (``serve deploy FILE``), where replicas, autoscaling and resources are set as for any Serve
application::

    proxy_location: EveryNode
    applications:
    - name: tail
      route_prefix: /
      import_path: rllib_mec.testbed.server:tail_application
      args: {checkpoint: /shared/emh-ppo, max_queue: 64}  # or {model: mobilenet_v2}
      deployments:
      - name: TailServer
        autoscaling_config: {min_replicas: 1, max_replicas: 16}
    - name: scheduler
      route_prefix: /schedule
      import_path: rllib_mec.testbed.scheduler_server:scheduler_application
      args: {checkpoint: /shared/emh-ppo}

Routes: ``POST /infer`` takes and returns a binary frame (:mod:`rllib_mec.testbed.frames`);
``GET /hello`` and ``GET /health`` return JSON. Status 503 means that the queue is full.
"""

# No "from __future__ import annotations": FastAPI needs the types, and Serve moves the methods.

import time
from typing import Any

import torch
from fastapi import FastAPI, Request, Response
from ray import serve
from ray.serve.metrics import Counter, Gauge, Histogram

from rllib_mec.errors import MecError
from rllib_mec.testbed.batching import KeyedBatcher
from rllib_mec.testbed.client import FRAME_TYPE, Hello
from rllib_mec.testbed.frames import ERROR, INFER, RAW, RESULT, Frame, FrameError, decode, encode
from rllib_mec.testbed.options import ServerOptions
from rllib_mec.testbed.tensors import from_frame, result_blobs

BAD_FRAME, OTHER_WEIGHTS, TOO_LARGE = 400, 409, 413
"""HTTP statuses of what the server refuses."""

_FRAME_MARGIN = 1024  # header of a frame, and of each of its tensors
_EXACT_CODECS = (RAW, "float32")
_MS = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0]

_routes = FastAPI()


class _Refusal(Exception):
    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@serve.deployment
@serve.ingress(_routes)
class TailServer:
    """Runs tails: one replica is one worker thread with a queue.

    Args:
        options: Resolved options.
    """

    def __init__(self, options: ServerOptions):
        """Load the DNN and run it once."""
        torch.set_num_threads(options.threads)
        self._options = options
        self._model = model = options.load_model()
        model.warm_up()
        points = range(model.full_local)
        batches = options.max_batch > 1
        self._limits = [options.max_batch if batches and model.can_batch(i) else 1 for i in points]
        bytes_at = [sum(8 * s.example().numel() for s in model.specs(i).values()) for i in points]
        margin = _FRAME_MARGIN * (1 + max((len(model.specs(i)) for i in points), default=0))
        self._hello = Hello(
            model=model.name,
            input_shape=model.input_shape,
            heads=tuple(point.head for point in model.points),
            codec=options.codec,
            fingerprint=model.fingerprint,
            probe_digest=model.probe_digest(),
            max_frame_bytes=max(bytes_at, default=0) + margin,
            exact=not options.batch_float32,
            scheduler=options.checkpoint is not None,
        )
        self._batcher = KeyedBatcher(self._run)
        self._served = self._refused = self._waiting = 0
        self._requests = Counter("mec_requests", "Frames answered.", tag_keys=("outcome",))
        self._server_ms = Histogram("mec_server_ms", "Arrival to reply.", boundaries=_MS)
        self._batch_sizes = Histogram("mec_batch_size", "Requests run together.", [1, 2, 4, 8, 16])
        self._queue = Gauge("mec_queue_length", "Frames in this replica.")

    @_routes.get("/hello")
    def hello(self) -> dict[str, Any]:
        """Say what is served."""
        return self._hello.to_json()

    @_routes.get("/health")
    def health(self) -> dict[str, Any]:
        """Say that the replica that happens to answer is alive, and what it did."""
        return {
            "status": "ok",
            "model": self._model.name,
            "served": self._served,
            "refused": self._refused,
            "waiting": self._waiting,
        }

    @_routes.post("/infer")
    async def infer(self, request: Request) -> Response:
        """Finish a task.

        Args:
            request: Its body is a frame with the tensors at the cut.
        """
        ids = bytes(16), self._model.fingerprint
        self._waiting += 1
        self._queue.set(self._waiting)
        try:
            body = await self._body(request)
            arrived = time.perf_counter()  # a slow link is not the server's time
            frame = decode(body, self._hello.max_frame_bytes)
            ids = frame.request_id, frame.fingerprint
            leaves = await self._finish(frame)
            took = time.perf_counter() - arrived
            reply = Frame(
                RESULT,
                *ids,
                frame.point,
                tensors=result_blobs(leaves),
                server_us=round(1e6 * took),
            )
        except (FrameError, MecError) as error:
            return self._refuse(BAD_FRAME, ids, str(error))
        except _Refusal as error:
            return self._refuse(error.status, ids, str(error))
        finally:
            self._waiting -= 1
            self._queue.set(self._waiting)
        self._served += 1
        self._requests.inc(tags={"outcome": "ok"})
        self._server_ms.observe(1e3 * took)
        return Response(encode(reply), media_type=FRAME_TYPE)

    async def _body(self, request: Request) -> bytes:
        """The request's body, given up as soon as it is too long."""
        limit = self._hello.max_frame_bytes
        announced = request.headers.get("content-length", "0")
        size, chunks = 0, []
        if not announced.isdigit() or int(announced) > limit:
            raise _Refusal(TOO_LARGE, f"{announced} bytes, at most {limit} are taken")
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise _Refusal(TOO_LARGE, f"more than the {limit} bytes that are taken")
            chunks.append(chunk)
        return b"".join(chunks)

    async def _finish(self, frame: Frame) -> list[torch.Tensor]:
        if frame.kind != INFER:
            raise FrameError(f"expected a frame of kind {INFER}, got {frame.kind}")
        if frame.fingerprint != self._model.fingerprint:
            raise _Refusal(OTHER_WEIGHTS, "the server has another DNN, other weights or points")
        if frame.point >= self._model.full_local:
            raise FrameError(f"point {frame.point}, the server has 0 to {len(self._limits) - 1}")
        tensors = from_frame(frame, self._model.specs(frame.point))
        exact = frame.codec in _EXACT_CODECS and not self._options.batch_float32
        limit = 1 if exact else self._limits[frame.point]
        return await self._batcher.submit((frame.point, limit > 1), tensors, limit)

    def _run(self, key: tuple[int, bool], batch: list[Any]) -> list[list[torch.Tensor]]:
        """Run the tails of a batch, in the worker thread."""
        self._batch_sizes.observe(len(batch))
        if len(batch) > 1:
            return self._model.tail_of_batch(key[0], batch)
        return [self._model.leaves(self._model.tail(key[0], tensors)) for tensors in batch]

    def _refuse(self, status: int, ids: tuple[bytes, bytes], message: str) -> Response:
        self._refused += 1
        self._requests.inc(tags={"outcome": "refused"})
        frame = Frame(ERROR, *ids, message=message)
        return Response(encode(frame), status_code=status, media_type=FRAME_TYPE)


def tail_application(args: dict[str, Any]) -> serve.Application:
    """The application of tails, for a Serve config file.

    Args:
        args: Fields of :class:`ServerOptions`.

    Raises:
        MecError: Bad options.
    """
    return bind_tails(ServerOptions.from_dict(args).resolved())


def bind_tails(options: ServerOptions) -> serve.Application:
    """The application of tails for resolved options.

    Args:
        options: With a model, its fields filled in.
    """
    return TailServer.options(
        num_replicas=options.replicas,
        max_ongoing_requests=2 * options.max_batch,
        max_queued_requests=options.max_queue,
        ray_actor_options={"num_cpus": options.threads},
    ).bind(options)
