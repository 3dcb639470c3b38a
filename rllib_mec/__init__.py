"""rllib_mec: a Ray RLlib plugin for collaborative DNN inference in mobile edge computing."""

__version__ = "0.1.0"
