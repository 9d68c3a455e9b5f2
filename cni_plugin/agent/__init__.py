"""The node's agent: the same Python kept warm, behind a unix socket, and what heals the node.

server takes calls from the launcher, desk gives them to workers, workers run `handle` with ports
whose sockets are kept; keeper looks after the node. A direct run needs none of it.
"""
