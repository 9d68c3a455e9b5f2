"""The executable: a CNI plugin when CNI_COMMAND is set, otherwise the command line."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """The console script: environment, stdin and arguments in, exit status out."""
    if "CNI_COMMAND" not in os.environ:
        from cni_plugin.cli.app import run as command_line

        return command_line(sys.argv[1:])
    from cni_plugin.process import run
    from cni_plugin.wiring import serve

    return run(serve, os.environ)


if __name__ == "__main__":
    sys.exit(main())
