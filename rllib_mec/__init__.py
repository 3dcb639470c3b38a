"""rllib_mec: a Ray RLlib plugin for collaborative DNN inference in mobile edge computing.

Importing it registers the environments and algorithms of :mod:`rllib_mec.registry` with Ray by
name.
"""

from rllib_mec.plugin import register

__version__ = "0.1.0"

register()
