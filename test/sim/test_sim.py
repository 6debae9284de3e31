"""The simulated arm: kinematics agree with its model, runs repeat, pictures show the scene, the task can be done."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import run

import mujoco
import numpy as np
import pytest

from pi0_ros.base.share import config_path, share_path
from pi0_ros.monitor.kinematics import parse_urdf
from pi0_ros.robot import load_robot
from pi0_ros.sim.demonstrator import Demonstrator
from pi0_ros.sim.kinematics import forward, inverse
from pi0_ros.sim.plans import DISTURBANCES, plan
from pi0_ros.sim.scenes import render_scenes
from pi0_ros.sim.task import WORDINGS, Score, named_colour, prompt
from pi0_ros.sim.world import ARM_STARTS, CAMERAS, CUBES, JOINTS, SLOTS, TICK, TRAY, Disturbance, Start, World, in_tray

HOME_START = Start()


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def play(world: World, seed: int, colour: str, limit_s: float = 15.0, start: Start = HOME_START) -> Score:
    world.reset(seed, start)
    demonstrator, score = Demonstrator(2 * TICK), Score()
    command = None
    for step in range(round(limit_s / TICK)):
        if step % 2 == 0:
            command = demonstrator.act(world.joint_positions(), world.cubes(), colour)
        world.step(command)
        score.update(world.cubes())
        if score.success(colour):
            break
    return score


def test_kinematics_are_those_of_the_model(world: World) -> None:
    for seed in range(20):
        world.reset(seed)
        grasp = world.data.site("grasp").xpos
        np.testing.assert_allclose(forward(world.joint_positions()[:5]), grasp, atol=1e-9)


def test_the_urdf_has_the_cameras_where_they_look_from(world: World) -> None:
    """Their optical frames: x right, y down, z ahead; MuJoCo's have y up and look along -z."""
    robot = load_robot("demo_arm")
    urdf = parse_urdf(share_path(str(robot.urdf)).read_text())
    for seed in range(5):
        world.reset(seed, Start("anywhere"))
        poses = urdf.poses(dict(zip(JOINTS[:5], world.joint_positions())))
        for camera in CAMERAS:
            seen = world.data.camera(camera)
            np.testing.assert_allclose(poses[f"{camera}_camera"][:3, 3], seen.xpos, atol=1e-5)
            optical = seen.xmat.reshape(3, 3) @ np.diag([1.0, -1.0, -1.0])
            np.testing.assert_allclose(poses[f"{camera}_camera"][:3, :3], optical, atol=1e-5)


def test_the_focal_length_leads_a_cube_to_its_pixels(world: World) -> None:
    world.reset(3)
    world.render("base")
    focal, side = world.focal_length("base")
    seen = world.data.camera("base")
    for name, pose in world.cubes().items():
        geom = world.model.body(name).geomadr[0] if name in CUBES else None
        rows, columns = np.nonzero(world.renderer.geoms == geom)
        if len(rows) < 4:
            continue
        x, y, z = np.diag([1.0, -1.0, -1.0]) @ seen.xmat.reshape(3, 3).T @ (pose[:3] - seen.xpos)
        u, v = focal * x / z + (side - 1) / 2, focal * y / z + (side - 1) / 2
        assert abs(u - columns.mean()) < 1.5 and abs(v - rows.mean()) < 1.5, name


def test_inverse_undoes_forward_with_the_hand_down() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        radius, yaw, height = rng.uniform(0.15, 0.33), rng.uniform(-1.5, 1.5), rng.uniform(0.01, 0.2)
        point = np.array([radius * np.cos(yaw), radius * np.sin(yaw), height])
        joints = inverse(point)
        np.testing.assert_allclose(forward(joints), point, atol=1e-9)
        assert joints[1:4].sum() == pytest.approx(np.pi)  # pitches add up to straight down


def test_robot_file_model_and_urdf_name_the_same_joints_and_limits(world: World) -> None:
    yourdfpy = pytest.importorskip("yourdfpy")
    robot = load_robot("demo_arm")
    assert robot.joint_names == JOINTS
    urdf = yourdfpy.URDF.load(str(config_path("robots", "demo_arm.urdf")), load_meshes=False)
    assert tuple(urdf.actuated_joint_names) == JOINTS
    for joint in robot.joints[:5]:
        low, high = world.model.joint(joint.name).range
        limit = urdf.joint_map[joint.name].limit
        assert (joint.lower, joint.upper) == pytest.approx((low, high))
        assert (joint.lower, joint.upper) == pytest.approx((limit.lower, limit.upper))
    joints = np.array([0.4, 0.3, 1.4, 1.5, -0.3, 0.7])
    world.place_arm(joints)
    urdf.update_cfg(joints)
    np.testing.assert_allclose(urdf.get_transform("grasp_point", "base")[:3, 3], forward(joints[:5]), atol=1e-6)
    finger = world.data.body("left_finger").xpos - world.data.body("hand").xpos
    assert np.linalg.norm(finger) == pytest.approx(0.7 * 0.043, abs=1e-9)


