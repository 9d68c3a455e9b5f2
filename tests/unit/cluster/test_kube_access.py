"""Credentials: a pod's service account, a kubeconfig, and what is wrong with either."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from cni_plugin.cluster.kube_access import Access, NoAccess, find_access, server_of
from cni_plugin.cluster.kube_api import Api, ApiFailure, Limits
from cni_plugin.cluster.kube_choice import Choice
from tests.support.kube_api import KubeApi, node_object
from tests.support.need import tool

KUBECONFIG = """
current-context: two
contexts:
- {name: one, context: {cluster: x, user: x}}
- {name: two, context: {cluster: k, user: u}}
clusters:
- name: k
  cluster: {server: "https://192.0.2.1:6443", tls-server-name: api,
    certificate-authority-data: "%s"}
users:
- name: u
  user: {client-certificate: pki/cert.pem, client-key-data: "%s", token: abc}
"""


def base64(data: bytes) -> str:
    return b64encode(data).decode()


def test_a_kubeconfigs_current_context(tmp_path):
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki/cert.pem").write_bytes(b"CERT")
    path = tmp_path / "config"
    path.write_text(KUBECONFIG % (base64(b"CA"), base64(b"KEY")))
    wanted = Access("https://192.0.2.1:6443", b"CA", "api", False, "abc", b"CERT", b"KEY")
    assert find_access(Choice(str(path)), {}) == wanted
    elsewhere = find_access(Choice(str(path), "https://[2001:db8::1]:6443", "other"), {})
    assert elsewhere == wanted._replace(server="https://[2001:db8::1]:6443", name="other")


@pytest.mark.parametrize(
    ("host", "server"),
    [("10.96.0.1", "https://10.96.0.1:443"), ("2001:db8::1", "https://[2001:db8::1]:443")],
)
def test_a_pods_service_account(tmp_path, host, server):
    (tmp_path / "token").write_text("abc\n")
    (tmp_path / "ca.crt").write_text("CA")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    choice = Choice(service_account=str(tmp_path))
    assert find_access(choice, environ) == Access(server, b"CA", token="abc")
    # Before kube-proxy works the service's address leads nowhere, and a node's does.
    named = choice._replace(server="https://192.0.2.1:6443")
    assert find_access(named, {}).server == "https://192.0.2.1:6443"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no kubeconfig"),
        ("[]", "is no kubeconfig"),
        ("a: [", "is no kubeconfig"),
        ("contexts: []", "lacks current-context"),
        (KUBECONFIG.replace("two\n", "three\n", 1) % ("", ""), 'lacks context "three"'),
        (KUBECONFIG.replace("name: k", "name: q") % ("", ""), 'lacks cluster "k"'),
        (KUBECONFIG % ("!", ""), "no base64"),
        (KUBECONFIG % ("", ""), "pki/cert.pem cannot be read"),
        (
            KUBECONFIG.replace("token: abc", "exec: {command: aws}") % ("", ""),
            "exec is not supported",
        ),
        (
            KUBECONFIG.replace("token: abc", "tokenFile: /nowhere/token") % ("", ""),
            "/nowhere/token cannot be read",
        ),
        (KUBECONFIG.replace("token: abc", 'token: "a\\nb"') % ("", ""), "holds no token"),
    ],
)
def test_what_is_wrong_with_a_kubeconfig_is_named(tmp_path, text, words):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(NoAccess, match=words.replace('"', ".")):
        find_access(Choice(str(path)), {})


def test_no_pod_and_no_config_names_the_remedy():
    with pytest.raises(NoAccess, match=r"`server` or `kubeconfig` in the agent's config"):
        find_access(Choice(), {})


@pytest.mark.parametrize("url", ["", "ftp://a", "https://", "https://a/b", "https://a:x", "a:6443"])
def test_an_address_that_is_none_is_named(url):
    with pytest.raises(NoAccess, match="accepted: https://HOST:PORT"):
        server_of(Access(url))


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Path:
    """An authority, and certificates of a server on 127.0.0.1 and of a client."""
    tool("openssl")
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    for name in ("server", "client"):
        (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "2")
        openssl(*signed, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext")
    return folder


def ask(tls: ssl.SSLContext, cluster: str, user: str, folder: Path) -> str:
    """The node that a TLS server tells of, by a kubeconfig."""

    async def main() -> str:
        async with KubeApi(tls) as server:
            server.put(node_object("a"))
            path = folder / "config"
            path.write_text(
                "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
                f"clusters: [{{name: k, cluster: {{server: '{server.url}', {cluster}}}}}]\n"
                f"users: [{{name: u, user: {{{user}}}}}]\n"
            )
            async with Api(Choice(str(path)), Limits()) as api:
                return (await api.node("a"))["metadata"]["name"]

    return asyncio.run(main())


def test_a_client_proves_itself_by_its_certificate(pki):
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "ca.pem"))
    tls.load_cert_chain(pki / "server.pem", pki / "server.key")
    tls.verify_mode = ssl.CERT_REQUIRED
    client = "client-certificate: client.pem, client-key: client.key"
    assert ask(tls, "certificate-authority: ca.pem", client, pki) == "a"
    with pytest.raises(ApiFailure):
        ask(tls, "certificate-authority: ca.pem", "", pki)


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ("certificate-authority: client.pem", "certificate verify failed"),
        ("certificate-authority: ca.pem, tls-server-name: other", "not valid for 'other'"),
        ("certificate-authority: server.key", "certificates for https://.* cannot be used"),
    ],
)
def test_a_server_that_is_not_the_one_is_not_asked(pki, cluster, words):
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pki / "server.pem", pki / "server.key")
    with pytest.raises(ApiFailure, match=words):
        ask(tls, cluster, "", pki)
    assert ask(tls, "insecure-skip-tls-verify: true", "", pki) == "a"
