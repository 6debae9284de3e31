"""The SROS 2 policy files allow what the real nodes have, and nothing else.

Fast DDS as it comes from package registries has no security plugin, so nothing is encrypted or refused here: the files
are compared with the topics and services that the nodes create.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import Processes, wait_until
from spinning import spinning

rclpy = pytest.importorskip("rclpy")
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402

from pi0_ros.base.share import config_path  # noqa: E402
from pi0_ros.nodes.messages import message_class  # noqa: E402
from pi0_ros.robot import load_robot  # noqa: E402

Rights = dict[str, set[str]]  # right -> names of topics or services
KINDS = {"topics": ("publish", "subscribe"), "services": ("request", "reply"), "actions": ("call", "execute")}
NODES: dict[str, dict[str, object]] = {
    "controller": {"deadman_topic": "/joy", "deadman_button": 0},
    "policy": {"backend": "zmq", "rtc.mode": "exact"},
    "recorder": {"joy_buttons": "start=0"},
    "monitor": {},
}
OLDER_LACK = "/get_type_description"  # which Humble's nodes do not have
FILES = [*NODES, "operator"]


def read(name: str) -> dict[str, Rights]:
    """The rights of each node in a policy file; AssertionError for what SROS 2's schema does not know."""
    root = ElementTree.parse(config_path(f"sros2/{name}.policy.xml")).getroot()
    assert root.tag == "policy" and root.get("version") == "0.2.0"
    (enclave,) = root.findall("enclaves/enclave")
    assert enclave.get("path") == f"/pi0/{name}"
    found: dict[str, Rights] = {}
    for profile in enclave.findall("profiles/profile"):
        space, node = profile.attrib["ns"], profile.attrib["node"]
        rights = found.setdefault(node, {})
        for group in profile:
            ((right, word),) = group.attrib.items()
            assert right in KINDS[group.tag] and word == "ALLOW" and len(group)
            for item in group:
                assert item.tag == group.tag.removesuffix("s") and item.text
                names = rights.setdefault(right, set())
                full = item.text.replace("~", f"{space}{node}", 1) if item.text.startswith("~") else item.text
                full = full if full.startswith("/") else f"{space}{full}"
                assert full not in names, f"{name}: {full} is there twice"
                names.add(full)
    return found


def seen(observer: Node, node: str) -> Rights:
    """What a node has, as the ROS graph tells."""
    ways = {"publish": "publisher", "subscribe": "subscriber", "reply": "service", "request": "client"}
    rights = {}
    for right, what in ways.items():
        names = {name for name, _ in getattr(observer, f"get_{what}_names_and_types_by_node")(node, "/")}
        if names:
            rights[right] = names
    return rights


@pytest.mark.parametrize("name", FILES)
def test_files_are_of_the_schema(name: str) -> None:
    assert read(name)


def test_all_files_are_known() -> None:
    assert sorted(FILES) == sorted(path.name.split(".")[0] for path in config_path("sros2").iterdir())


def test_only_those_may_who_must() -> None:
    rights = {name: read(name) for name in FILES}

    def who(right: str, topic: str) -> set[str]:
        return {name for name, nodes in rights.items() for r in nodes.values() if topic in r.get(right, ())}

    commands = [group.topic for group in load_robot("demo_arm").commands]
    assert all(who("publish", topic) == {"controller"} for topic in (*commands, "/pi0/command"))
    assert who("publish", "/pi0/chunk") == {"policy"}
    assert who("request", "/controller/arm") == {"operator"}
    asked = {name for nodes in rights.values() for r in nodes.values() for name in r.get("request", ())}
    answered = {name for nodes in rights.values() for r in nodes.values() for name in r.get("reply", ())}
    assert asked <= answered


@pytest.mark.dds
def test_each_node_may_what_it_does_and_nothing_else(ros_context: object, processes: Processes, tmp_path: Path) -> None:
    robot, observer = load_robot("demo_arm"), Node("observer", context=ros_context)
    for topic, kind in robot.topics.items():  # the recorder listens to what is there
        observer.create_publisher(message_class(kind), topic, QoSProfile(depth=1))
    for name, parameters in NODES.items():
        more = {"out_dir": str(tmp_path)} if name == "recorder" else {}
        processes.node(f"{name}_node", robot="demo_arm", use_sim_time=True, **parameters, **more)
    wrong: dict[str, str] = {}

    def compare() -> bool:
        wrong.clear()
        for name in NODES:
            for node, allowed in read(name).items():
                try:
                    has = seen(observer, node)
                except Exception as error:  # not there yet
                    wrong[node] = str(error)
                    continue
                for right in allowed.keys() | has.keys():
                    mays, does = allowed.get(right, set()), has.get(right, set())
                    mays = {name for name in mays if name in does or not name.endswith(OLDER_LACK)}
                    if mays != does:
                        wrong[f"{name}.policy.xml, {node}, {right}"] = (
                            f"missing {sorted(does - mays)}, not needed {sorted(mays - does)}"
                        )
        return not wrong

    with spinning(ros_context, observer):
        wait_until(compare, 90.0, lambda: "\n".join(f"{place}: {what}" for place, what in wrong.items()))
