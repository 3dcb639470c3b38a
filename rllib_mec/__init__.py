"""rllib_mec: a Ray RLlib plugin for collaborative DNN inference in mobile edge computing.

Importing it registers the environments and algorithms of :mod:`rllib_mec.registry` with Ray by
name. A part of your own gets its name by one of the ``register_...`` functions.
"""

from rllib_mec.plugin import (
    register,
    register_algorithm,
    register_dnn,
    register_env,
    register_policy,
)
from rllib_mec.tables import load_plugins

__all__ = [
    "load_plugins",
    "register_algorithm",
    "register_dnn",
    "register_env",
    "register_policy",
]

__version__ = "0.1.0"

register()
