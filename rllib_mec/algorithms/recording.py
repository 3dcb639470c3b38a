"""Writes sampled episodes to files, as ``config.offline_data(output=...)`` says."""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Any

from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.compression import pack_if_needed
from typing_extensions import Self


class EpisodeRecorder:
    """Writes what RLlib's ``OfflineSingleAgentEnvRunner`` would, which needs a Gymnasium env.

    A file holds packed episodes (``output_write_episodes``, for RLlib's offline algorithms), or a
    row for each step, with the columns of RLlib and the other outputs of the policy. A fragment
    that was cut is an episode of its own, with the ``id_`` of the whole.

    Args:
        config: The algorithm's config, with an ``output``.
        worker_index: The env runner's.
    """

    def __init__(self, config: Any, worker_index: int):
        """Open the file system."""
        self._config = config
        self._folder = pathlib.Path(config.output) / str(config.env)
        self._run = f"run-{worker_index:06d}"
        self._files = 0
        self._rows: list[Any] = []
        kwargs = config.output_filesystem_kwargs or {}
        self._filesystem = None
        if config.output_filesystem == "gcs":
            import gcsfs  # type: ignore[import-not-found]

            self._filesystem = gcsfs.GCSFileSystem(**kwargs)
        elif config.output_filesystem == "s3":
            from pyarrow import fs

            self._filesystem = fs.S3FileSystem(**kwargs)
        elif config.output_filesystem == "abs":
            import adlfs  # type: ignore[import-not-found]

            self._filesystem = adlfs.AzureBlobFileSystem(**kwargs)

    @classmethod
    def of(cls, config: Any, worker_index: int) -> Self | None:
        """The recorder that a config asks for, or ``None``; evaluation is not recorded.

        Args:
            config: The algorithm's config.
            worker_index: The env runner's.
        """
        if not config.output or config.in_evaluation:
            return None
        return cls(config, worker_index)

    def add(self, episodes: list[SingleAgentEpisode]) -> None:
        """Record episodes, and write them unless a file is to have more rows.

        Args:
            episodes: With arrays inside.
        """
        for episode in episodes:
            self._rows += (
                self._packed(episode)
                if self._config.output_write_episodes
                else (self._steps(episode))
            )
        most = self._config.output_max_rows_per_file
        if most is None:
            self._write(self._rows)
            self._rows = []
            return
        while len(self._rows) >= most:
            self._write(self._rows[:most])
            self._rows = self._rows[most:]

    def close(self) -> None:
        """Write the rows left over, where ``output_write_remaining_data`` says so."""
        if self._rows and self._config.output_write_remaining_data:
            self._write(self._rows)
        self._rows = []

    def _packed(self, episode: SingleAgentEpisode) -> list[Any]:
        import msgpack  # type: ignore[import-not-found]
        import msgpack_numpy  # type: ignore[import-not-found]

        return [msgpack.packb(episode.get_state(), default=msgpack_numpy.encode)]

    def _steps(self, episode: SingleAgentEpisode) -> list[dict[str, Any]]:
        compressed = self._config.output_compress_columns

        def column(name: str, value: Any) -> Any:
            return pack_if_needed(value) if name in compressed else value

        rows = []
        for t in range(len(episode)):
            last = t == len(episode) - 1
            rows.append(
                {
                    Columns.EPS_ID: episode.id_,
                    Columns.AGENT_ID: episode.agent_id,
                    Columns.MODULE_ID: episode.module_id,
                    Columns.OBS: column(Columns.OBS, episode.get_observations(t)),
                    Columns.ACTIONS: column(Columns.ACTIONS, episode.get_actions(t)),
                    Columns.REWARDS: episode.get_rewards(t),
                    # As RLlib does, a next observation is compressed like an observation.
                    Columns.NEXT_OBS: column(Columns.OBS, episode.get_observations(t + 1)),
                    Columns.TERMINATEDS: last and episode.is_terminated,
                    Columns.TRUNCATEDS: last and episode.is_truncated,
                    **{
                        name: column(name, episode.get_extra_model_outputs(name, t))
                        for name in episode.extra_model_outputs
                    },
                }
            )
        return rows

    def _write(self, rows: list[Any]) -> None:
        import ray.data

        self._files += 1
        path = self._folder / f"{self._run}-{self._files:06d}"
        one_file = ray.data.from_items(rows, override_num_blocks=1)
        write = getattr(one_file, self._config.output_write_method)
        kwargs = {"filesystem": self._filesystem, **self._config.output_write_method_kwargs}
        write(path.as_posix(), **kwargs)


def can_pack_episodes() -> bool:
    """Whether the packages that pack whole episodes are installed."""
    return all(importlib.util.find_spec(name) for name in ("msgpack", "msgpack_numpy"))
