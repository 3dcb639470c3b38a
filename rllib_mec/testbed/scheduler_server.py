"""The scheduler on Ray Serve: the application that decides task windows with a trained policy.

Routes: ``POST /schedule/register``, ``/schedule/window`` and ``/schedule/leave``, and ``GET
/schedule/health``, all JSON; :mod:`rllib_mec.testbed.scheduler` says what they do. ``GET
/schedule/v2/health/live`` and ``/schedule/v2/health/ready`` are KServe's.
"""

# No "from __future__ import annotations": FastAPI needs the types, and Serve moves the methods.

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.metrics import Counter, Gauge

from rllib_mec.errors import MecError
from rllib_mec.testbed.access import MAX_DEVICE_NAME, check_token, read_token
from rllib_mec.testbed.door import RULES, Door
from rllib_mec.testbed.loopback import keep_replica_on_loopback
from rllib_mec.testbed.options import ServerOptions
from rllib_mec.testbed.scheduler import TakenError, UnknownDeviceError, WindowScheduler
from rllib_mec.testbed.server import MANY
from rllib_mec.testbed.sources import Source, Sources

BAD_REQUEST, UNKNOWN_DEVICE, OTHER_DNN, INVALID, TAKEN = 400, 404, 409, 422, 423
"""HTTP statuses of what the scheduler refuses."""

_MAX_BODY_BYTES = 2**20  # the heads of 10 000 points and 800 operators
_MAX_DISTANCE_M, _MAX_TASKS, _MAX_SEQUENCE = 1e6, 10**9, 2**53

_routes = FastAPI(openapi_url=None)
_routes.add_middleware(Door)

Name = Annotated[str, Field(max_length=MAX_DEVICE_NAME, pattern=r"^[\w.:@-]+$")]
Identity = Annotated[str, Field(max_length=64, pattern=r"^[0-9a-f]{16,}$")]
Distance = Annotated[float, Field(gt=0, le=_MAX_DISTANCE_M, allow_inf_nan=False)]
Head = Annotated[str, Field(max_length=16_384, pattern=r"^[0-9a-f]+$")]


class _Body(BaseModel):
    """What all bodies have: who sends it, and nothing that is not asked for."""

    model_config = ConfigDict(extra="forbid")

    device: Name
    identity: Identity


class Registration(_Body):
    """Body of ``/schedule/register``; heads in hexadecimal."""

    model: Annotated[str, Field(max_length=256)]
    heads: Annotated[list[Head], Field(max_length=10_000)]
    distance_m: Distance


class WindowRequest(_Body):
    """Body of ``/schedule/window``."""

    sequence: Annotated[int, Field(ge=0, le=_MAX_SEQUENCE, strict=True)]
    remaining: Annotated[int, Field(ge=1, le=_MAX_TASKS, strict=True)]
    distance_m: Distance


class Leave(_Body):
    """Body of ``/schedule/leave``."""


