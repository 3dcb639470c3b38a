"""What a server is started with, from a Serve config file."""

from __future__ import annotations

import pytest
import tiny_model

from rllib_mec.errors import MecError
from rllib_mec.testbed.options import ServerOptions


def test_a_config_file_has_lists_where_options_have_tuples():
    values = {"model": tiny_model.PATH, "input_shape": [3, 16, 16], "max_queue": 64}
    options = ServerOptions.from_dict(values)
    assert options == ServerOptions(tiny_model.PATH, (3, 16, 16), max_queue=64)
    assert options.resolved() is options
    assert options.load_model().input_shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": "resnet50"}, "unknown server option 'modle': did you mean 'model'?"),
        ({}, "give a model or a checkpoint"),
        ({"model": "resnet50", "replicas": 0}, "replicas must be a whole number"),
        ({"model": "resnet50", "max_queue": 2.5}, "max_queue must be a whole number"),
        ({"model": "resnet50", "threads": True}, "threads must be a whole number"),
        ({"model": "resnet50", "deadline_s": float("nan")}, "deadline_s must be a positive"),
        ({"model": "resnet50", "search": 8}, "search is for the scheduler: give a checkpoint"),
        ({"checkpoint": "x", "search": -1}, "search must be a whole number of at least 0"),
        ({"checkpoint": "x", "search_ms": 5.0}, "search_ms is for a search"),
        ({"checkpoint": "x", "search": 8, "search_ms": 0.0}, "search_ms must be a positive"),
    ],
)
def test_bad_options_are_refused_in_one_line(values, message):
    with pytest.raises(MecError) as caught:
        ServerOptions.from_dict(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
