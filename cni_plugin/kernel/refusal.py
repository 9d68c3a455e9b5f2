"""A step that the kernel refused, and what helps against it."""

from __future__ import annotations

import errno

from cni_plugin.cni.errors import KernelRefused
from cni_plugin.kernel.netlink import KernelError
from cni_plugin.model.objects import (
    Addr,
    Bridge,
    Ifb,
    PortVlan,
    Redirect,
    RouteTo,
    RuleChain,
    Tbf,
    Veth,
    Vxlan,
)
from cni_plugin.model.plan import Step


class StepFailed(KernelRefused):
    """One step was refused. errno lets the caller tell a stale view from a refusal."""

    def __init__(self, error: KernelError, step: Step) -> None:
        super().__init__(error.msg, _remedy(error, step))
        self.errno = error.errno
        self.step = step

    @property
    def stale(self) -> bool:
        """Somebody else changed what we looked at: looking again may help."""
        return self.errno in (errno.EEXIST, errno.ENODEV, errno.ENOENT, errno.EAGAIN)


_FOREIGN_TABLE = "another program's table `podwire` is in the way: see `nft list ruleset`"
_REMEDIES: dict[tuple[type, int], str] = {
    (PortVlan, errno.EOPNOTSUPP): "this kernel has no bridge VLAN filtering: leave `vlan` out",
    (Veth, errno.EOPNOTSUPP): "this kernel has no veth (CONFIG_VETH)",
    (Veth, errno.EEXIST): "an interface of that name is there already, in the pod or on the node",
    (Vxlan, errno.EOPNOTSUPP): "this kernel has no VXLAN (CONFIG_VXLAN): use backend host-gw",
    (Vxlan, errno.EEXIST): (
        "another program has a VXLAN link of this VNI and port (choose another `vxlan.vni`), or a"
        " link of this name"
    ),
    (Ifb, errno.EOPNOTSUPP): "this kernel has no ifb (CONFIG_IFB): leave the egress limit out",
    (Tbf, errno.ENOENT): "this kernel has no token bucket filter (CONFIG_NET_SCH_TBF)",
    (Redirect, errno.ENOENT): (
        "this kernel lacks CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32 or CONFIG_NET_ACT_MIRRED"
    ),
    (Redirect, errno.EINVAL): "another program's `ingress` qdisc is in the way: `tc qdisc show`",
    (Bridge, errno.EOPNOTSUPP): "this kernel has no bridge (CONFIG_BRIDGE)",
    (RuleChain, errno.EOPNOTSUPP): (
        "this kernel lacks a part of nftables (bridge family, masq), or " + _FOREIGN_TABLE
    ),
    (RuleChain, errno.ENOENT): (
        "this kernel lacks a part of nftables (CONFIG_NFT_FIB_INET, CONFIG_NFT_NAT, CONFIG_NFT_CT)"
    ),
    (RuleChain, errno.EEXIST): _FOREIGN_TABLE,
    (RuleChain, errno.EINVAL): _FOREIGN_TABLE,
    (RuleChain, errno.EBUSY): _FOREIGN_TABLE,
    (Addr, errno.EACCES): "IPv6 is disabled for this interface or namespace",
    (RouteTo, errno.ENETUNREACH): "the route's next hop is not on a network of this interface",
    (RouteTo, errno.EHOSTUNREACH): "the route's next hop is not on a network of this interface",
}


def _remedy(error: KernelError, step: Step) -> str:
    kind = type(step.subject)
    if isinstance(step.wanted, Bridge) and step.wanted.vlan_filtering:
        kind = PortVlan
    return _REMEDIES.get((kind, error.errno), error.details)
