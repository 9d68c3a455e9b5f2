"""What this node's object in the Kubernetes API says that podwire has written there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from cni_plugin.cluster.kube_choice import Choice
from cni_plugin.cluster.kube_node import ANNOTATIONS
from cni_plugin.cni.errors import CNIError

if TYPE_CHECKING:
    from cni_plugin.cluster.kube_api import Api

T = TypeVar("T")


def read_annotations(choice: Choice, node: str) -> tuple[str, ...]:
    """The keys that are there; none when there is no such node. Raises CNIError."""

    async def read(api: Api) -> tuple[str, ...]:
        from cni_plugin.cluster.kube_api import NotFound

        try:
            metadata = (await api.node(node)).get("metadata")
        except NotFound:
            return ()
        found = metadata.get("annotations") if isinstance(metadata, dict) else None
        return tuple(key for key in ANNOTATIONS if isinstance(found, dict) and key in found)

    return _asked(choice, read)


def remove_annotations(choice: Choice, node: str, keys: Sequence[str]) -> None:
    """Takes them away in one patch. Raises CNIError."""

    async def write(api: Api) -> None:
        await api.annotate(node, dict.fromkeys(keys))

    _asked(choice, write)


def _asked(choice: Choice, ask: Callable[[Api], Awaitable[T]]) -> T:
    try:
        from cni_plugin.cluster.kube_api import Api, ApiFailure, Limits
    except ImportError as error:
        raise CNIError(
            f"the node's annotations cannot be looked at without h11: {error}",
            "pip install 'podwire[cluster]' brings it",
        ) from error

    async def talk() -> T:
        async with Api(choice, Limits()) as api:
            return await ask(api)

    try:
        return asyncio.run(talk())
    except ApiFailure as error:
        raise CNIError(f"the node's annotations: {error}") from error
