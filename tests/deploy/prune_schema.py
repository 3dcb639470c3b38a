"""Cuts from KubeRay's definition of a RayJob what deploy/rayjob.yaml uses, to be kept beside it.

    git clone https://github.com/ray-project/kuberay
    python tests/deploy/prune_schema.py kuberay/helm-chart/kuberay-operator/crds/ray.io_rayjobs.yaml

The whole is 1.4 MB. Kubernetes drops fields that it does not know without a word; here they are
refused.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

MANIFEST = Path(__file__).parents[2] / "deploy" / "rayjob.yaml"
SCHEMA = Path(__file__).with_name("rayjob_schema.json")
KEPT = ("type", "enum", "pattern", "format", "minimum", "maximum", "required", "anyOf")


def manifest() -> dict[str, Any]:
    """The RayJob of the manifest."""
    (job,) = (each for each in yaml.safe_load_all(MANIFEST.read_text()) if each["kind"] == "RayJob")
    return job


def pruned(schema: dict[str, Any], value: Any) -> dict[str, Any]:
    """The part of a schema that speaks of what is in a value."""
    kept = {key: schema[key] for key in KEPT if key in schema}
    if isinstance(value, dict) and "properties" in schema:
        kept["properties"] = {
            name: pruned(part, value[name])
            for name, part in schema["properties"].items()
            if name in value
        }
        kept["additionalProperties"] = False
    elif isinstance(value, dict) and "additionalProperties" in schema:
        kept["additionalProperties"] = pruned(schema["additionalProperties"], "")
    if isinstance(value, list) and value:
        both: dict[str, Any] = {}
        for each in value:
            both = both | each if isinstance(each, dict) else {}
        kept["items"] = pruned(schema["items"], both or value[0])
    return kept


if __name__ == "__main__":
    definition = yaml.safe_load(Path(sys.argv[1]).read_text())
    (newest,) = (each for each in definition["spec"]["versions"] if each["name"] == "v1")
    found = pruned(newest["schema"]["openAPIV3Schema"], manifest())
    SCHEMA.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
