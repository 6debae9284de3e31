"""Score a policy in the simulator LIBERO, which you have installed (`pip install hf-libero`), by openpi's protocol.

    pi0 bench-sim checkpoints/pi05_libero                                    the four suites, 2000 trials
    pi0 bench-sim runs/mine --suite libero_spatial --tasks 0 3 --trials 10 --out bench/mine
    pi0 bench-sim runs/mine --dry-run                                        what would be played, and how long
    pi0 bench-sim --backend zmq --server tcp://gpu-box:5555                  the policy of `pi0 serve`
    pi0 bench-sim --backend openpi --server ws://gpu-box:8000                of openpi's own server

Each finished trial is on the disk before the next one begins: after Ctrl-C or a crash the same command goes on. Prints
a table with 95 % intervals (Wilson) beside the published figures, and writes results.json, trials.jsonl and videos of
failures into the folder --out. An error of the simulator makes its trial a failure, and is told; exit status 1 then.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pi0_ros.base.arguments import count, whole
from pi0_ros.base.disk import check_folder, expanded
from pi0_ros.base.errors import AGAIN, InputError
from pi0_ros.base.printing import table
from pi0_ros.benchmark.benchmark import Plan, Progress, instructions_of, left_of, play_all, seconds_left
from pi0_ros.benchmark.film import FOLDER, Films
from pi0_ros.benchmark.journal import TRIALS, Journal, Line, glance, held, identity
from pi0_ros.benchmark.libero import INSTALL, installed, open_libero
from pi0_ros.benchmark.rules import INIT_STATES, STEPS_PER_S, SUITES, USUAL, WAIT_STEPS, Rules
from pi0_ros.benchmark.score import Scores
from pi0_ros.benchmark.seat import Seat, with_lerobot_slots
from pi0_ros.benchmark.simulator import Simulator
from pi0_ros.benchmark.trials import Key, Player
from pi0_ros.inference.backend import Backend
from pi0_ros.inference.metadata import BackendError
from pi0_ros.inference.options import LOCAL, OPTIONS, PolicyOptions, add_policy_arguments, policy_options
from pi0_ros.policy.backends import make_backend
from pi0_ros.robot import Robot, load_robot, robot_to_yaml

REMOTE = ("server", "timeout_s", "keys", "token_file")
PATIENCE_S = 30.0  # nothing moves meanwhile
RESULTS = "results.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 bench-sim`."""
    parser.add_argument("checkpoint", nargs="?", default="", help=OPTIONS["checkpoint"].metadata["text"])
    parser.add_argument("--suite", nargs="+", choices=SUITES, default=USUAL, help=f"default: {' '.join(USUAL)}")
    parser.add_argument("--tasks", type=whole, nargs="+", default=(), help="numbers of tasks, from 0 (default: all)")
    parser.add_argument(
        "--trials", type=count, default=INIT_STATES, help="of each task, at most and by default %(default)s"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("bench_sim"), help="folder for everything (default %(default)s)"
    )
    parser.add_argument(
        "--seed",
        type=whole,
        default=Rules.seed,
        help="of the environments and of the policy's noise (default %(default)s)",
    )
    parser.add_argument(
        "--replan", type=count, default=Rules.replan, help="actions executed of each chunk (default %(default)s)"
    )
    parser.add_argument(
        "--videos", type=whole, default=2, help="so many failures of each task are filmed (default %(default)s)"
    )
    parser.add_argument("--retry-errors", action="store_true", help="play trials again that ended by an error")
    parser.add_argument("--dry-run", action="store_true", help="say what would be played and how long, play nothing")
    parser.add_argument(
        "--robot", help="robot file, by name or path (default: the checkpoint's, else libero or libero_pi0, as it fits)"
    )
    add_policy_arguments(parser, ("backend", *REMOTE, *(name for name in LOCAL if name not in ("checkpoint", "seed"))))
    parser.set_defaults(timeout_s=PATIENCE_S)


@dataclass(frozen=True)
class Asked:
    """What the command line asks for, checked as far as it can be without simulator and weights."""

    options: PolicyOptions
    plan: Plan
    rules: Rules
    robot: Robot
    settings: Mapping[str, Any] | None  # of the folder; None where only a server can say what it serves
    name: str


