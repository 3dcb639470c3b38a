"""Names of a train batch's columns, besides those of RLlib and of the action's heads."""

from rllib_mec.algorithms.distributions import HEADS

HEAD_LOGP = {head: f"{head}_logp" for head in HEADS}
PLAYED = "played"
WINDOW_ADVANTAGES = "window_advantages"
CREDIT = "credit"
