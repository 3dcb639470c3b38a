"""Load, check and run an experiment; its results and checkpoints."""
