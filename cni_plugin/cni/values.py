"""The values that travel between the layers: what a runtime asked for, and what it is answered.

NamedTuples, not dataclasses: importing `dataclasses` and building its classes costs the direct
path (a cold interpreter) about 50 ms, these cost about 10.
"""

from __future__ import annotations

from collections.abc import Mapping

from ipam.lean_typing import NamedTuple
from ipam.values import IPAddress, IpamConf, IPInterface, IPNetwork, Route


class Dns(NamedTuple):
    """SPEC 1.1.0, "dns": resolver settings that podwire hands through."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Interface(NamedTuple):
    """One entry of a result's `interfaces`. sandbox is the netns path, empty on the host side."""

    name: str
    mac: str = ""
    mtu: int | None = None
    sandbox: str = ""
    socket_path: str = ""
    pci_id: str = ""


class IPConfig(NamedTuple):
    """One entry of a result's `ips`. interface indexes the result's interfaces, None is absent."""

    address: IPInterface
    gateway: IPAddress | None = None
    interface: int | None = None


class Result(NamedTuple):
    """A success result in the newest shape; `cni.result` writes and reads the older ones."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[IPConfig, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Dns = Dns()


class Bandwidth(NamedTuple):
    """Limits of one attachment, in the terms of the CNI conventions: ingress is what the pod gets,
    egress what it sends; rates in bits per second, bursts in bits, 0: no limit. The networks are
    those of whom the pod talks with: all but unshaped are limited, or shaped alone."""

    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0
    unshaped: tuple[IPNetwork, ...] = ()
    shaped: tuple[IPNetwork, ...] = ()

    @property
    def limits(self) -> bool:
        """Whether there is a limit at all."""
        return bool(self.ingress_rate or self.egress_rate)


class PortMapping(NamedTuple):
    """A port of the node that leads to one of the pod. host_ip: the node's address, None: every
    one, 0.0.0.0 or ::: every one of that IP version."""

    host_port: int
    container_port: int
    protocol: str  # tcp | udp | sctp
    host_ip: IPAddress | None = None


class RuntimeConf(NamedTuple):
    """What was asked for this one attachment: runtimeConfig, args.cni, CNI_ARGS.

    Order of precedence, highest first: runtimeConfig (capabilities), args.cni, CNI_ARGS.
    """

    ips: tuple[IPInterface, ...] = ()  # a bare address has the family's full prefix length
    mac: str = ""  # lower case, colons
    aliases: tuple[str, ...] = ()
    bandwidth: Bandwidth = Bandwidth()
    port_mappings: tuple[PortMapping, ...] = ()


class NetConf(NamedTuple):
    """A podwire plugin object, validated, every default filled in."""

    cni_version: str
    name: str
    type: str
    mode: str = "bridge"  # bridge | ptp
    bridge: str = "cni0"
    is_gateway: bool = False
    is_default_gateway: bool = False
    force_address: bool = False
    ip_masq: bool = False
    non_masquerade_cidrs: tuple[IPNetwork, ...] = ()
    mtu: int = 0  # bytes; 0: from the bridge or the uplink
    hairpin: bool = True
    promisc: bool = False
    vlan: int = 0  # 0: no VLAN
    preserve_default_vlan: bool = True
    anti_spoof_mac: bool = True
    anti_spoof_ip: bool = True
    port_isolation: bool = False
    enable_dad: bool = False
    disable_container_interface: bool = False
    stable_mac: bool = False
    bandwidth: Bandwidth = Bandwidth()
    sysctls: tuple[tuple[str, str], ...] = ()  # "net/..", IFNAME for the interface's name; value
    queue_length: int | None = None  # packets; these three of the pod's interface, None: as it is
    allmulti: bool | None = None
    pod_promisc: bool | None = None
    snat: bool = True  # of what comes back by a host port to where it came from
    dns: Dns = Dns()
    ipam: IpamConf | None = None  # None: layer 2 only
    runtime: RuntimeConf = RuntimeConf()


class Pod(NamedTuple):
    """The pod behind an attachment, from K8S_POD_* in CNI_ARGS. Empty strings when unknown."""

    namespace: str = ""
    name: str = ""
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.name else ""


class Attachment(NamedTuple):
    """What identifies one attachment on a node. SPEC 1.1.0: container id plus ifname."""

    container_id: str
    ifname: str


class Request(NamedTuple):
    """One call of the plugin, decoded and checked against the SPEC's rules."""

    command: str  # ADD, DEL, CHECK, GC, STATUS
    conf: NetConf
    attachment: Attachment  # empty strings for GC and STATUS
    netns: str = ""
    path: tuple[str, ...] = ()  # CNI_PATH, in search order
    args: Mapping[str, str] = {}  # CNI_ARGS
    pod: Pod = Pod()
    prev_result: Result | None = None
    valid_attachments: tuple[Attachment, ...] | None = None  # GC; None: the list was absent
    stdin: bytes = b""  # the complete config as received, for delegates
    environ: Mapping[str, str] = {}  # the CNI_* environment as received, for delegates
    id: str = ""  # the caller's name for this call; a call that is repeated has the same
    undoes: str = ""  # DEL: only what the call of that id has made


class Reply(NamedTuple):
    """What the process prints and exits with."""

    status: int
    stdout: bytes = b""
    stderr: bytes = b""
