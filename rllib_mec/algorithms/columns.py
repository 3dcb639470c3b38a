"""Names of a train batch's columns, besides those of RLlib and of the action's heads."""

TASK_LOGP = "task_logp"
WINDOW_LOGP = "window_logp"
PLAYED = "played"
WINDOW_ADVANTAGES = "window_advantages"