def test_a_seed_and_commands_fix_everything(world: World) -> None:
    def trace() -> tuple[np.ndarray, bytes]:
        world.reset(7)
        world.disturbance = Disturbance(0.03)
        for _ in range(50):
            world.step(np.array([0.3, 0.4, 1.5, 1.2, 0.0, 0.5]))
        return world.joint_positions(), world.render("base").tobytes()

    (first, picture), (second, again) = trace(), trace()
    world.disturbance = Disturbance()
    np.testing.assert_array_equal(first, second)
    assert picture == again


def test_pictures_show_the_cubes(world: World) -> None:
    world.reset(0)
    image = world.render("base").astype(int)
    assert image.shape == (96, 96, 3)
    for index in range(3):
        others = [i for i in range(3) if i != index]
        assert (image[..., index] > 60 + image[..., others].max(-1)).sum() > 5, CUBES[index]
    assert not np.array_equal(world.render("wrist"), world.render("base"))


def test_no_opengl_is_loaded() -> None:
    code = (
        "from pi0_ros.sim.world import World; World().render('base');"
        "maps = open('/proc/self/maps').read();"
        "assert 'libGL' not in maps and 'libEGL' not in maps and 'OSMesa' not in maps"
    )
    root = Path(__file__).parents[2]
    assert run([sys.executable, "-c", code], cwd=root, timeout=120).returncode == 0


