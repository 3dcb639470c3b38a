"""The command line: ``rllib`` and ``rllib-mec``."""
