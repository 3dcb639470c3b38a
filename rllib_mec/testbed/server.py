"""The MEC server on Ray Serve: the application that runs tails of a DNN.

``rllib-mec server`` runs them on this machine. On a cluster they are deployed by a Serve config
file (``serve deploy FILE``), where replicas, autoscaling and resources are set as for any Serve
application::

    proxy_location: EveryNode
    applications:
    - name: tail
      route_prefix: /
      import_path: rllib_mec.testbed.server:tail_application
      args: {checkpoint: /shared/emh-ppo, token_file: /shared/token}  # or model: NAME
      deployments:
      - name: TailServer
        autoscaling_config: {min_replicas: 1, max_replicas: 16}
    - name: scheduler
      route_prefix: /schedule
      import_path: rllib_mec.testbed.scheduler_server:scheduler_application
      args: {checkpoint: /shared/emh-ppo, token_file: /shared/token}

Routes: ``POST /infer`` takes and returns a binary frame (:mod:`rllib_mec.testbed.frames`); ``GET
/hello`` and ``GET /health`` return JSON. Status 503 means that the queue is full, and
``Retry-After`` when to come again. ``GET /v2/health/live``, ``/v2/health/ready`` and
``/v2/models/NAME/ready`` are those of KServe's protocol V2, which Triton has, too.
"""

# No "from __future__ import annotations": FastAPI needs the types, and Serve moves the methods; it
# does so where the class stands, so that what they use must stand before it.

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI, HTTPException, Request, Response
from ray import serve
from ray.serve.metrics import Counter, Gauge, Histogram

from rllib_mec.errors import MecError, named, one_line
from rllib_mec.testbed.access import check_token, read_token
from rllib_mec.testbed.batching import KeyedBatcher, QueueFull
from rllib_mec.testbed.client import FRAME_TYPE
from rllib_mec.testbed.door import BUSY, RULES, Door, device_of, retry_after
from rllib_mec.testbed.frames import (
    ERROR,
    INFER,
    MAX_FRAME_BYTES,
    RAW,
    RESULT,
    Frame,
    FrameError,
    decode,
    encode,
)
from rllib_mec.testbed.hello import Hello
from rllib_mec.testbed.loopback import keep_replica_on_loopback
from rllib_mec.testbed.options import ROW, ServerOptions
from rllib_mec.testbed.rows import SharedRows
from rllib_mec.testbed.sources import Source, Sources
from rllib_mec.testbed.tensors import from_frame, result_blobs
from rllib_mec.testbed.versions import Version, Versions

BAD_FRAME, NOT_FOUND, OTHER_WEIGHTS, FAILED = 400, 404, 409, 500
"""HTTP statuses of what the server refuses, and of its own failures."""

MANY = 10_000
"""Requests that Serve lets into a replica, whose queue is bounded by ``max_queue`` instead."""

_FRAME_MARGIN = 1024  # header of a frame, and of each of its tensors
_EXACT_CODECS = (RAW, "float32")
_MS = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0]

_routes = FastAPI(openapi_url=None)
_routes.add_middleware(Door)
_log = logging.getLogger("ray.serve")


class _Refusal(Exception):
    def __init__(self, status: int, message: str, retry_after_s: float | None = None):
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


def _longest_frame(version: Version) -> int:
    """What the DNN can need at any of its points."""
    specs = [version.model.specs(point) for point in range(version.model.full_local)]
    sizes = [sum(8 * spec.example().numel() for spec in each.values()) for each in specs]
    longest = max(sizes, default=0) + _FRAME_MARGIN * (1 + max(map(len, specs), default=0))
    return min(longest, MAX_FRAME_BYTES)


