"""podwire's plugin object -> NetConf, every problem named. Imports pydantic: load it lazily."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import ValidationError

from cni_plugin.cni import bandwidth, sysctls
from cni_plugin.cni.conf_cache import base_document
from cni_plugin.cni.conf_ipam import extra_keys, lenient_ipam, review_ipam
from cni_plugin.cni.conf_model import (
    MTU_MAX,
    MTU_MIN_V6,
    DnsModel,
    PluginModel,
    model_problems,
)
from cni_plugin.cni.conf_runtime import finish, review_runtime
from cni_plugin.cni.errors import CNIError, UnsupportedField
from cni_plugin.cni.problems import Problem, raise_problems
from cni_plugin.cni.values import Bandwidth, Dns, NetConf
from cni_plugin.cni.versions import UNVERSIONED, at_least, config_version
from ipam.values import IpamConf

OWN_TYPE = "podwire"
_CONDITIONS = (
    "it is made of iptables' arguments; chain the portmap plugin, or filter in a table of yours"
)
# What only a bridge can have; harmless in ptp mode, so a warning.
_BRIDGE_ONLY = (
    "bridge",
    "isGateway",
    "isDefaultGateway",
    "forceAddress",
    "hairpinMode",
    "promiscMode",
    "vlan",
    "preserveDefaultVlan",
    "portIsolation",
)
# Ignoring one of these would do something else than was asked for.
_UNSUPPORTED = {
    "vlanTrunk": "give each pod one VLAN with vlan, or use the bridge plugin for trunks",
    "masqAll": "who calls by a host port keeps its address; chain the portmap plugin to hide it",
    "conditionsV4": _CONDITIONS,
    "conditionsV6": _CONDITIONS,
}


class BaseReview(NamedTuple):
    """A config without its runtime part: conf is None exactly when there are problems."""

    conf: NetConf | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def parse_conf(
    document: Mapping[str, object], *, lenient: bool = False
) -> tuple[NetConf, tuple[str, ...]]:
    """The NetConf of a plugin object, and the warnings. CNI_ARGS are not looked at.

    lenient (DEL, GC): problems become warnings and defaults take their place. Raises
    InvalidNetworkConfig or UnsupportedField; the first problem is the message, all are in the
    details.
    """
    warnings: list[str] = []
    base = review_base(document)
    warnings += base.warnings
    conf = lenient_base(document) if lenient and base.conf is None else base.conf
    runtime = review_runtime(document)
    done = finish(conf, base.problems, runtime, lenient=lenient, warn=warnings.append)
    return done, tuple(warnings)


def review_base(document: Mapping[str, object]) -> BaseReview:
    """Everything but runtimeConfig and args (ipRanges are looked at): the part worth keeping."""
    base = base_document(document)
    version, found = _version(base)
    found += _unsupported(base)
    ipam = review_ipam(base)
    try:
        model = PluginModel.model_validate(base)
    except ValidationError as error:
        found += [*model_problems(error), *ipam.problems]
        return BaseReview(None, tuple(found))
    found += ipam.problems
    has_ipam = ipam.conf is not None or bool(ipam.problems)
    found += _contradictions(model, has_ipam=has_ipam)
    if ipam.conf is not None:
        found += _with_ipam(model, version, ipam.conf)
    warnings = (*_warnings(model, base, has_ipam=has_ipam), *ipam.warnings)
    conf = None if found else _net_conf(model, version, ipam.conf)
    return BaseReview(conf, tuple(found), warnings)


def lenient_base(document: Mapping[str, object]) -> NetConf:
    """The config for DEL and GC when it has problems: what is wrong gets its default.

    Clean-up needs the network's name and where leases are kept, nothing else must stop it.
    """
    base = base_document(document)
    ipam = lenient_ipam(base)
    kept = {key: value for key, value in base.items() if key not in ("ipam", "runtimeConfig")}
    try:
        model = PluginModel.model_validate(kept)
    except ValidationError as error:
        wrong = {str(entry["loc"][0]) for entry in error.errors(include_url=False)}
        if "name" in wrong:  # the one thing that clean-up cannot guess
            raise_problems(model_problems(error))
        kept = {key: value for key, value in kept.items() if key not in wrong}
        model = PluginModel.model_validate({"type": OWN_TYPE, **kept})
    version, _ = _version(base)
    return _net_conf(model, version, ipam)


def _version(document: Mapping[str, object]) -> tuple[str, list[Problem]]:
    try:
        return config_version(document), []
    except CNIError as error:
        accepted = error.details or "a CNI version"
        return UNVERSIONED, [
            Problem("cniVersion", document.get("cniVersion"), accepted, code=error.code)
        ]


def _unsupported(document: Mapping[str, object]) -> list[Problem]:
    return [
        Problem(key, document[key], remedy, code=UnsupportedField.code)
        for key, remedy in _UNSUPPORTED.items()
        if document.get(key)
    ]


def _contradictions(model: PluginModel, *, has_ipam: bool) -> list[Problem]:
    """Keys that are fine alone and wrong together, as the reference plugins judge them."""
    found: list[Problem] = []
    explicit_hairpin = "hairpinMode" in model.model_fields_set and model.hairpinMode
    if explicit_hairpin and model.promiscMode:
        found.append(Problem("hairpinMode", True, "false, or absent, while promiscMode is true"))
    if model.disableContainerInterface and has_ipam:
        found.append(
            Problem("disableContainerInterface", True, "false, or absent, while ipam is given")
        )
    if model.mode == "ptp" and not has_ipam:
        accepted = "an object, because mode ptp routes addresses and needs one"
        found.append(Problem("ipam", None, accepted, missing=True))
    found += bandwidth.contradictions(_bandwidth(model))
    return [*found, *sysctls.review(model.sysctl or {})[1]]


def _with_ipam(model: PluginModel, version: str, ipam: IpamConf) -> list[Problem]:
    families = [ranges[0].subnet.version for ranges in ipam.range_sets if ranges]
    found: list[Problem] = []
    if 6 in families and 0 < model.mtu < MTU_MIN_V6:
        accepted = (
            f"0 (automatic) or {MTU_MIN_V6} to {MTU_MAX}: ipam has an IPv6 range, and IPv6"
            f" needs links of {MTU_MIN_V6} bytes (RFC 8200 section 5)"
        )
        found.append(Problem("mtu", model.mtu, accepted))
    if not at_least(version, "0.3.0") and len(families) != len(set(families)):
        accepted = f"one range set of each family: a result in {version} holds one address of each"
        found.append(Problem("ipam.ranges", f"{len(families)} range sets", accepted))
    return found


def _warnings(model: PluginModel, document: Mapping[str, object], *, has_ipam: bool) -> list[str]:
    lines = [str(extra) for extra in extra_keys(model, "")]
    if model.ipMasqBackend == "iptables":
        lines.append("ipMasqBackend iptables is ignored: podwire always uses nftables")
    if model.mode == "ptp":
        useless = [key for key in _BRIDGE_ONLY if key in document]
        lines += [f"{key} has no effect in mode ptp" for key in useless]
    if model.ipMasq and not has_ipam:
        lines.append("ipMasq has no effect without ipam")
    lines += [
        f"{key} has no effect: podwire marks no packets and masquerades by itself"
        for key in ("markMasqBit", "externalSetMarkChain")
        if document.get(key) is not None
    ]
    if (model.capabilities or {}).get("portMappings") and not has_ipam:
        lines.append("capabilities.portMappings: without ipam no pod can have a host port")
    return lines


def _net_conf(model: PluginModel, version: str, ipam: IpamConf | None) -> NetConf:
    given = model.model_fields_set
    hairpin = model.hairpinMode if "hairpinMode" in given else not model.promiscMode
    spoof_mac = model.macspoofchk if "macspoofchk" in given else model.antiSpoofing
    return NetConf(
        cni_version=version,
        name=model.name,
        type=model.type,
        mode=model.mode,
        bridge=model.bridge,
        is_gateway=model.isGateway or model.isDefaultGateway,
        is_default_gateway=model.isDefaultGateway,
        force_address=model.forceAddress,
        ip_masq=model.ipMasq,
        non_masquerade_cidrs=tuple(model.nonMasqueradeCIDRs),
        mtu=model.mtu,
        hairpin=hairpin,
        promisc=model.promiscMode,
        vlan=model.vlan,
        preserve_default_vlan=model.preserveDefaultVlan,
        anti_spoof_mac=spoof_mac,
        # Without ipam nobody knows the pod's addresses, so none could be told from a false one.
        anti_spoof_ip=model.antiSpoofing and ipam is not None,
        port_isolation=model.portIsolation,
        enable_dad=model.enabledad,
        disable_container_interface=model.disableContainerInterface,
        stable_mac=model.stableMac,
        bandwidth=_bandwidth(model),
        sysctls=sysctls.review(model.sysctl or {})[0],
        queue_length=model.txqueuelen if "txqueuelen" in given else None,
        allmulti=model.allmulti if "allmulti" in given else None,
        pod_promisc=model.promisc if "promisc" in given else None,
        snat=model.snat,
        dns=_dns(model.dns),
        ipam=ipam,
    )


def _bandwidth(model: PluginModel) -> Bandwidth:
    return Bandwidth(
        model.ingressRate,
        model.ingressBurst,
        model.egressRate,
        model.egressBurst,
        tuple(dict.fromkeys(model.unshapedSubnets)),
        tuple(dict.fromkeys(model.shapedSubnets)),
    )


def _dns(model: DnsModel | None) -> Dns:
    if model is None:
        return Dns()
    return Dns(
        nameservers=tuple(str(server) for server in model.nameservers),
        domain=model.domain,
        search=tuple(model.search),
        options=tuple(model.options),
    )
