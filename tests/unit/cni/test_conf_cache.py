"""A kept config is the same config, and only ever the right one."""

from __future__ import annotations

from typing import Any

import pytest

from cni_plugin.cni import conf_cache
from cni_plugin.cni.conf import parse_conf
from cni_plugin.cni.conf_cache import cache_name, dump_conf, fingerprint, load_conf
from cni_plugin.cni.conf_load import read_conf

BASE = {
    "cniVersion": "1.1.0",
    "name": "pods",
    "type": "podwire",
    "unheard": 1,
    "dns": {"nameservers": ["192.0.2.53"]},
    "nonMasqueradeCIDRs": ["10.244.0.0/16", "2001:db8::/32"],
    "ipam": {
        "ranges": [[{"subnet": "192.0.2.0/24"}], [{"subnet": "2001:db8::/64"}]],
        "routes": [{"dst": "0.0.0.0/0", "table": 0}, {"dst": "::/0", "gw": "2001:db8::1"}],
    },
}
PER_POD: list[dict[str, Any]] = [
    {"prevResult": {"ips": []}},
    {"cni.dev/valid-attachments": []},
    {"args": {"cni": {"ips": ["192.0.2.9"]}}},
    {"runtimeConfig": {"ips": ["192.0.2.9"], "portMappings": []}},
]


class Store(dict[str, bytes]):
    """A folder of cache files in memory that counts its hits."""

    hits = 0

    def read(self, name: str) -> bytes | None:
        self.hits += name in self
        return self.get(name)

    def load(self, document: dict[str, Any], **options: bool) -> tuple[Any, list[str]]:
        warnings: list[str] = []
        found = read_conf(
            document, warnings.append, read=self.read, write=self.__setitem__, **options
        )
        return found, warnings


@pytest.mark.parametrize("extra", [{}, *PER_POD], ids=str)
def test_the_second_reading_is_the_same_and_needs_no_validation(
    extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    document = BASE | extra
    conf, warnings = parse_conf(document)
    assert store.load(document) == (conf, list(warnings))
    monkeypatch.setitem(__import__("sys").modules, "cni_plugin.cni.conf", None)
    assert store.load(document) == (conf, list(warnings))
    assert store.hits == 1


@pytest.mark.parametrize("extra", PER_POD, ids=str)
def test_what_differs_from_pod_to_pod_is_no_part_of_the_key(extra: dict[str, Any]) -> None:
    assert fingerprint(BASE | extra) == fingerprint(BASE)


def test_the_runtimes_ranges_are_part_of_the_key() -> None:
    ranges = {"runtimeConfig": {"ipRanges": [[{"subnet": "198.51.100.0/24"}]]}}
    assert fingerprint(BASE | ranges) != fingerprint(BASE)


@pytest.mark.parametrize("change", [{"mtu": 1400}, {"mtu": 1400.0}, {"name": "b"}, {"ipMasq": 1}])
def test_a_changed_config_has_another_key(change: dict[str, Any]) -> None:
    keys = {fingerprint(BASE), fingerprint(BASE | change), fingerprint(BASE | {"mtu": "1400"})}
    assert len(keys) == 3


def test_the_order_of_keys_does_not_count() -> None:
    assert fingerprint(dict(reversed(BASE.items()))) == fingerprint(BASE)


def test_the_key_covers_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(BASE)
    monkeypatch.setattr(conf_cache, "_ALIKE", conf_cache._alike("99"))
    assert fingerprint(BASE) != before


def test_a_clash_of_names_is_no_hit() -> None:
    conf, _ = parse_conf(BASE)
    data = dump_conf(conf, (), fingerprint(BASE))
    assert load_conf(data, fingerprint(BASE | {"name": "b"})) is None


def test_every_torn_or_damaged_file_is_no_hit() -> None:
    key = fingerprint(BASE)
    data = dump_conf(parse_conf(BASE)[0], ("w",), key)
    assert load_conf(data, key) is not None
    for end in range(len(data)):
        assert load_conf(data[:end], key) is None
    for rest in (b"[]", b"5", b'[{"Dns":{}},[]]', b'[{"NetConf":{}},[]]', b'[{"os":[]},[]]', b"{}"):
        assert load_conf(key + b"\n" + rest + b"\n", key) is None


def test_a_refused_config_is_not_kept() -> None:
    store = Store()
    with pytest.raises(Exception, match="mtu"):
        store.load(BASE | {"mtu": 5})
    found, warnings = store.load(BASE | {"mtu": 5}, lenient=True)
    assert (found.mtu, store) == (0, {})
    assert any("mtu is 5" in line for line in warnings)


def test_a_file_name_is_short_and_plain() -> None:
    name = cache_name(fingerprint(BASE))
    assert name.startswith("conf-")
    assert name.endswith(".json")
    assert "/" not in name
    assert len(name) < 40
