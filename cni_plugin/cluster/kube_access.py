"""Where the Kubernetes API is and how to prove who asks: a pod's service account, or a kubeconfig.

Everything is read anew for each connection, so that a rotated token, certificate or authority is
used from the next one on; there is no other way of renewing them.
"""

from __future__ import annotations

import binascii
import os
import ssl
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from cni_plugin.cluster.http import Server
from cni_plugin.cluster.kube_choice import Choice
from cni_plugin.cni.names import shown

PORTS = {"https": 443, "http": 80}
REMEDY = "`server` or `kubeconfig` in the agent's config says where the Kubernetes API is"

Read = Callable[[str], bytes]  # a file's content; raises OSError


class NoAccess(Exception):
    """There is no way to the API: what is missing or wrong, and the remedy."""


class Access(NamedTuple):
    """server: its URL. authority: trusted certificates, PEM; empty: those of the system. name: what
    the server's certificate must be for; empty: the URL's host. certificate and key: the client's,
    PEM."""

    server: str
    authority: bytes = b""
    name: str = ""
    insecure: bool = False
    token: str = ""
    certificate: bytes = b""
    key: bytes = b""


def read_file(path: str) -> bytes:
    """The whole file. Raises OSError."""
    with open(path, "rb") as file:
        return file.read()


def find_access(choice: Choice, environ: Mapping[str, str], read: Read = read_file) -> Access:
    """The access that the config's choice gives, its files read now. Raises NoAccess."""
    try:
        found = (
            _kubeconfig(choice, read) if choice.kubeconfig else _in_cluster(choice, environ, read)
        )
    except OSError as error:
        raise NoAccess(f"{error.filename} cannot be read: {error.strerror}; {REMEDY}") from error
    return found._replace(server=choice.server or found.server, name=choice.name or found.name)


def server_of(access: Access) -> Server:
    """The server to connect to, with its TLS context. Raises NoAccess."""
    wrong = NoAccess(
        f"{shown(access.server)} is no address of an API, accepted: https://HOST:PORT; {REMEDY}"
    )
    try:
        url = urlsplit(access.server)
        port = url.port or PORTS[url.scheme]
    except (ValueError, KeyError):
        raise wrong from None
    if not url.hostname or url.path not in ("", "/") or url.query or url.username:
        raise wrong
    tls = _context(access) if url.scheme == "https" else None
    return Server(url.hostname, port, access.name or url.hostname, tls)


def _in_cluster(choice: Choice, environ: Mapping[str, str], read: Read) -> Access:
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not choice.server and not (host and port):
        raise NoAccess(f"no KUBERNETES_SERVICE_HOST and _PORT: this is no pod; {REMEDY}")
    folder = choice.service_account
    return Access(
        server=f"https://[{host}]:{port}" if ":" in (host or "") else f"https://{host}:{port}",
        authority=read(f"{folder}/ca.crt"),
        token=_token(read(f"{folder}/token"), f"{folder}/token"),
    )


def _kubeconfig(choice: Choice, read: Read) -> Access:
    path = choice.kubeconfig
    try:
        document = yaml.safe_load(read(path))
        context = _named(document, "contexts", "context", document["current-context"])
        cluster = _named(document, "clusters", "cluster", context["cluster"])
        user = _named(document, "users", "user", context["user"]) if "user" in context else {}
        found = _Files(path, read)
        return Access(
            server=str(cluster["server"]),
            authority=found.data(cluster, "certificate-authority"),
            name=str(cluster.get("tls-server-name") or ""),
            insecure=cluster.get("insecure-skip-tls-verify") is True,
            token=_user_token(user, found),
            certificate=found.data(user, "client-certificate"),
            key=found.data(user, "client-key"),
        )
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, TypeError, AttributeError) as error:
        raise NoAccess(f"{path} is no kubeconfig: {' '.join(str(error).split())}") from error
    except binascii.Error as error:
        raise NoAccess(f"{path} holds data that is no base64: {error}") from error
    except KeyError as error:
        raise NoAccess(f"{path} lacks {error.args[0]}, which its current context needs") from error


class _Files(NamedTuple):
    """The kubeconfig's way of giving files: KEY-data in base64, or a path relative to itself."""

    path: str
    read: Read

    def data(self, section: Mapping[str, Any], key: str) -> bytes:
        inline = section.get(f"{key}-data")
        if inline:
            return b64decode(str(inline), validate=True)
        named = section.get(key)
        return self.file(str(named)) if named else b""

    def file(self, name: str) -> bytes:
        return self.read(os.path.join(os.path.dirname(self.path), name))


def _user_token(user: Mapping[str, Any], found: _Files) -> str:
    for key in ("exec", "auth-provider", "username"):
        if user.get(key):
            raise NoAccess(
                f"{found.path}: the user's {key} is not supported; give it a token, a tokenFile or"
                " a client certificate"
            )
    if user.get("tokenFile"):  # before `token`, as in kubectl
        return _token(found.file(str(user["tokenFile"])), str(user["tokenFile"]))
    return _token(str(user.get("token") or "").encode(), found.path)


def _token(data: bytes, path: str) -> str:
    text = data.decode("latin-1").strip()
    if not text.isascii() or not text.isprintable():
        raise NoAccess(f"{path} holds no token: it has characters that no token has")
    return text


def _named(document: Mapping[str, Any], section: str, key: str, name: object) -> Mapping[str, Any]:
    """The entry of a kubeconfig's list that bears a name. Raises KeyError."""
    for entry in document[section]:
        if entry["name"] == name:
            found: Mapping[str, Any] = entry[key]
            return found
    raise KeyError(f"{key} {shown(name)}")


def _context(access: Access) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=access.authority.decode() or None)
        if access.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if access.certificate:
            _load_client(context, access)
    except (ssl.SSLError, ValueError) as error:
        raise NoAccess(f"the certificates for {access.server} cannot be used: {error}") from error
    return context


def _load_client(context: ssl.SSLContext, access: Access) -> None:
    """ssl takes a client's certificate from a file only; one in memory keeps the key off disks."""
    descriptor = os.memfd_create("client")
    try:
        os.write(descriptor, access.certificate + b"\n" + access.key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
