"""The browser scene and panel against a real viser server (no browser): what is sent to be drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

viser = pytest.importorskip("viser")
pytest.importorskip("visualization_msgs")
from geometry_msgs.msg import Point  # noqa: E402
from std_msgs.msg import ColorRGBA  # noqa: E402
from visualization_msgs.msg import Marker  # noqa: E402

from pi0_ros.base.share import share_path  # noqa: E402
from pi0_ros.control.states import State  # noqa: E402
from pi0_ros.monitor import offers  # noqa: E402
from pi0_ros.monitor.drawn_robot import with_shapes  # noqa: E402
from pi0_ros.monitor.kinematics import UrdfError, parse_urdf  # noqa: E402
from pi0_ros.monitor.model import robot_model  # noqa: E402
from pi0_ros.monitor.offers import Offer  # noqa: E402
from pi0_ros.monitor.panel import Actions, Panel, enlarge, prompt_choices  # noqa: E402
from pi0_ros.monitor.panel_text import Health  # noqa: E402
from pi0_ros.monitor.scene import MIDDLE, Scene, as_light  # noqa: E402
from pi0_ros.monitor.top_bar import Standing, said  # noqa: E402
from pi0_ros.robot import load_robot  # noqa: E402


@pytest.fixture
def server() -> Iterator[Any]:
    server = viser.ViserServer(host="127.0.0.1", port=18080, verbose=False)
    yield server
    server.stop()


def marker(kind: int, namespace: str = "cube/red", **fields: Any) -> Marker:
    made = Marker(ns=namespace, id=1, type=kind, action=Marker.ADD, **fields)
    made.scale.x = made.scale.y = made.scale.z = 0.04
    made.pose.orientation.w = 1.0
    made.color = ColorRGBA(r=0.8, g=0.1, b=0.1, a=1.0)
    return made


def line(count: int) -> Marker:
    made = marker(Marker.LINE_STRIP, "planned/hand")
    made.points = [Point(x=float(i)) for i in range(count)]
    made.colors = [ColorRGBA(r=1.0, g=0.5, b=0.0, a=i / (count - 1)) for i in range(count)]
    return made


def drawn(server: Any, namespace: str) -> Any:
    return server.scene.get_handle_by_name(f"/markers/{namespace}/1")


def test_markers_are_added_moved_replaced_and_deleted(server: Any) -> None:
    scene = Scene(server)
    cube = marker(Marker.CUBE)
    scene.draw(cube, 0.0)
    first = drawn(server, "cube/red")
    cube.pose.position.x = 0.3
    scene.draw(cube, 0.1)
    assert drawn(server, "cube/red") is first
    np.testing.assert_allclose(first.position, [0.3, 0, 0])
    cube.scale.x = 0.1
    scene.draw(cube, 0.2)
    assert drawn(server, "cube/red") is not first
    cube.action = Marker.DELETE
    scene.draw(cube, 0.3)
    assert drawn(server, "cube/red") is None
    for kind in (Marker.SPHERE, Marker.CYLINDER):
        scene.draw(marker(kind, f"kind{kind}"), 0.4)
        assert drawn(server, f"kind{kind}") is not None
    scene.draw(marker(Marker.MESH_RESOURCE, "mesh"), 0.4)
    assert drawn(server, "mesh") is None
    scene.draw(Marker(action=Marker.DELETEALL), 0.5)
    assert drawn(server, f"kind{Marker.SPHERE}") is None


def test_lines_change_in_place_and_fade_with_alpha(server: Any) -> None:
    scene = Scene(server)
    scene.draw(line(5), 0.0)
    ribbon = drawn(server, "planned/hand")
    assert ribbon.points.shape == (4, 2, 3)
    for there, colour in ((ribbon.colors[0, 0], np.array(MIDDLE) / 255), (ribbon.colors[-1, 1], [1.0, 0.5, 0.0])):
        np.testing.assert_array_equal(there, np.round(255 * as_light(np.array(colour))))
    scene.draw(line(3), 0.1)
    assert drawn(server, "planned/hand") is ribbon and ribbon.points.shape == (2, 2, 3)


def test_a_marker_goes_when_its_lifetime_is_over_unless_repeated(server: Any) -> None:
    scene = Scene(server)
    short = marker(Marker.CUBE)
    short.lifetime.sec = 1
    scene.draw(short, 10.0)
    scene.draw(short, 10.8)
    scene.forget_expired(11.5)
    assert drawn(server, "cube/red") is not None
    scene.forget_expired(11.9)
    assert drawn(server, "cube/red") is None


def test_namespaces_hide_together_with_what_comes_later(server: Any) -> None:
    scene = Scene(server)
    scene.draw(line(5), 0.0)
    scene.show_namespace("planned", False)
    assert not drawn(server, "planned/hand").visible
    scene.draw(marker(Marker.CUBE, "planned/other"), 0.0)
    scene.draw(marker(Marker.CUBE), 0.0)
    assert not drawn(server, "planned/other").visible and drawn(server, "cube/red").visible
    scene.show_namespace("planned", True)
    assert drawn(server, "planned/hand").visible and drawn(server, "planned/other").visible


def test_the_robot_moves_by_joint_name_and_its_ghost_with_it(server: Any) -> None:
    scene = Scene(server)
    path = share_path(load_robot("demo_arm").urdf or "")
    model = robot_model(load_robot("demo_arm"), parse_urdf(path.read_text()))
    assert scene.add_robot(model, path.read_text(), path.parent)
    frame = server.scene.get_handle_by_name("/robot/visual/yaw_link")
    scene.move_robot({"yaw": np.pi / 2, "elsewhere": 1.0})
    np.testing.assert_allclose(np.abs(frame.wxyz), [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-6)
    ghost = server.scene.get_handle_by_name("/ghost/grasp_point")
    assert not ghost.visible
    scene.move_ghosts({"yaw": 0.5}, {"grasp_point": 0.1})
    assert ghost.visible
    turned = server.scene.get_handle_by_name("/ghost/grasp_point/visual/yaw_link")
    np.testing.assert_allclose(turned.wxyz[[0, 3]], [np.cos(0.25), np.sin(0.25)], atol=1e-6)


def test_the_panel_shows_cameras_side_by_side_and_health(server: Any) -> None:
    calls: list[Any] = []
    actions = Actions(calls.append, calls.append, calls.append, lambda what, on: calls.append((what, on)))
    panel = Panel(server, "arm", ["put the red cube in the tray", "wave"], actions)
    panel.show_images({"base": np.zeros((96, 96, 3), np.uint8), "wrist": np.full((48, 96, 3), 255, np.uint8)})
    assert panel._images.image.shape == (192, 192 + 6 + 384, 3) and panel._images.label == "base  |  wrist"
    panel.show_health([Health("policy", 0, "fine"), Health("controller", 1, "HOLDING")])
    assert re.findall(r"<b>(\w+)</b>([^<]*)<", panel._health.content) == [
        ("policy", " fine"), ("controller", " (warning) HOLDING")
    ]  # fmt: skip
    panel.show_headline("fold <b>it</b>", "", Offer(("arm",), "<i>why</i>"))
    assert "fold &lt;b&gt;it&lt;/b&gt;" in panel._headline.content and "&lt;i&gt;why" in panel._headline.content
    assert [name for name, button in panel._motion.handles.items() if button.visible] == ["arm"]


def test_every_state_of_the_controller_has_a_colour_and_words_of_its_own_and_buttons_that_do_something() -> None:
    painted = {said(Standing(f"SHADOW {state.value}"))["colour"] for state in State}
    assert len(painted) == len(State) and said(Standing('no";x:y <b>'))["colour"] not in painted
    assert [state for state in State if said(Standing(state.value))["stopped"]] == [State.STOPPED]
    for state in State:
        for by_switch in (True, False):
            offer = offers.motion({"state": f"SHADOW {state.value}"}, by_switch)
            assert offer.buttons and offers.MEANS[state.value] in offer.why, state
    assert len(set(offers.MEANS.values())) == len(State)
    assert offers.motion({"state": "DISARMED", "fault": "joint 3 leapt"}, False) == Offer(
        ("arm", "reset"), "fault: joint 3 leapt"
    )
    assert offers.motion({"state": "TAKEOVER"}, True).buttons == ("disarm", "hand back")
    unheard = {"state": "HOLDING", "person": "wanted"}
    assert offers.motion(unheard, True).buttons == ("disarm", "hand back")
    waits = {"state": "DISARMED", "auto_arm": "waits for: no chunk has come"}
    assert offers.motion(waits, True).buttons == ("arm", "disarm") and "waits for" in offers.motion(waits, True).why
    assert offers.motion({**waits, "auto_arm": "off"}, True) == Offer(("arm",), offers.MEANS["DISARMED"])
    nobody = offers.motion(None, True)
    assert not nobody.buttons and nobody.why


def test_enlarging_keeps_pixels_and_aspect() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    large = enlarge(image, 8)
    assert large.shape == (8, 12, 3)
    np.testing.assert_array_equal(large[::4, ::4], image)


def test_one_button_per_colour_where_the_prompt_names_one() -> None:
    assert prompt_choices("put the red cube in the tray") == [
        "put the red cube in the tray",
        "put the green cube in the tray",
        "put the blue cube in the tray",
    ]
    assert prompt_choices("fold the shirt") == ["fold the shirt"]
    assert prompt_choices("") == []
    assert prompt_choices("be bored") == ["be bored"]


@pytest.mark.parametrize("mesh", ["bad.dae", "bad.glb", "bad.ply"])
def test_a_mesh_that_cannot_be_read_is_an_error_of_the_urdf(tmp_path: Path, mesh: str) -> None:
    """Anything else would end the page, and its emergency stop with it."""
    (tmp_path / mesh).write_bytes(b"ply\n<not a mesh")
    shape = f'<visual><geometry><mesh filename="{mesh}"/></geometry></visual>'
    with pytest.raises(UrdfError, match="not to be drawn"):
        with_shapes(f'<robot name="r"><link name="base">{shape}</link></robot>', tmp_path)