@serve.deployment
@serve.ingress(_routes)
class TailServer:
    """Runs tails: one replica is one worker thread with a queue.

    Args:
        options: Resolved options.
        sources: Folder of the kept versions' sources; None: the options say all.
    """

    def __init__(self, options: ServerOptions, sources: Path | None = None):
        """Load the DNN, all versions of it that are answered, and run it once."""
        keep_replica_on_loopback()
        torch.set_num_threads(options.threads)
        self._options, self._sources = options, Sources(sources, options)
        kept = self._sources.kept() or [Source(1, b"", options)]
        self._versions = Versions(*(self._load(each.number, each.options) for each in kept))
        self._loading = asyncio.Lock()
        newest = self._versions.newest
        RULES.token, RULES.max_bytes = read_token(options.token_file), _longest_frame(newest)
        self._rows = SharedRows(options.csv, ROW) if options.csv else None
        self._batcher = KeyedBatcher(self._run, options.max_queue)
        self._served = self._refused = self._waiting = self._rows_lost = 0
        self._requests = Counter("mec_requests", "Frames answered.", tag_keys=("outcome",))
        self._server_ms = Histogram("mec_server_ms", "Arrival to reply.", boundaries=_MS)
        self._batch_sizes = Histogram("mec_batch_size", "Requests run together.", [1, 2, 4, 8, 16])
        self._queue = Gauge("mec_queue_length", "Frames in this replica.")
        self._version = Gauge("mec_version", "Version of the weights.")
        self._hello = self._make_hello()

    def _make_hello(self) -> Hello:
        model, options = self._versions.newest.model, self._options
        return Hello(
            model=model.name,
            input_shape=model.input_shape,
            heads=tuple(point.head for point in model.points),
            codec=options.codec,
            fingerprint=model.fingerprint,
            probe_digest=model.probe_digest(),
            max_frame_bytes=RULES.max_bytes,
            exact=not options.batch_float32,
            scheduler=options.checkpoint is not None,
            older=self._versions.older,
        )

    async def reload(self, number: int) -> str:
        """Load the weights again; requests that came before finish on those that they began with.

        Args:
            number: Of the new version.

        Returns:
            What went wrong, so that the old version goes on; empty if nothing.
        """
        async with self._loading:
            if number <= self._versions.newest.number:
                return ""
            options, loop = self._sources.of(number), asyncio.get_running_loop()
            try:
                version = await loop.run_in_executor(None, self._load, number, options)
            except MecError as error:
                return str(error)
            self._versions.add(version)
            self._hello = self._make_hello()
            return ""

    def _load(self, number: int, options: ServerOptions) -> Version:
        return Version.of(number, options.load_model(), options.max_batch)

    async def check_health(self) -> None:
        """Serve asks now and then: load what came while this replica was starting."""
        for source in self._sources.kept()[-1:]:
            if problem := await self.reload(source.number):
                _log.error("%s", problem)

    async def drain(self) -> None:
        """Take no more tasks, and finish those at hand."""
        await RULES.drain()

    @_routes.get("/hello")
    def hello(self) -> dict[str, Any]:
        """Say what is served."""
        return self._hello.to_json()

    @_routes.get("/health")
    def health(self) -> dict[str, Any]:
        """Say that the replica that happens to answer is alive, and what it did."""
        return {
            "status": "ok",
            "model": self._hello.model,
            "version": self._versions.newest.number,
            "served": self._served,
            "refused": self._refused,
            "waiting": self._waiting,
            "rows_lost": self._rows_lost,
        }

    @_routes.get("/v2/health/live")
    def live(self) -> dict[str, bool]:
        """Say that the process answers."""
        return {"live": True}

    @_routes.get("/v2/health/ready")
    def ready(self) -> dict[str, bool]:
        """Say that tasks can be sent: the DNN has been loaded before Serve lets anybody in."""
        return {"ready": True}

    @_routes.get("/v2/models/{name}/ready")
    def model_ready(self, name: str) -> dict[str, Any]:
        """Say whether a DNN is served.

        Args:
            name: The DNN's.
        """
        if name != self._hello.model:
            raise HTTPException(NOT_FOUND, f"it serves {self._hello.model!r}")
        return {"name": name, "ready": True}

    @_routes.post("/infer")
    async def infer(self, request: Request) -> Response:
        """Finish a task.

        Args:
            request: Its body is a frame with the tensors at the cut.
        """
        ids = bytes(16), self._hello.fingerprint
        device = device_of(request.headers)
        body = await request.body()
        arrived = time.perf_counter()  # a slow link is not the server's time
        self._waiting += 1
        self._queue.set(self._waiting)
        try:
            frame = decode(body, RULES.max_bytes)
            ids = frame.request_id, frame.fingerprint
            version, leaves = await self._finish(frame, device)
        except (FrameError, MecError) as error:
            return self._refuse(_Refusal(BAD_FRAME, str(error)), ids)
        except QueueFull as full:
            return self._refuse(_Refusal(BUSY, str(full), full.retry_after_s), ids)
        except _Refusal as refusal:
            return self._refuse(refusal, ids)
        except Exception as error:  # of the user's DNN; who sent the task must hear of it
            _log.exception("a task failed")
            return self._refuse(_Refusal(FAILED, one_line(named(error))), ids)
        finally:
            self._waiting -= 1
            self._queue.set(self._waiting)
        took = time.perf_counter() - arrived
        reply = Frame(
            RESULT, *ids, frame.point, tensors=result_blobs(leaves), server_us=round(1e6 * took)
        )
        self._count(frame, device, version, len(body), 1e3 * took)
        return Response(encode(reply), media_type=FRAME_TYPE)

    async def _finish(self, frame: Frame, device: str) -> tuple[Version, list[torch.Tensor]]:
        if frame.kind != INFER:
            raise FrameError(f"expected a frame of kind {INFER}, got {frame.kind}")
        version = self._versions.of(frame.fingerprint)
        if version is None:
            raise _Refusal(OTHER_WEIGHTS, "the server has another DNN, other weights or points")
        if frame.point >= version.model.full_local:
            raise FrameError(f"point {frame.point}, the server has 0 to {len(version.limits) - 1}")
        tensors = from_frame(frame, version.model.specs(frame.point))
        exact = frame.codec in _EXACT_CODECS and not self._options.batch_float32
        limit = 1 if exact else version.limits[frame.point]
        key = version, frame.point, limit > 1
        return version, await self._batcher.submit(key, tensors, limit, device)

    def _run(self, key: tuple[Version, int, bool], batch: list[Any]) -> list[list[torch.Tensor]]:
        """Run the tails of a batch, in the worker thread."""
        self._batch_sizes.observe(len(batch))
        model, point = key[0].model, key[1]
        if len(batch) > 1:
            return model.tail_of_batch(point, batch)
        return [model.leaves(model.tail(point, tensors)) for tensors in batch]

    def _count(
        self, frame: Frame, device: str, version: Version, num_bytes: int, took_ms: float
    ) -> None:
        self._served += 1
        self._requests.inc(tags={"outcome": "ok"})
        self._server_ms.observe(took_ms)
        self._version.set(self._versions.newest.number)
        if self._rows is None:
            return
        request_id, finished_s = frame.request_id.hex(), f"{time.time():.6f}"
        values = (finished_s, request_id, device, version.number, frame.point, frame.codec)
        try:
            self._rows.add(dict(zip(ROW, (*values, num_bytes, round(took_ms, 3)), strict=True)))
        except MecError as error:
            if not self._rows_lost:
                _log.error("%s; tasks are finished all the same", error)
            self._rows_lost += 1

    def _refuse(self, refusal: _Refusal, ids: tuple[bytes, bytes]) -> Response:
        self._refused += 1
        outcome = {BUSY: "busy", FAILED: "failed"}.get(refusal.status, "refused")
        self._requests.inc(tags={"outcome": outcome})
        frame = encode(Frame(ERROR, *ids, message=str(refusal)))
        headers = retry_after(refusal.retry_after_s)
        return Response(frame, refusal.status, headers, media_type=FRAME_TYPE)


def tail_application(args: dict[str, Any]) -> serve.Application:
    """The application of tails, for a Serve config file.

    Args:
        args: Fields of :class:`ServerOptions`.

    Raises:
        MecError: Bad options, or no token: where Serve listens is not known here.
    """
    options = ServerOptions.from_dict(args).resolved()
    check_token(read_token(options.token_file), "where Serve's config file says")
    return bind_tails(options)


def bind_tails(options: ServerOptions, sources: Path | None = None) -> serve.Application:
    """The application of tails for resolved options.

    Args:
        options: With a model, its fields filled in.
        sources: As of :class:`TailServer`.
    """
    return TailServer.options(
        num_replicas=options.replicas,
        max_ongoing_requests=MANY,
        ray_actor_options={"num_cpus": options.threads},
    ).bind(options, sources)
