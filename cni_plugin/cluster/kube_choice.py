"""What the config says of the way to the Kubernetes API; without what it takes to go it."""

from __future__ import annotations

from typing import NamedTuple

# Where the kubelet puts a pod's credentials: kubernetes.io/docs, "Accessing the API from a pod".
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class Choice(NamedTuple):
    """kubeconfig empty: the service account of the pod. server: in place of the one that was found;
    name: in place of its host when certificates are judged."""

    kubeconfig: str = ""
    server: str = ""
    name: str = ""
    service_account: str = SERVICE_ACCOUNT
