"""Names of what episodes and train batches hold, besides those of RLlib and the action's heads."""

TASK_LOGP = "task_logp"
WINDOW_LOGP = "window_logp"
PLAYED = "played"
TASK_REWARDS = "task_rewards"
WINDOW_ADVANTAGES = "window_advantages"
CREDIT = "credit"
SCENARIO = "scenario"