def run(args: argparse.Namespace) -> int:
    """`pi0 bench-sim`: 0, or 1 where a trial ended by an error, 130 after Ctrl-C."""
    asked = _asked(args)
    if asked.settings is not None:
        journal = glance(args.out, asked.settings)
        if args.dry_run:
            return _dry_run(asked, journal, args.retry_errors)
    elif args.dry_run:
        return _dry_run(asked, None, args.retry_errors)
    simulator = open_libero()
    backend = make_backend(asked.options, robot=asked.robot)
    try:
        settings = _greet(backend, asked)
        with held(args.out, settings) as journal:
            return _play(args, asked, simulator, backend, journal)
    finally:
        backend.close()


def _asked(args: argparse.Namespace) -> Asked:
    check_folder(args.out)
    local = args.backend == "local"
    for name in REMOTE if local else ("checkpoint", "device", "dtype", "tokenizer", "torch_threads", "num_steps"):
        given, usual = getattr(args, name), PATIENCE_S if name == "timeout_s" else OPTIONS[name].default
        if given != usual:
            option = name if name == "checkpoint" else f"--{name.replace('_', '-')}"
            what = "--backend zmq or openpi" if local else "--backend local: what the server runs is its own affair"
            raise InputError(f"{option} {given}: is for {what}")
    options = policy_options(args)
    if args.trials > INIT_STATES:
        raise InputError(f"--trials {args.trials}: a task of LIBERO has {INIT_STATES} initial states")
    plan, rules = Plan(tuple(args.suite), tuple(args.tasks), args.trials), Rules(args.seed, args.replan)
    robot = load_robot(args.robot) if args.robot else None
    if local:
        robot, identity, name = _local(options, robot)
        settings = _settings(rules, robot, policy=identity, dtype=options.dtype, num_steps=options.num_steps)
    else:
        robot, settings, name = robot or load_robot("libero"), None, options.server
    Seat(robot)
    return Asked(options, plan, rules, robot, settings, name)


def _local(options: PolicyOptions, robot: Robot | None) -> tuple[Robot, str, str]:
    """The robot that a checkpoint drives, what tells it from others, and its name; reads no weights."""
    from pi0_ros.checkpoints.describe import describe, load_spec
    from pi0_ros.checkpoints.load import check_device
    from pi0_ros.checkpoints.robot_file import fits
    from pi0_ros.policy.policy import pick_device

    check_device(pick_device(options.device))
    description = describe(options.checkpoint, robot)
    if description.robot is None and robot is None:
        shipped = [load_robot("libero"), load_robot("libero_pi0")]
        shipped += [with_lerobot_slots(one) for one in shipped]
        fitting = [one for one in shipped if fits(describe(options.checkpoint, one), one)]
        if len(fitting) != 1:
            raise InputError(
                f"{description.path}: there is no robot file in it, and {len(fitting)} of libero (whole steps as "
                "actions, as pi05_libero) and libero_pi0 (steps less the state, as pi0_libero) fit: give --robot"
            )
        (robot,) = fitting
    spec = load_spec(options.checkpoint, robot=robot, tokenizer=options.tokenizer)
    files = [description.path, *([expanded(options.tokenizer)] if options.tokenizer else [])]
    return spec.robot, identity(files), f"{description.path.name} ({spec.config.model})"


def _settings(rules: Rules, robot: Robot, **policy: object) -> dict[str, Any]:
    """What all trials of a folder have in common."""
    digest = hashlib.sha256(robot_to_yaml(robot).encode()).hexdigest()[:8]
    return {"seed": rules.seed, "replan": rules.replan, "robot": f"{robot.name} {digest}", **policy}


def _greet(backend: Backend, asked: Asked) -> Mapping[str, Any]:
    """Hear whether the policy answers; the folder's settings."""
    chunk = backend.infer(Seat(asked.robot).black(asked.robot.prompt or "warm up"))
    if len(chunk.actions) < asked.rules.replan:
        raise InputError(
            f"--replan {asked.rules.replan}: the policy predicts only {len(chunk.actions)} actions at once"
        )
    if asked.settings is not None:
        return asked.settings
    said = backend.metadata
    assert said is not None  # it has answered
    server = asked.options.server if asked.options.backend == "openpi" else ""  # which does not say what it serves
    policy = f"{said.checkpoint} {said.model} {said.statistics}"
    return _settings(asked.rules, asked.robot, policy=server or policy)


