"""Nodes as kind has them: a root file system without Python, containerd, pods by its CRI."""
