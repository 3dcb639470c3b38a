"""An MDP of a user's, for commands that take one by its class path."""

import dataclasses

from rllib_mec.envs import TaskWindowMDP


@dataclasses.dataclass(frozen=True)
class Deadline(TaskWindowMDP):
    """Task windows that cost what they are late besides."""

    env_id = "deadline_test_v0"

    deadline_ms: float = 50.0

    def task_rewards(self, outcome):
        """Eq. (8)'s shares, less what is late in equal parts."""
        late_ms = (outcome.latency_ms - self.deadline_ms).clip(min=0.0)
        return super().task_rewards(outcome) - late_ms[:, None] / self.scenario.max_window

    def __str__(self):
        """What a table says of it, besides the scenario."""
        return f"{super().__str__()} due in {self.deadline_ms:g} ms"