def _dry_run(asked: Asked, journal: Journal | None, retry_errors: bool) -> int:
    journal = journal or Journal(Path(), [])
    plan, left = asked.plan, left_of(asked.plan, journal, retry_errors)
    rows: list[tuple[object, ...]] = [("suite", "tasks", "trials", "left", "steps at most")]
    for suite in dict.fromkeys(plan.suites):
        tasks = plan.tasks_of(suite)
        rows.append(
            (
                suite,
                len(tasks),
                len(tasks) * plan.trials,
                sum(key.suite == suite for key in left),
                SUITES[suite].max_steps,
            )
        )
    print(f"policy {asked.name}, robot {asked.robot.name}, seed {asked.rules.seed}")
    print("\n".join(table(rows)))
    print(
        f"Each trial begins with {WAIT_STEPS} steps of waiting; a chunk is asked for every {asked.rules.replan} "
        f"actions, and there are {STEPS_PER_S} of them in a second."
    )
    seconds, measured = seconds_left(left, journal, asked.rules.replan)
    how = "measured here" if measured else "guessed at 50 ms a step and 100 ms a chunk"
    print(f"At most about {_duration(seconds)} ({how}); trials that succeed are shorter.")
    if not installed():
        print(f"LIBERO is not installed: {INSTALL}")
    return 0


def _play(args: argparse.Namespace, asked: Asked, simulator: Simulator, backend: Backend, journal: Journal) -> int:
    from pi0_ros.tokens.action_tokens import NoActionsError

    plan, rules = asked.plan, asked.rules
    instructions = instructions_of(simulator, plan, journal)
    print(f"policy {asked.name}, robot {asked.robot.name}, seed {rules.seed}, {rules.replan} actions of each chunk")
    player = Player(backend, Seat(asked.robot), rules, failures=(NoActionsError,))
    interrupted = False
    with _Bar(journal, plan.keys, len(left_of(plan, journal, args.retry_errors))) as bar:
        try:
            play_all(simulator, player, plan, journal, Films(args.out, args.videos), bar, args.retry_errors)
        except KeyboardInterrupt:
            interrupted = True
        except BackendError as error:
            raise BackendError(f"{error}. What was played is kept: {AGAIN}") from error
    done = [journal.lines[key] for key in plan.keys if key in journal.lines]
    scores = Scores.of(journal.lines.values())
    if journal.lines:
        print("\n".join(table(scores.rows(instructions), left=3)))
        print("\n".join(scores.comparisons(rules)))
        content = {"policy": asked.name, "complete": len(done) == len(plan.keys), **scores.to_dict(instructions, rules)}
        partial = args.out / f"{RESULTS}.partial"
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.rename(args.out / RESULTS)
    errors = [line for line in done if line.error]
    if errors:
        first = errors[0]
        print(
            f"{len(errors)} of {len(done)} trials ended by an error and count as failures (--retry-errors plays them "
            f"again). The first: {first.suite} task {first.task} trial {first.trial}: {first.error}"
        )
    films = " and films of failures" if list((args.out / FOLDER).glob("*_trial_*.mp4")) else ""
    print(f"written: {args.out / RESULTS}, {TRIALS}{films}" if journal.lines else "no trial was finished")
    if interrupted:
        print(f"interrupted: {len(done)} of {len(plan.keys)} trials are done; the same command goes on")
        return 130
    return int(bool(errors))


class _Bar(Progress):
    """A progress bar with the success so far, and a line for each task and each new error."""

    def __init__(self, journal: Journal, asked: Sequence[Key], left: int) -> None:
        self._journal, self._asked = journal, asked
        self._bar = tqdm(total=len(asked), initial=len(asked) - left, unit="trial", disable=None, dynamic_ncols=True)
        self._errors: set[str] = set()
        self._task, self._prompt = ("", 0), ""

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.close()

    def task(self, suite: str, task: int, prompt: str) -> None:
        """Name it on the bar."""
        self._task, self._prompt = (suite, task), prompt
        self._bar.set_description(f"{suite} {task}")

    def trial(self, line: Line) -> None:
        """Count it; say what is new."""
        if line.error and line.error not in self._errors:
            self._errors.add(line.error)
            tqdm.write(f"{line.suite} task {line.task} trial {line.trial}: {line.error}: counts as a failure")
        done = [self._journal.lines[key] for key in self._asked if key in self._journal.lines]
        self._bar.set_postfix_str(f"success {sum(one.success for one in done)} of {len(done)}", refresh=False)
        self._bar.update()
        here = [one for one in done if (one.suite, one.task) == self._task]
        if len(here) == sum((key.suite, key.task) == self._task for key in self._asked):
            won = sum(one.success for one in here)
            tqdm.write(f"{line.suite} {line.task}: {won} of {len(here)}  {self._prompt}")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{max(1, minutes)} min"
