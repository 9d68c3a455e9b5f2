"""The source that the config names, and what is told of it: log, readiness, numbers."""

from __future__ import annotations

from cni_plugin.agent.health import Readiness
from cni_plugin.agent.report import Sink
from cni_plugin.agent.totals import Totals
from cni_plugin.cluster.conf import ClusterConf
from cni_plugin.cluster.file_source import FileSource
from cni_plugin.cluster.source import Source
from cni_plugin.cluster.values import Refused
from cni_plugin.cni.errors import InvalidNetworkConfig

NAME = "source"  # of the readiness' reason
UNHEARD = "the Kubernetes API has not been heard yet"


def make_source(conf: ClusterConf, sink: Sink, readiness: Readiness, totals: Totals) -> Source:
    """To be called in the loop that it will run in. Raises InvalidNetworkConfig when the config
    asks for what is not installed."""
    if conf.source.kubernetes is None:
        path = conf.source.file or ""  # one of both is there
        return FileSource(path, conf.node, lambda line: sink.event("warning", line, {}))
    try:
        from cni_plugin.cluster.kubernetes import KubernetesSource
    except ImportError as error:
        raise InvalidNetworkConfig(
            f"the source kubernetes needs h11: {error}",
            "pip install 'podwire[cluster]' brings it, a peers file does without",
        ) from error
    api, news = conf.source.kubernetes, SourceNews(sink, readiness, totals)
    return KubernetesSource(conf.node, api.choice(), api.state_file, news)


class SourceNews:
    """What the source `kubernetes` tells (see kubernetes.Listener). Not heard is not ready: what is
    known stays in force, and somebody should know."""

    def __init__(self, sink: Sink, readiness: Readiness, totals: Totals) -> None:
        self._sink = sink
        self._readiness = readiness
        self._totals = totals
        readiness.set(NAME, UNHEARD)

    def synced(self, nodes: int) -> None:
        """The API is heard, first or again."""
        self._totals.heard = True
        self._readiness.clear(NAME)
        self._sink.event("info", "cluster: the Kubernetes API is heard", {"nodes": nodes})

    def lost(self, why: str) -> None:
        """It is not."""
        self._totals.heard = False
        self._totals.losses += 1
        self._readiness.set(NAME, f"the Kubernetes API is not heard: {why}")
        line = f"cluster: the Kubernetes API is not heard; what is known stays in force: {why}"
        self._sink.event("warning", line, {})

    def relisted(self, why: str) -> None:
        """All nodes are listed anew."""
        self._totals.lists += 1
        self._sink.event("info", f"cluster: all nodes are listed anew: {why}", {})

    def refused(self, refused: Refused) -> None:
        """The pass that follows tells and counts it, with those that the pass refuses itself."""

    def noted(self, line: str) -> None:
        """Anything else."""
        self._sink.event("info", f"cluster: {line}", {})
