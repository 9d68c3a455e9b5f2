"""`hack/kind-up.sh`: a kind cluster with podwire, tried; or the same, gone.

Status 0: all that was tried works. 1: something does not, or a step failed. 2: a wrong option.
3: something is missing on this machine; nothing was changed.
"""

from __future__ import annotations

import argparse
import sys
import time

import cluster
import report
import smoke
from tools import Failed, Missing, Tools, say


def arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="hack/kind-up.sh")
    parser.add_argument("--name", default="podwire", help="the cluster's (default: podwire)")
    parser.add_argument("--ip-family", choices=("ipv4", "ipv6", "dual"), default="ipv4")
    parser.add_argument(
        "--proxy-mode", choices=("iptables", "ipvs", "nftables", "none"), default="iptables"
    )
    parser.add_argument("--node-image", help="of the nodes; without it kind's own choice")
    parser.add_argument(
        "--image", type=cluster.tagged, default=cluster.image(), help="podwire's, NAME:TAG"
    )
    parser.add_argument("--no-build", action="store_true", help="the image is there already")
    parser.add_argument("--reuse", action="store_true", help="a cluster of that name is there")
    parser.add_argument("--timeout", type=int, default=300, metavar="S", help="of each wait")
    parser.add_argument("--tries", type=int, default=8, help="of a request, a second apart")
    parser.add_argument("--down", action="store_true", help="delete the cluster, nothing else")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return parser.parse_args()


def main() -> int:
    """See above."""
    options = arguments()
    tools = Tools(options.name)
    try:
        if options.down:
            tools.need("docker", "kind")
            cluster.down(tools, options.name)
            return 0
        tools.need("docker", "kind", "kubectl")
        began_s = time.monotonic()
        cluster.up(tools, options)
        ready_s = time.monotonic() - began_s
        patience = smoke.Patience(options.timeout, options.tries)
        outcomes = smoke.run(tools, patience, proxy=options.proxy_mode != "none")
    except Missing as missing:
        for line in missing.lines:
            say(line)
        say("nothing was changed")
        return 3
    except Failed as failed:
        say(str(failed))
        return 1
    report.tell(options, ready_s, outcomes)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
