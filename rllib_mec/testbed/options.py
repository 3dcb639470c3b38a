"""What a MEC server is started with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rllib_mec.errors import MecError, unknown

if TYPE_CHECKING:
    from rllib_mec.policies import Policy
    from rllib_mec.testbed.split_model import SplitModel


ROW = ("finished_s", "request_id", "device", "version", "point", "codec", "bytes", "server_ms")
"""Columns of the file with a row for each task that was finished on the server."""


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """A MEC server's DNN, its scheduler, and how much of it there is.

    The field names are also the keys of ``args`` in a Ray Serve config file.

    Attributes:
        model: A torchvision model's name or ``PKG.MODULE:FACTORY``; None: the checkpoint's.
        input_shape: Shape of one input without the batch dimension.
        seed: Seed of the random weights.
        weights: File of a state dict instead.
        method: Which partition points are on offer, as in :func:`rllib_mec.dnn.partition_table`;
            with a checkpoint, they are its scenario's.
        codec: What the points' sizes are counted in; with a checkpoint, as its scenario's.
        server_model: As in :func:`rllib_mec.dnn.partition_table`; likewise.
        heads: Bit set of each point's head, instead of the three above.
        replicas: Processes that run tails.
        max_batch: Most requests of a partition point that run together.
        batch_float32: Run float32 requests together too, which changes the last bits of results.
        max_queue: Requests that may wait in a replica; beyond, the server is busy (status 503).
        threads: Threads of a replica. Results depend on it in the last bits: device alike.
        checkpoint: Of EMH-PPO or another algorithm, to decide with; None: no scheduler.
        devices: N that the checkpoint must have; None: any.
        lease_s: A device that is not heard of for so long loses its place in the scheduler.
        token_file: File of the token that every request must bring; None: that of the environment's
            ``RLLIB_MEC_TOKEN``, or none.
        csv: File to which a row is added for each task that was finished; None: none.
        deadline_s: How long the first device that asks for a window waits for the others.
        search: Other decisions that are tried in the simulator for each window; 0 does without.
        search_ms: Stop trying after so long; None: when all have been tried.

    Raises:
        MecError: A number that is out of range, or neither model nor checkpoint.
    """

    model: str | None = None
    input_shape: tuple[int, ...] = (3, 224, 224)
    seed: int = 0
    weights: str | None = None
    method: str = "pareto"
    codec: str = "float32"
    server_model: str = "constant"
    heads: tuple[int, ...] | None = None
    replicas: int = 1
    max_batch: int = 4
    batch_float32: bool = False
    max_queue: int = 32
    threads: int = 1
    checkpoint: str | None = None
    devices: int | None = None
    lease_s: float = 60.0
    token_file: str | None = None
    csv: str | None = None
    deadline_s: float = 2.0
    search: int = 0
    search_ms: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.model is None and self.checkpoint is None:
            raise MecError("give a model or a checkpoint")
        for name in ("replicas", "max_batch", "max_queue", "threads", "devices"):
            value = getattr(self, name)
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (is_whole and value >= 1):
                raise MecError(f"{name} must be a whole number of at least 1, got {value!r}")
        for name in ("deadline_s", "lease_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise MecError(f"{name} must be a positive number, got {getattr(self, name)!r}")
        is_whole = isinstance(self.search, int) and not isinstance(self.search, bool)
        if not (is_whole and self.search >= 0):
            raise MecError(f"search must be a whole number of at least 0, got {self.search!r}")
        if self.search_ms is not None and not 0 < self.search_ms < float("inf"):
            raise MecError(f"search_ms must be a positive number, got {self.search_ms!r}")
        if self.search_ms is not None and not self.search:
            raise MecError("search_ms is for a search: give the number of decisions to try too")
        if self.search and self.checkpoint is None:
            raise MecError("search is for the scheduler: give a checkpoint too")
        if self.devices is not None and self.checkpoint is None:
            raise MecError("devices is for the scheduler: give a checkpoint too")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ServerOptions:
        """Options of a Ray Serve config file.

        Args:
            values: The fields' names and values; lists stand for tuples.

        Raises:
            MecError: An unknown key, or what the constructor raises.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise unknown("server option", key, names)
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        return cls(**{**values, **lists})

    def resolved(self) -> ServerOptions:
        """The same with the DNN and the partition points of the checkpoint's scenario, if any.

        Raises:
            MecError: The checkpoint is of another DNN or another number of devices, or does not
                decide task windows.
        """
        if self.checkpoint is None:
            return self
        from rllib_mec.envs.task_window import TaskWindowMDP

        policy = self.load_policy()
        scenario = policy.scenario
        if policy.mdp.env_id != TaskWindowMDP.env_id:
            raise MecError(
                f"the checkpoint {self.checkpoint} decides time slots ({policy.mdp.env_id}),"
                f" a scheduler needs one of {TaskWindowMDP.env_id}"
            )
        if "devices" in scenario.unlike:
            raise MecError(
                f"the checkpoint {self.checkpoint} was trained for unlike devices"
                f" ({scenario.caption}), but a server has one DNN for all, and gives its places"
                " to devices as they come: expected one of equal devices"
            )
        [dnn] = scenario.dnns
        if self.model not in (None, dnn):
            raise MecError(
                f"the checkpoint {self.checkpoint} was trained for {dnn!r}, not for {self.model!r}"
            )
        if self.devices not in (None, scenario.num_devices):
            raise MecError(
                f"the checkpoint {self.checkpoint} was trained for {scenario.num_devices} devices,"
                f" not for {self.devices}"
            )
        codec = {32: "float32", 16: "float16", 8: "int8", 4: "int4"}.get(scenario.feature_bits)
        if codec is None:
            raise MecError(
                f"the checkpoint {self.checkpoint} was trained with feature_bits"
                f" {scenario.feature_bits}, for which there is no codec"
            )
        return dataclasses.replace(
            self,
            model=dnn,
            codec=codec,
            heads=tuple(point.head for point in scenario.table.points),
            devices=scenario.num_devices,
        )

    def load_model(self) -> SplitModel:
        """The DNN, of resolved options.

        It raises what :meth:`~rllib_mec.testbed.split_model.SplitModel.load` does.
        """
        from rllib_mec.testbed.split_model import SplitModel

        assert self.model is not None, "resolve the options first"
        return SplitModel.load(
            self.model,
            self.input_shape,
            seed=self.seed,
            weights=self.weights,
            method=self.method,
            codec=self.codec,
            server_model=self.server_model,
            heads=self.heads,
        )

    def load_policy(self) -> Policy:
        """The checkpoint's policy, with the search that was asked for.

        Raises what :func:`rllib_mec.policies.load_policy` does.
        """
        from rllib_mec.policies import Lookahead, load_policy

        assert self.checkpoint is not None, "there is no checkpoint"
        policy = load_policy(self.checkpoint)
        if not self.search:
            return policy
        return Lookahead(policy, self.search, budget_ms=self.search_ms)
