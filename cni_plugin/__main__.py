"""The executable: a CNI plugin when CNI_COMMAND is set, otherwise the command line."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """The console script: environment, stdin and arguments in, exit status out."""
    if "CNI_COMMAND" not in os.environ:
        from cni_plugin.cli.app import main as command_line

        return command_line(sys.argv[1:])
    from cni_plugin.wiring import serve

    stdin = sys.stdin.buffer.read() if os.environ["CNI_COMMAND"] else b""
    reply = serve(os.environ, stdin)
    sys.stderr.buffer.write(reply.stderr)
    sys.stderr.flush()
    sys.stdout.buffer.write(reply.stdout)
    sys.stdout.flush()
    return reply.status


if __name__ == "__main__":
    sys.exit(main())