@_routes.exception_handler(RequestValidationError)
async def _say_what_is_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    """The first thing that is wrong, in a line; never what was sent, which may be long."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    return JSONResponse({"detail": f"{where:.80}: {first['msg']}"}, INVALID)


@serve.deployment
@serve.ingress(_routes)
class SchedulerServer:
    """Decides the task windows of all devices with a trained policy; one replica, as it has state.

    Args:
        options: Resolved options with a checkpoint.
        sources: Folder of the kept versions' sources; None: the options say all.
    """

    def __init__(self, options: ServerOptions, sources: Path | None = None):
        """Load the policy."""
        keep_replica_on_loopback()
        self._options, self._sources = options, Sources(sources, options)
        RULES.token, RULES.max_bytes = read_token(options.token_file), _MAX_BODY_BYTES
        newest = (self._sources.kept() or [Source(1, b"", options)])[-1]
        self._version = newest.number
        policy = newest.options.load_policy()
        self._scheduler = WindowScheduler(policy, options.deadline_s, options.lease_s)
        self._windows = Counter("mec_windows", "Task windows handed out.", tag_keys=("absent",))
        self._devices = Gauge("mec_devices", "Devices that have a place.")

    async def reload(self, number: int) -> str:
        """Load the checkpoint again, for the next window.

        Args:
            number: Of the new version.

        Returns:
            What went wrong, so that the old version goes on; empty if nothing.
        """
        load, loop = self._sources.of(number).load_policy, asyncio.get_running_loop()
        try:
            self._scheduler.use(await loop.run_in_executor(None, load))
        except MecError as error:
            return str(error)
        self._version = number
        return ""

    async def drain(self) -> None:
        """Let nobody ask any more, and answer those who did."""
        await RULES.drain()

    @_routes.post("/register")
    async def register(self, request: Registration) -> dict[str, Any]:
        """Give a device a place.

        Args:
            request: Who asks, for which DNN, and from where.
        """
        heads = tuple(f"{head:x}" for head in self._options.heads or ())
        if request.model != self._options.model or tuple(request.heads) != heads:
            raise HTTPException(OTHER_DNN, f"it decides for {self._options.model!r} and its points")
        try:
            index = self._scheduler.register(request.device, request.identity, request.distance_m)
        except TakenError as error:
            raise HTTPException(TAKEN, str(error)) from None
        self._devices.set(len(self._scheduler.devices))
        return {
            "index": index,
            "num_devices": self._options.devices,
            "deadline_ms": 1e3 * self._options.deadline_s,
            "codec": self._options.codec,
        }

    @_routes.post("/window")
    async def window(self, request: WindowRequest) -> dict[str, Any]:
        """Decide a device's next window, together with the others'.

        Args:
            request: Who asks, and its state.
        """
        try:
            answer = await self._scheduler.ask(
                request.device,
                request.identity,
                request.sequence,
                request.remaining,
                request.distance_m,
            )
        except UnknownDeviceError as error:
            raise HTTPException(UNKNOWN_DEVICE, str(error)) from None
        except MecError as error:
            raise HTTPException(BAD_REQUEST, str(error)) from None
        self._windows.inc(tags={"absent": str(len(answer["absent"]))})
        self._devices.set(len(self._scheduler.devices))
        return answer

    @_routes.post("/leave")
    async def leave(self, request: Leave) -> dict[str, Any]:
        """Free a device's place.

        Args:
            request: Who leaves.
        """
        try:
            self._scheduler.leave(request.device, request.identity)
        except UnknownDeviceError as error:
            raise HTTPException(UNKNOWN_DEVICE, str(error)) from None
        self._devices.set(len(self._scheduler.devices))
        return {}

    @_routes.get("/v2/health/live")
    def live(self) -> dict[str, bool]:
        """Say that the process answers."""
        return {"live": True}

    @_routes.get("/v2/health/ready")
    def ready(self) -> dict[str, bool]:
        """Say that it decides."""
        return {"ready": True}

    @_routes.get("/health")
    async def health(self) -> dict[str, Any]:
        """Say that it is alive, and for whom it decides."""
        return {
            "status": "ok",
            "devices": self._scheduler.devices,
            "windows": self._scheduler.window,
            "version": self._version,
        }


def scheduler_application(args: dict[str, Any]) -> serve.Application:
    """The application of the scheduler, for a Serve config file.

    Args:
        args: Fields of :class:`ServerOptions`, with a checkpoint.

    Raises:
        MecError: Bad options, or no token: where Serve listens is not known here.
    """
    options = ServerOptions.from_dict(args).resolved()
    check_token(read_token(options.token_file), "where Serve's config file says")
    return bind_scheduler(options)


def bind_scheduler(options: ServerOptions, sources: Path | None = None) -> serve.Application:
    """The application of the scheduler for resolved options.

    Args:
        options: With a checkpoint, its fields filled in from it.
        sources: As of :class:`SchedulerServer`.
    """
    return SchedulerServer.options(
        num_replicas=1,
        max_ongoing_requests=MANY,  # devices wait for each other
        ray_actor_options={"num_cpus": 0},
    ).bind(options, sources)
