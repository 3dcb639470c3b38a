"""The error of a training whose numbers are no longer finite."""


class TrainingDiverged(RuntimeError):
    """Weights, losses or decisions became infinite or NaN: the algorithm's failure, not a user's.

    A smaller learning rate, ``grad_clip`` or ``clip_param`` may help.
    """
