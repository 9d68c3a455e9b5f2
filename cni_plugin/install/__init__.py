"""What is on a node of podwire's own files: the Python tree and the launchers, put there and
replaced under load."""
