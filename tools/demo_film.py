"""Write the film of the README: the shipped policy is told three things, one after another, and does them.

    python tools/demo_film.py docs/images/demo.gif

In simulated time and in one process: the same policy, controller core, simulator and score as `pi0 demo`. The red line
is where the hand will go before the next chunk takes over.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mujoco
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.control.controller import Controller
from pi0_ros.control.plan import plan_behind, position_along
from pi0_ros.control.states import Command, Settings
from pi0_ros.inference.prefix import RtcSettings
from pi0_ros.policy.policy import Policy
from pi0_ros.sim.kinematics import forward
from pi0_ros.sim.policy_driver import PolicyDriver
from pi0_ros.sim.referee import Referee
from pi0_ros.sim.render import Renderer
from pi0_ros.sim.task import prompt
from pi0_ros.sim.trials import Game, Instruction, play
from pi0_ros.sim.world import CUBES, World

CHECKPOINT = Path(__file__).parents[1] / "pi0_ros" / "sim" / "checkpoint"
LATENCY_S = 0.1
FPS = 10.0
SIDE, INSET = 320, 152  # pixels of the scene and of the wrist camera
FINER = 2  # rays per pixel and direction
AHEAD_S = 0.5  # of the line: until the next chunk takes over
REST_S = 2.0  # at the end
PAPER, INK, LINE = (24, 27, 31), (232, 234, 237), (255, 82, 82)


def main() -> int:
    """Film a game."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the GIF")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--seed", type=int, default=2003, help="of the scene")
    args = parser.parse_args()
    torch.set_num_threads(1)
    frames = film(Policy(load_checkpoint(args.checkpoint)), args.seed)
    palette = frames[len(frames) // 2].quantize(96, dither=Image.Dither.NONE)
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    drawn[0].save(args.out, save_all=True, append_images=drawn[1:], duration=round(1e3 / FPS), loop=0, optimize=True)
    print(f"{args.out}: {len(frames) / FPS:.0f} s, {args.out.stat().st_size / 1e6:.1f} MB")
    return 0


def film(policy: Policy, seed: int) -> list[Image.Image]:
    """The pictures, FPS of them a second."""
    world, referee = World(), Referee()
    scene, wrist = (Renderer(world.model, FINER * side) for side in (SIDE, INSET))
    asked = [Instruction(colour, prompt(colour, k), 20.0) for k, colour in enumerate(CUBES)]
    game = Game(seed, (*asked, Instruction(asked[-1].colour, asked[-1].text, REST_S, fixed=True)))
    waiting = list(asked)
    frames: list[Image.Image] = []

    def watch(now: float, command: Command | None, controller: Controller) -> None:
        referee.score.update(world.cubes())
        referee.watch(now)
        if waiting and referee.settled:
            referee.instruct(waiting.pop(0).text, now)
        if len(frames) > (now - 1000.0 * (seed + 1)) * FPS:
            return
        picture = Image.new("RGB", (SIDE + INSET + 8, SIDE), PAPER)
        picture.paste(smaller(scene.render(world.data, "base"), SIDE), (0, 0))
        picture.paste(smaller(wrist.render(world.data, "wrist"), INSET), (SIDE + 4, 4))
        pen = ImageDraw.Draw(picture)
        if command is not None:
            draw_line(pen, world, controller, command, now)
        write(pen, referee, SIDE + 8, INSET + 16)
        frames.append(picture)

    play(world, PolicyDriver(policy, RtcSettings(), Settings(), lambda: LATENCY_S), game, watch)
    return frames


def smaller(pixels: np.ndarray, side: int) -> Image.Image:
    """The mean of the rays of each pixel."""
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX)


def draw_line(pen: ImageDraw.ImageDraw, world: World, controller: Controller, command: Command, now: float) -> None:
    """Where the hand will go, fading."""
    plan = plan_behind(controller.fork(), command, now)
    if plan is None:
        return
    times = np.linspace(0.0, AHEAD_S, 16)
    joints = position_along(plan, times, np.zeros(len(command.position), bool))
    places = to_pixels(world, np.array([forward(row[:5]) for row in joints]))
    for k, (start, end) in enumerate(zip(places[:-1], places[1:], strict=True)):
        pen.line((*start, *end), LINE, width=3 if k < len(times) // 2 else 2)


def to_pixels(world: World, points: np.ndarray) -> list[tuple[float, float]]:
    """Where the base camera shows points [n, 3] (m) in the film."""
    index = mujoco.mj_name2id(world.model, mujoco.mjtObj.mjOBJ_CAMERA, "base")
    focal, side = world.focal_length("base")
    seen = (points - world.data.cam_xpos[index]) @ world.data.cam_xmat[index].reshape(3, 3)
    scale = focal * SIDE / side
    return [(SIDE / 2 - scale * x / z, SIDE / 2 + scale * y / z) for x, y, z in seen]


def write(pen: ImageDraw.ImageDraw, referee: Referee, left: int, top: int) -> None:
    """What was said, and the score."""
    for text, size in ((f"“{referee.text}”", 15), (referee.sentence(), 12)):
        font = ImageFont.load_default(size)
        words, line = text.split(), ""
        for word in words:
            if pen.textlength(f"{line} {word}", font) > INSET - 8:
                pen.text((left, top), line, INK, font)
                line, top = "", top + size + 5
            line = f"{line} {word}".strip()
        pen.text((left, top), line, INK, font)
        top += size + 16


if __name__ == "__main__":
    sys.exit(main())
