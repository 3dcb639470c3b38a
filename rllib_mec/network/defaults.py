"""What a scenario takes where its fields are left open, and checks of what depends on the DNN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rllib_mec.errors import MecError

PROFILES: dict[str, dict[str, Any]] = {
    "paper": {
        "bandwidth_hz": 1e6,
        "max_power_dbm": 30.0,
        "feature_bits": 32,
        "server_model": "constant",
    },
    "si": {
        "bandwidth_hz": 20e6,
        "max_power_dbm": 23.0,
        "feature_bits": 8,
        "server_model": "share",
    },
}
"""Defaults of the fields in which the two physics profiles differ."""

SERVER_LATENCY_MS = {"resnet50": 8.603, "googlenet": 5.11, "mobilenet_v2": 4.10}
"""L0 of the paper's DNNs: ResNet-50's from Table IV, the others inferred from Table V at N = 1."""

INDEPENDENT, CORRELATED = "independent", "correlated"
"""Kinds of shadowing."""

WALKING_MPS = 3.0 / 3.6
"""3 km/h, the speed of pedestrians in 3GPP TR 38.901."""


def server_latency_of(
    path: str, dnn: str, dnn_input: tuple[int, ...] | None, given: float | None
) -> float:
    """L0 of a DNN, as given or the paper's; checks that there is such a DNN.

    Args:
        path: Of the group, for errors; ``""`` for the scenario itself.
        dnn: The DNN's name.
        dnn_input: Shape of its input without the batch, if given.
        given: L0 in ms, if given.

    Raises:
        MecError: There is no such DNN, or its L0 is not known.
    """
    if dnn in SERVER_LATENCY_MS and dnn_input is None:
        return SERVER_LATENCY_MS[dnn] if given is None else given
    from rllib_mec.dnn.models import check_dnn

    try:
        check_dnn(dnn, dnn_input)
    except MecError as error:
        raise MecError(f"{path}dnn: {error}" if path else str(error)) from None
    if given is None:
        raise MecError(
            f"{path}server_latency_ms of {dnn} is not known: give it in ms (the latency of "
            f"the whole DNN on a server); known for {', '.join(SERVER_LATENCY_MS)}"
        )
    return given


def check_profile(name: str, path: str | None) -> None:
    """Check that a measured profile can be read from any folder.

    Args:
        name: The field, for errors.
        path: What was given.

    Raises:
        MecError: The path is not absolute, or there is no file.
    """
    if path is not None and not Path(path).is_absolute():
        raise MecError(
            f"{name} must be an absolute path, as Ray's workers run in another folder, "
            f"but is {path!r}; did you mean {str(Path(path).absolute())!r}?"
        )
    if path is not None and not Path(path).is_file():
        raise MecError(f"{name}: no such file {path!r}")
