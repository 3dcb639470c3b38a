"""The scheduler on Ray Serve: the application that decides task windows with a trained policy.

Routes: ``POST /schedule/register``, ``/schedule/window`` and ``/schedule/leave``, and ``GET
/schedule/health``, all JSON; :mod:`rllib_mec.testbed.scheduler` says what they do.
"""

# No "from __future__ import annotations": FastAPI needs the types, and Serve moves the methods.

from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from ray import serve
from ray.serve.metrics import Counter

from rllib_mec.errors import MecError
from rllib_mec.testbed.options import ServerOptions
from rllib_mec.testbed.scheduler import UnknownDeviceError, WindowScheduler

BAD_REQUEST, UNKNOWN_DEVICE, NO_PLACE = 400, 404, 409
"""HTTP statuses of what the scheduler refuses."""

_routes = FastAPI()


class Registration(BaseModel):
    """Body of ``/schedule/register``; heads in hexadecimal."""

    device: str
    model: str
    heads: list[str]
    distance_m: float


class WindowRequest(BaseModel):
    """Body of ``/schedule/window``."""

    device: str
    sequence: int
    remaining: int
    distance_m: float


class Leave(BaseModel):
    """Body of ``/schedule/leave``."""

    device: str


@serve.deployment
@serve.ingress(_routes)
class SchedulerServer:
    """Decides the task windows of all devices with a trained policy; one replica, as it has state.

    Args:
        options: Resolved options with a checkpoint.
    """

    def __init__(self, options: ServerOptions):
        """Load the policy."""
        self._options = options
        self._scheduler = WindowScheduler(options.load_policy(), options.deadline_s)
        self._windows = Counter("mec_windows", "Task windows handed out.", tag_keys=("absent",))

    @_routes.post("/register")
    async def register(self, request: Registration) -> dict[str, Any]:
        """Give a device a place.

        Args:
            request: Who asks, for which DNN, and from where.
        """
        heads = tuple(f"{head:x}" for head in self._options.heads or ())
        if request.model != self._options.model or tuple(request.heads) != heads:
            raise HTTPException(NO_PLACE, f"it decides for {self._options.model!r} and its points")
        try:
            index = self._scheduler.register(request.device, request.distance_m)
        except MecError as error:
            raise HTTPException(NO_PLACE, str(error)) from None
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
                request.device, request.sequence, request.remaining, request.distance_m
            )
        except UnknownDeviceError as error:
            raise HTTPException(UNKNOWN_DEVICE, str(error)) from None
        except MecError as error:
            raise HTTPException(BAD_REQUEST, str(error)) from None
        self._windows.inc(tags={"absent": str(len(answer["absent"]))})
        return answer

    @_routes.post("/leave")
    async def leave(self, request: Leave) -> dict[str, Any]:
        """Free a device's place.

        Args:
            request: Who leaves.
        """
        self._scheduler.leave(request.device)
        return {}

    @_routes.get("/health")
    async def health(self) -> dict[str, Any]:
        """Say that it is alive, and for whom it decides."""
        return {
            "status": "ok",
            "devices": self._scheduler.devices,
            "windows": self._scheduler.window,
        }


def scheduler_application(args: dict[str, Any]) -> serve.Application:
    """The application of the scheduler, for a Serve config file.

    Args:
        args: Fields of :class:`ServerOptions`, with a checkpoint.

    Raises:
        MecError: Bad options.
    """
    return bind_scheduler(ServerOptions.from_dict(args).resolved())


def bind_scheduler(options: ServerOptions) -> serve.Application:
    """The application of the scheduler for resolved options.

    Args:
        options: With a checkpoint, its fields filled in from it.
    """
    return SchedulerServer.options(
        num_replicas=1,
        max_ongoing_requests=max(100, 4 * (options.devices or 1)),  # they wait for each other
        ray_actor_options={"num_cpus": 0},
    ).bind(options)
