"""What tests of the real server ask it with; the server itself is a fixture of conftest.py."""

from __future__ import annotations

import os

import torch

from rllib_mec.dnn import build_model
from rllib_mec.testbed.access import Access
from rllib_mec.testbed.client import FRAME_TYPE, ServerClient
from rllib_mec.testbed.decisions import Fixed
from rllib_mec.testbed.device import Device, load_from
from rllib_mec.testbed.frames import INFER, Frame
from rllib_mec.testbed.tensors import to_blobs

PATIENT_S = 60.0
LATE = 5  # the tail is one linear layer: requests cost the protocol rather than the DNN
NUM_TASKS = 20
TOKEN = "0123456789abcdef" * 2
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def save_weights(path, seed):
    torch.manual_seed(seed)
    torch.save(build_model("mobilenet_v2").state_dict(), path)


def loaded(server, files):
    weights = files / "weights.pt"
    return load_from(
        server.address, weights=weights, access=Access("", TOKEN), timeout_s=PATIENT_S
    )[0]


def client_of(server, name=""):
    return ServerClient(server.address, access=Access(name, TOKEN))


def device_of(model, address, decider=None, name="md_0", **options):
    options = {"timeout_s": PATIENT_S, **options}
    access = Access(name, TOKEN)
    return Device(model, [address], decider or Fixed(LATE), name=name, access=access, **options)


def infer(client, data):
    return client.request("POST", "/infer", data, FRAME_TYPE, PATIENT_S, 2**20)


def frame_of(model, x, codec="float32", point=LATE):
    blobs = to_blobs(model.head(point, x), codec)
    return Frame(INFER, os.urandom(16), model.fingerprint, point, codec, blobs)
