"""Holds objects against the schemas of Kubernetes, and custom resources against those in schemas/.

Reads a JSON list of [where, version, object] from its input and writes one line for each object that is not valid. Strict: a
field that no schema knows is wrong, and so is a kind that no schema knows.
"""

import functools
import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
from kubernetes_validate import utils

# Custom resources by the group of their API.
GROUPS = ("cert-manager.io/", "monitoring.coreos.com/")

# Every schema is read once, not once for each object.
utils.schema_contents = functools.cache(utils.schema_contents)


@functools.cache
def custom(kind):
    file = pathlib.Path(__file__).parent / "schemas" / f"{kind.lower()}.json"
    return jsonschema.Draft202012Validator(json.loads(file.read_text()))


def problem(version, item):
    """What is wrong with an object, or nothing."""
    if item["apiVersion"].startswith(GROUPS):
        try:
            errors = custom(item["kind"]).iter_errors(item)
        except FileNotFoundError:
            return "no schema in tests/chart/schemas"
        return next((f"{error.json_path}: {error.message}" for error in errors), None)
    try:
        used = kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{error.json_path}: {error.message}"
    except utils.SchemaNotFoundError as error:
        return error.message
    # A version that is not there would be replaced by an older one.
    return None if used == version else f"no schemas of Kubernetes {version}, only of {used}"


for where, version, item in json.load(sys.stdin):
    wrong = problem(version, item)
    if wrong:
        print(f"{where}: {item['kind']} {item['metadata']['name']} against {version}: {wrong}")