def test_cubes_lie_apart_and_in_reach(world: World) -> None:
    for seed in range(200):
        world.reset(seed)
        places = np.array([pose[:2] for pose in world.cubes().values()])
        gaps = [np.linalg.norm(places[i] - places[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
        assert min(gaps) > 0.10
        assert all(0.19 < np.linalg.norm(place) < 0.33 for place in places)
        assert min(np.linalg.norm(places - TRAY, axis=1)) > 0.1


@pytest.mark.parametrize("amplitude", [0.0, 0.05])
def test_the_demonstrator_puts_the_named_cube_in_the_tray(world: World, amplitude: float) -> None:
    world.disturbance = Disturbance(amplitude)
    results = [play(world, seed, CUBES[seed % 3]) for seed in range(12)]
    world.disturbance = Disturbance()
    assert all(
        score.success(CUBES[seed % 3]) and score.right_cube(CUBES[seed % 3]) for seed, score in enumerate(results)
    )


def test_score() -> None:
    lying = {name: np.array([0.25, -0.1 + 0.1 * i, 0.02, 1, 0, 0, 0]) for i, name in enumerate(CUBES)}
    score = Score()
    score.update(lying)
    assert not score.lifted and not score.success("red")
    score.update({**lying, "blue": np.array([0.2, 0, 0.10, 1, 0, 0, 0])})
    assert score.lifted == ["blue"] and score.right_cube("blue") and not score.right_cube("red")
    score.update({**lying, "blue": np.array([*TRAY, 0.024, 1, 0, 0, 0])})
    assert score.success("blue") and not score.success("red")
    assert not in_tray(np.array([*TRAY, 0.08]))  # held over the tray is not in it


def test_the_score_of_one_instruction_after_another() -> None:
    lying = {name: np.array([0.25, -0.1 + 0.1 * i, 0.02, 1, 0, 0, 0]) for i, name in enumerate(CUBES)}
    inside = np.array([*TRAY, 0.024, 1, 0, 0, 0])
    score = Score()
    score.instruct("red")
    score.update({**lying, "red": inside})
    assert score.success("red")
    score.instruct("blue")
    assert not score.success("blue") and not score.lifted
    score.update({**lying, "red": inside, "blue": inside})
    assert score.success("blue")
    score.update({**lying, "red": inside, "blue": inside, "green": inside})
    assert not score.success("blue")  # nobody asked for the green one


def test_prompts_name_one_colour() -> None:
    for colour in CUBES:
        assert {named_colour(prompt(colour, k)) for k in range(len(WORDINGS))} == {colour}
    assert named_colour("put the cube in the tray") is None
    assert named_colour("put the red cube on the blue cube") is None


def test_scenes_depend_on_their_seed_alone() -> None:
    scenes, later = render_scenes(3, 40, 8), render_scenes(1, 42, 8)
    for camera in CAMERAS:
        np.testing.assert_array_equal(scenes.frames[camera][2], later.frames[camera][0])
        np.testing.assert_array_equal(scenes.pixels[camera][2], later.pixels[camera][0])
    assert (scenes.pixels["base"].sum((2, 3)) > 0).mean() > 0.6  # the arm may hide a cube, not most of them
    np.testing.assert_array_equal(scenes.cubes[2], later.cubes[0])
    assert not np.array_equal(scenes.cubes[0], scenes.cubes[1])


def test_the_demonstrator_recovers_from_a_missed_grasp(world: World) -> None:
    successes, closed = 0, 0
    for seed in range(10):
        world.reset(seed, Start("beside"))
        joints, colour = world.joint_positions(), CUBES[seed % 3]
        gaps = [np.linalg.norm(forward(joints[:5])[:2] - pose[:2]) for pose in world.cubes().values()]
        assert 0.04 < min(gaps) < 0.13
        closed += joints[5] > 0.9
        successes += play(world, seed, colour, limit_s=10.0, start=Start("beside")).success(colour)
    assert successes >= 9 and closed >= 2


def test_the_demonstrator_puts_cubes_on_their_places_though_the_joints_wander(world: World) -> None:
    beside = []
    world.disturbance = Disturbance(max(DISTURBANCES))
    for seed in range(12):
        play(world, seed, colour := CUBES[seed % 3])
        beside.append(np.linalg.norm(world.cubes()[colour][:2] - SLOTS[colour]))
    world.disturbance = Disturbance()
    assert np.mean(beside) < 0.010, "three cubes need to fit"


@pytest.mark.parametrize("kind", ["next", "changed", "fulfilled"])
def test_the_demonstrator_does_what_may_be_asked_next(world: World, kind: str) -> None:
    succeeded = rested = 0
    for seed in range(12):
        what = plan(seed, kind)
        world.reset(seed, what.start)
        demonstrator = Demonstrator(2 * TICK)
        asked = [(what.colour, 20.0)] if what.before is None else [what.before, (what.colour, 20.0)]
        for colour, seconds in asked:
            for _ in range(round(seconds / (2 * TICK))):
                command = demonstrator.act(world.joint_positions(), world.cubes(), colour)
                world.step(command)
                world.step(command)
        lying = {name for name, pose in world.cubes().items() if in_tray(pose[:3])}
        succeeded += {what.colour, *what.start.tray} <= lying
        rested += np.abs(world.joint_velocities()).max() < 0.05
    assert succeeded >= 11 and rested >= 11


def test_the_demonstrators_commands_are_within_the_robot_files_limits(world: World) -> None:
    robot, period = load_robot("demo_arm"), 2 * TICK
    for seed in range(5):
        world.reset(seed)
        demonstrator, commands = Demonstrator(period), [world.joint_positions()] * 2
        for _ in range(200):
            commands.append(demonstrator.act(world.joint_positions(), world.cubes(), CUBES[seed % 3]))
            world.step(commands[-1])
            world.step(commands[-1])
        velocity = np.diff(commands, axis=0) / period
        assert (np.abs(velocity) <= robot.velocity * (1 + 1e-9)).all()
        assert (np.abs(np.diff(velocity, axis=0)) <= robot.acceleration * period * (1 + 1e-9)).all()
        assert np.ptp(np.array(commands)[:, 5]) == 1.0  # it did close


def test_the_robot_file_says_how_fast_the_fingers_are(world: World) -> None:
    """A step of the command: the simulated hand reaches the file's velocity and acceleration, and not much more."""
    world.reset(0)
    world.data.ctrl[5:] = 0.043
    velocities = [0.0]
    for _ in range(20):
        mujoco.mj_step(world.model, world.data)
        velocities.append(world.joint_velocities()[5])
    gripper = load_robot("demo_arm").joints[5]
    assert gripper.velocity <= max(velocities) < 1.3 * gripper.velocity
    assert gripper.acceleration <= np.diff(velocities).max() / world.model.opt.timestep < 1.3 * gripper.acceleration


def test_the_plans_hold_everything_that_may_be_asked() -> None:
    plans = [plan(seed) for seed in range(300)]
    assert {p.colour for p in plans} == set(CUBES) and len({p.text for p in plans}) == 9
    assert {len(p.start.tray) for p in plans} == {0, 1, 2} and {p.start.arm for p in plans} == set(ARM_STARTS)
    assert 20 < sum(p.before is not None for p in plans) < 70
    assert 15 < sum(p.colour in p.start.tray for p in plans) < 60
    assert all(p.before is None or p.before[0] != p.colour for p in plans)


def test_places_of_the_cubes_do_not_depend_on_where_the_arm_starts(world: World) -> None:
    world.reset(3)
    ordinary = world.cubes()
    world.reset(3, Start("beside"))
    for name, pose in world.cubes().items():
        np.testing.assert_array_equal(pose, ordinary[name])
