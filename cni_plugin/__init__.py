"""podwire: a Kubernetes CNI plugin. Imports nothing: the direct path pays for every import."""

__version__ = "0.1.0"
