"""Hold an address back from pods until `podwire ipam release ADDRESS`.

It is an ordinary reservation (host-local respects it too) of the container `reserved-TEXT`, which
no GC and no reboot frees. Exit status: 0 reserved, 1 the address is taken, 2 wrong usage.
"""

from __future__ import annotations

import re
import sys
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING

from cni_plugin.cli.ipam.rows import data_dirs
from cni_plugin.cli.output import complain
from cni_plugin.pools import Configured, config_files, configured
from cni_plugin.wiring import node_leases
from ipam.disk import DiskLeases
from ipam.listing import Listing, all_listings
from ipam.ranges import find_range
from ipam.values import HAND_IFNAME, HAND_PREFIX, IPAddress, IpamConf, Owner, Range

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", re.ASCII)  # SPEC 1.1.0, CNI_CONTAINERID
USAGE_ERROR = 2


def add_arguments(parser: ArgumentParser) -> None:
    """Which address of which network, for whom."""
    parser.add_argument("address", metavar="ADDRESS")
    parser.add_argument("--network", required=True, metavar="NAME", help="the network's name")
    parser.add_argument(
        "--owner", default="", metavar="TEXT", help="who holds it: letters, digits and _ . -"
    )
    parser.add_argument(
        "--data-dir", action="append", metavar="FOLDER", help="where the network's folder is"
    )
    parser.add_argument("--conf", action="append", metavar="FILE", help="a config list")


def run(args: Namespace) -> int:
    """Reserve it."""
    try:
        address = ip_address(args.address)
    except ValueError:
        complain(f"{args.address} is not an IP address", "write it without a prefix length")
        return USAGE_ERROR
    text = args.owner or str(address).replace(":", "-")
    if not TEXT.fullmatch(text):
        complain(f"--owner {args.owner!r}: letters, digits and _ . -, the first a letter or digit")
        return USAGE_ERROR
    configs = [
        one for one in configured(config_files(args.conf), complain) if one.network == args.network
    ]
    store = _store(args, configs)
    if store is None:
        return 1
    for config in configs:
        if not any(find_range(ranges, address) for ranges in config.ipam.range_sets):
            print(f"podwire: {address} is outside of every range of {config.file}", file=sys.stderr)
    owner = claim(node_leases(_warn), store, address, text)
    print(f"reserved {address} of network {args.network} for {owner.container_id}")
    return 0


def claim(leases: DiskLeases, store: Listing, address: IPAddress, text: str) -> Owner:
    """Reserve through the allocator, from a range of this address alone. One owner holds one
    address, so that releasing frees no other. Raises AddressInUse."""
    taken = {entry.owner for entry in store.entries if entry.address != str(address)}
    owner = Owner(f"{HAND_PREFIX}{text}", HAND_IFNAME)
    if owner in taken:
        suffix = str(address).replace(":", "-")
        owner = Owner(f"{HAND_PREFIX}{text}-{suffix}", HAND_IFNAME)
    conf = IpamConf("podwire-ipam", ((alone(address),),), data_dir=store.data_dir)
    leases.reserve(conf, store.network, owner, (ip_interface(address),))
    return owner


def alone(address: IPAddress) -> Range:
    """A range with one address."""
    length = 24 if address.version == 4 else 64
    return Range(ip_network((address, length), strict=False), address, address, None)


def _store(args: Namespace, configs: list[Configured]) -> Listing | None:
    """The network's folder: one that is there, or the one its config names."""
    folders = tuple(dict.fromkeys([*(c.ipam.data_dir for c in configs), *data_dirs(args)]))
    found = [one for one in all_listings(folders) if one.network == args.network]
    if not found and configs:
        return Listing(configs[0].ipam.data_dir, args.network)
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(one.path for one in found)
        complain(f"network {args.network} has several folders: {paths}", "choose with --data-dir")
    else:
        complain(
            f"network {args.network} has neither a folder below {', '.join(folders)} nor a config",
            "`podwire ipam stats` lists the networks; --data-dir looks elsewhere",
        )
    return None


def _warn(line: str) -> None:
    print(f"podwire: {line}", file=sys.stderr)
