"""JSON Schema (2020-12) of the plugin object and of the config list, for editors and linters.

Made from the models that validate, so that the two cannot drift apart. What a schema cannot say
(address syntax, keys that exclude each other) is left to `podwire validate`.
"""

from __future__ import annotations

from typing import Any

from cni_plugin.cni import bandwidth, port_mappings, sysctls
from cni_plugin.cni.conf import OWN_TYPE
from cni_plugin.cni.conf_ipam import OWN_TYPES
from cni_plugin.cni.conf_model import PluginModel
from cni_plugin.cni.errors import SUPPORTED_VERSIONS
from ipam.conf import IpamModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEXTS = {"type": "array", "items": {"type": "string"}}
_VERSION = {"type": "string", "enum": list(SUPPORTED_VERSIONS)}
JsonObject = dict[str, Any]


def json_schema() -> JsonObject:
    """The schema of podwire's object in a config list's `plugins`."""
    schema = PluginModel.model_json_schema()
    definitions = schema.pop("$defs", {})
    ipam = IpamModel.model_json_schema(ref_template="#/$defs/{model}")
    definitions |= ipam.pop("$defs", {})
    definitions["PodwireIpam"] = ipam | _own_type()
    definitions["ForeignIpam"] = _foreign()
    properties = schema["properties"]
    properties["cniVersion"] |= _VERSION
    properties["type"] |= {"const": OWN_TYPE}
    properties["ipam"] |= {
        "anyOf": [
            {"$ref": "#/$defs/PodwireIpam"},
            {"$ref": "#/$defs/ForeignIpam"},
            {"type": "object", "maxProperties": 0},
            {"type": "null"},
        ]
    }
    properties["sysctl"] = {
        "description": properties["sysctl"]["description"],
        **sysctls.JSON_SCHEMA,
    }
    for key in ("vlanTrunk", "conditionsV4", "conditionsV6"):
        properties[key] |= {"type": ["array", "null"], "maxItems": 0}
    properties["masqAll"] |= {"enum": [False, None]}
    for key in ("runtimeConfig", "prevResult", "vlanTrunk"):
        properties[key].pop("title", None)
    properties["runtimeConfig"] |= _runtime_config(properties)
    properties["args"] |= _args()
    properties["prevResult"] |= {"type": ["object", "null"]}
    schema["required"] = ["type"]  # the runtime adds name and cniVersion from the list
    whole = {"$schema": DIALECT, **schema, "$defs": definitions}
    return {key: _tidy(value) for key, value in whole.items()}


def list_schema() -> JsonObject:
    """The schema of a config list that holds podwire."""
    plugin = json_schema()
    definitions = plugin.pop("$defs")
    del plugin["$schema"]
    name = plugin["properties"]["name"] | {"description": "Name of the network."}
    kind = {key: value for key, value in plugin["properties"]["type"].items() if key != "const"}
    foreign = {
        "type": "object",
        "title": "another plugin",
        "required": ["type"],
        "properties": {"type": kind | {"not": {"const": OWN_TYPE}}},
    }
    switch = {"anyOf": [{"type": "boolean"}, {"enum": ["true", "false"]}]}
    return {
        "$schema": DIALECT,
        "title": "CNI config list with podwire",
        "type": "object",
        "required": ["name", "plugins"],
        "properties": {
            "cniVersion": _VERSION | {"description": "CNI version; 0.1.0 when absent."},
            "cniVersions": _TEXTS
            | {"description": "Versions to choose from; the runtime takes the highest it knows."},
            "name": name,
            "disableCheck": switch | {"description": "The runtime never calls CHECK."},
            "disableGC": switch | {"description": "The runtime never calls GC."},
            "loadOnlyInlinedPlugins": switch
            | {"description": "The runtime takes no plugin objects from other files."},
            "plugins": {
                "description": "The chain, in the order of ADD.",
                "type": "array",
                "minItems": 1,
                "items": {"anyOf": [{"$ref": "#/$defs/Podwire"}, {"$ref": "#/$defs/Foreign"}]},
            },
        },
        "$defs": {**definitions, "Podwire": plugin, "Foreign": foreign},
    }


def _own_type() -> JsonObject:
    return {"not": {"required": ["type"], "properties": {"type": {"not": {"enum": _own_types()}}}}}


def _own_types() -> list[str]:
    return [*OWN_TYPES, ""]


def _foreign() -> JsonObject:
    return {
        "title": "another IPAM plugin",
        "description": "Executed by podwire; its other keys are its own business.",
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string", "not": {"enum": _own_types()}}},
    }


def _runtime_config(properties: JsonObject) -> JsonObject:
    return {
        "type": ["object", "null"],
        "properties": {
            "ips": _TEXTS | {"description": "Requested addresses."},
            "mac": {"type": "string", "description": "Requested MAC address."},
            "ipRanges": {"type": "array", "description": "Range sets put before ipam.ranges."},
            "dns": {
                "type": "object",
                "description": "Resolver settings that replace those of dns.",
                "properties": {"servers": _TEXTS, "searches": _TEXTS, "options": _TEXTS},
            },
            "aliases": _TEXTS | {"description": "Names of the pod in the network; kept."},
            "portMappings": port_mappings.JSON_SCHEMA,
            "bandwidth": {
                "type": ["object", "null"],
                "description": "Limits for this pod, where the config has none.",
                "properties": {key: properties[key] for key in bandwidth.KEYS},
            },
        },
    }


def _args() -> JsonObject:
    return {
        "type": ["object", "null"],
        "properties": {
            "cni": {
                "type": "object",
                "properties": {
                    "ips": _TEXTS | {"description": "Requested addresses."},
                    "mac": {"type": "string", "description": "Requested MAC address."},
                },
            }
        },
    }


def _tidy(schema: Any) -> Any:
    """Without the titles that pydantic makes from names and without defaults of null."""
    if isinstance(schema, list):
        return [_tidy(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    noise = {"default"} if schema.get("default", "") is None else set()
    if isinstance(schema.get("title"), str) and "properties" not in schema:
        noise |= {"title"}
    return {key: _tidy(value) for key, value in schema.items() if key not in noise}
