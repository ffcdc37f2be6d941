"""Writes the schemas of this folder anew. README.md says from what, and why they are kept here."""

import json
import pathlib

from cloudcoil.models.cert_manager import v1 as cert_manager
from cloudcoil.models.prometheus_operator import v1 as monitoring

KINDS = [
    cert_manager.Certificate,
    cert_manager.Issuer,
    monitoring.PodMonitor,
    monitoring.PrometheusRule,
    monitoring.ServiceMonitor,
]


def plain(node):
    """Without what only the models need: titles, defaults, null for what is left out. Unknown fields are refused."""
    if isinstance(node, list):
        return [plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    choices = [choice for choice in node.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1 and len(choices) < len(node["anyOf"]):
        return plain(choices[0])
    schema = {}
    for key, value in node.items():
        if key == "anyOf":
            schema[key] = [plain(choice) for choice in choices]
        elif key in ("properties", "$defs"):
            schema[key] = {name: plain(inner) for name, inner in value.items()}
        elif key not in ("title", "default", "description"):
            schema[key] = plain(value)
    if schema.get("properties"):
        schema["additionalProperties"] = False
    return schema


for kind in KINDS:
    schema = plain(kind.model_json_schema(by_alias=True))
    schema["properties"].pop("status", None)
    used, known = {}, schema.pop("$defs")
    waiting = [schema]
    while waiting:
        text = json.dumps(waiting.pop())
        for name, definition in known.items():
            if name not in used and f'"#/$defs/{name}"' in text:
                used[name] = definition
                waiting.append(definition)
    schema["$defs"] = used
    file = pathlib.Path(__file__).with_name(f"{kind.__name__.lower()}.json")
    file.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")
