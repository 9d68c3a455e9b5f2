"""Config lists: every problem with its path."""

from __future__ import annotations

from typing import Any

import pytest

from cni_plugin.cni.conf_review import problems, review

PLUGIN = {"type": "podwire", "ipam": {"subnet": "192.0.2.0/24"}}
LIST: dict[str, Any] = {"cniVersion": "1.1.0", "name": "pods", "plugins": [PLUGIN]}


def paths(document: dict[str, Any]) -> list[str]:
    return [problem.path for problem in problems(document)]


def test_a_good_list_has_neither_problems_nor_warnings() -> None:
    extra = {"disableCheck": True, "disableGC": "false", "cniVersions": ["1.0.0", "9.0.0"]}
    assert review(LIST | extra) == ((), ())


def test_a_plugin_object_is_reviewed_alone() -> None:
    assert paths(PLUGIN) == ["name"]
    assert problems(PLUGIN | {"name": "pods", "cniVersion": "1.1.0"}) == []


def test_every_problem_has_its_path() -> None:
    document = LIST | {
        "name": "a b",
        "disableCheck": 1,
        "plugins": [
            PLUGIN | {"mtu": "1500", "vlan": 5000, "vlanTrunk": [1]},
            {"type": "../x"},
            {"type": "portmap", "mtu": "fine, not ours"},
            {},
            5,
            PLUGIN | {"ipam": {"subnet": "192.0.2.1/24"}},
        ],
    }
    assert paths(document) == [
        "name",
        "disableCheck",
        "plugins[0].vlanTrunk",
        "plugins[0].mtu",
        "plugins[0].vlan",
        "plugins[1].type",
        "plugins[3].type",
        "plugins[4]",
        "plugins[5].ipam.subnet",
    ]


@pytest.mark.parametrize("plugins", [[], {}, None, 5, "x"])
def test_a_list_has_plugins(plugins: object) -> None:
    assert paths(LIST | {"plugins": plugins}) == ["plugins"]


@pytest.mark.parametrize("version", ["9.9.9", 1, None, True])
def test_a_wrong_version_is_told_once(version: object) -> None:
    (problem,) = problems(LIST | {"cniVersion": version})
    assert (problem.path, problem.value) == ("cniVersion", version)
    assert "1.1.0" in problem.accepted


@pytest.mark.parametrize("versions", ["1.1.0", [1], ["9.9.9"], {}, 5])
def test_versions_are_a_list_with_one_that_is_spoken(versions: object) -> None:
    assert paths(LIST | {"cniVersions": versions}) == ["cniVersions"]


def test_the_highest_version_of_the_list_counts() -> None:
    two_sets = {"ranges": [[{"subnet": "192.0.2.0/24"}], [{"subnet": "198.51.100.0/24"}]]}
    document = LIST | {"cniVersion": "0.2.0", "plugins": [PLUGIN | {"ipam": two_sets}]}
    assert paths(document) == ["plugins[0].ipam.ranges"]
    assert problems(document | {"cniVersions": ["0.2.0", "1.0.0"]}) == []


def test_warnings_have_their_plugin() -> None:
    found = review(LIST | {"plugin": 1, "plugins": [PLUGIN | {"mtuu": 1}]})
    assert found.problems == ()
    assert found.warnings == (
        "plugin is not a key of podwire and is ignored; did you mean plugins?",
        "plugins[0]: mtuu is not a key of podwire and is ignored; did you mean mtu?",
    )


def test_a_list_without_podwire_is_a_warning() -> None:
    found = review(LIST | {"plugins": [{"type": "bridge"}]})
    assert found == ((), ('no plugin of the list has type "podwire"',))


def test_name_and_version_are_the_lists_as_the_runtime_has_it() -> None:
    own = PLUGIN | {"name": "not / ours", "cniVersion": "9.9.9"}
    assert problems(LIST | {"plugins": [own]}) == []


@pytest.mark.parametrize("ipam", [{"subnet": "192.0.2.1/24"}, {"type": "../x"}, 5, [], True])
def test_a_broken_ipam_is_not_also_called_absent(ipam: Any) -> None:
    found, warnings = review(PLUGIN | {"name": "pods", "ipMasq": True, "ipam": ipam})
    assert len(found) == 1
    assert warnings == ()


@pytest.mark.parametrize("ipam", [None, {}])
def test_without_ipam_there_is_nothing_to_masquerade(ipam: Any) -> None:
    document = PLUGIN | {"name": "pods", "cniVersion": "1.1.0", "ipMasq": True, "ipam": ipam}
    assert review(document) == ((), ("ipMasq has no effect without ipam",))


@pytest.mark.parametrize("in_one_set", [True, False])
def test_too_many_ranges_are_refused_before_each_is_looked_at(in_one_set: bool) -> None:
    many: list[Any] = [{"subnet": f"10.{i // 256}.{i % 256}.0/24"} for i in range(1024)]

    def ranges(found: list[Any]) -> dict[str, Any]:
        sets = [found] if in_one_set else [[one] for one in found]
        return PLUGIN | {"name": "pods", "cniVersion": "1.1.0", "ipam": {"ranges": sets}}

    assert problems(ranges(many)) == []
    (problem,) = problems(ranges([*many, {"subnet": "not looked at"}]))
    assert (problem.path, problem.value, problem.code) == ("ipam.ranges", "1025 ranges", 7)
