"""Checkpoints of a run: written in the background, whole or not at all, a few of them kept; and signals that end a run.

<out>/checkpoint             the newest: a policy, and train_state/ until the run is finished
<out>/checkpoints/<step>     policies that are kept (keep_last, keep_period), as hard links
<...>/robots/<dataset>       of a mixture: the same policy for the robot of another dataset, its weights a hard link
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from pi0_ros.base.errors import Pi0Error
from pi0_ros.checkpoints.checkpoint import save_checkpoint
from pi0_ros.checkpoints.folders import new_folder, recover, remove_leftovers
from pi0_ros.checkpoints.locate import WEIGHTS
from pi0_ros.model.lora import lora_layers
from pi0_ros.model.paligemma import stored_dtype
from pi0_ros.tokens.action_tokens import FOLDER as ACTION_TOKENIZER
from pi0_ros.tokens.action_tokens import PIECES, SETTINGS
from pi0_ros.training.fingerprints import robot_fingerprint
from pi0_ros.training.objective import Learner
from pi0_ros.training.optimizer import Average
from pi0_ros.training.recipe import RecipeError
from pi0_ros.training.run import Run
from pi0_ros.training.sharding import whole
from pi0_ros.training.shards import FOLDER as SHARDS
from pi0_ros.training.shards import ShardWriter
from pi0_ros.training.state import FOLDER as TRAIN_STATE
from pi0_ros.training.state import Position, state_tensors, write_state, write_whole
from pi0_ros.training.weights import write_finished

CHECKPOINT, KEPT, ROBOTS = "checkpoint", "checkpoints", "robots"
PRODUCTS = (
    CHECKPOINT,
    KEPT,
    "progress.csv",
    "progress.csv.partial",
    "curve.png",
    "tokenizer.model",
    "not_finite",
    "first_batch.png",
    "tensorboard",
    "wandb",
    "wandb_id",
)


class TrainingStoppedError(Pi0Error, RuntimeError):
    """A signal ended the run after a save; `signal` is its number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.signal = number


class StopSignals:
    """Inside this block SIGTERM and SIGUSR1 do not kill: `caught` is their number, and the loop saves and ends."""

    def __init__(self) -> None:
        self.caught = 0

    def __enter__(self) -> StopSignals:
        here = threading.current_thread() is threading.main_thread()
        self._before = {s: signal.signal(s, self._catch) for s in (signal.SIGTERM, signal.SIGUSR1) if here}
        return self

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = number

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def open_output(out: Path, resume: bool, overwrite: bool) -> bool:
    """Make the run's folder ready; returns whether there is a checkpoint to resume.

    RecipeError where something lies there and neither was asked for. What killed writers left is put right.
    """
    if resume and overwrite:
        raise RecipeError("--resume and --overwrite exclude each other")
    out.mkdir(parents=True, exist_ok=True)
    recover(out / CHECKPOINT)
    remove_leftovers(out / CHECKPOINT)
    there = sorted(path.name for path in out.iterdir())
    if overwrite:
        for name in PRODUCTS:
            if (out / name).is_dir():
                shutil.rmtree(out / name)
            else:
                (out / name).unlink(missing_ok=True)
    elif there and not resume:
        raise RecipeError(
            f"{out} exists and is not empty ({', '.join(there[:5])}): go on with --resume, begin anew with "
            "--overwrite, or choose another --out"
        )
    found = (out / CHECKPOINT).exists()
    if resume and not found:
        print(f"{out}: no checkpoint yet, training begins at step 0", file=sys.stderr)
    return found


class Saver:
    """Writes a run's checkpoints. The loop waits for the copy in memory only, not for the disk.

    Of several processes the first one writes the policy, put together one tensor after the other; what a resume needs
    is never put together: each writes its own shards of it.
    """

    def __init__(self, run: Run, out: Path, learner: Learner, learning: Mapping[str, nn.Parameter]) -> None:
        self.run, self.out, self.learner, self.learning = run, out, learner, learning
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None
        several = run.world.size > 1 and run.recipe.parallel == "fsdp"
        self._shards = ShardWriter(run.world.size, run.world.first) if several else None

    def save(self, average: Average, optimizer: torch.optim.Optimizer, position: Position, done: bool) -> None:
        """Write a checkpoint with the averaged weights. The last one (`done`) is waited for, and has no train_state.

        A disk that is full, or gone, is a warning until then: the previous checkpoint is whole. Every process calls it.
        """
        self.wait()
        world, background = self.run.world, self.run.recipe.save_async and not done
        state: dict[str, Tensor] = {} if done else state_tensors(self.learning, average, optimizer)
        weights = {name: p.detach() for name, p in self.learner.model.named_parameters()}
        averaged = {name: average.tensors[name] for name in self.learning}
        copies: dict[int, Tensor] = {}  # of each tensor one, though weights and state share some
        if self._shards is not None:
            state = {} if done else self._shards.copy(state)
        elif not world.first:
            return  # each has all of it: the first one writes
        elif background:
            state = {name: _copy(tensor, copies) for name, tensor in state.items()}
            averaged = {name: _copy(tensor, copies) for name, tensor in averaged.items()}
        for name, tensor in averaged.items():
            if name.startswith("model."):
                weights[name.removeprefix("model.")] = tensor
        if self._shards is not None:
            weights = self._together(weights)
        if not background:
            self._write(weights, state, position, done)
            return
        self._thread = threading.Thread(
            target=self._try, args=(weights, state, position), name="checkpoint", daemon=False
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is on disk; what went wrong is said here."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failed is not None:
            failed, self._failed = self._failed, None
            if not isinstance(failed, OSError):
                raise failed
            if self.run.world.first:
                print(
                    f"warning: the checkpoint could not be written ({failed}); the previous one is whole, training "
                    "goes on",
                    file=sys.stderr,
                )

    def _together(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole weights in this machine's memory, on the first process, in the precision that they are written in."""
        dtype, merged, found = getattr(torch, self.run.spec.config.dtype), lora_layers(self.learner.model), {}
        for name, tensor in tensors.items():
            together = whole(tensor.detach())
            if self.run.world.first:  # what low-rank factors change is cast when it is merged
                kept = together.dtype if merged else stored_dtype(name, dtype)
                found[name] = together.to("cpu", kept, copy=True)
        return found

    def _try(self, weights: Mapping[str, Tensor], state: Mapping[str, Tensor], position: Position) -> None:
        try:
            self._write(weights, state, position, done=False)
        except BaseException as error:  # raised, or said, by `wait`
            self._failed = error

    def _write(
        self, weights: Mapping[str, Tensor], state: Mapping[str, Tensor], position: Position, done: bool
    ) -> None:
        """This process's part of a checkpoint."""
        shards = self._shards
        if shards is None or done:
            if self.run.world.first:
                self._write_folder(weights, position, done, partial(write_whole, tensors=state))
        elif self.run.world.first:
            try:
                self._write_folder(weights, position, done, partial(_write_shards, shards, state))
            finally:
                shards.tell(None)  # nobody waits any more, unless this failed before
        elif (folder := shards.hear()) is not None:
            shards.write(state, folder)

    def _write_folder(
        self, weights: Mapping[str, Tensor], position: Position, done: bool, write_tensors: Callable[[Path], None]
    ) -> None:
        run, stages = self.run, self.run.recipe.stages
        progress = {
            "stage": stages[position.stage].name,
            "step": position.step,
            "seconds": round(position.seconds),
            "finished": done,
        }
        dtype = getattr(torch, run.spec.config.dtype)
        checkpoint = self.out / CHECKPOINT

        def write_more(folder: Path) -> None:
            write_action_tokenizer(folder, run)
            write_robots(folder, run, progress)
            if not done:
                write_state(folder, position, write_tensors)

        save_checkpoint(
            checkpoint,
            lambda path: write_finished(self.learner.model, weights, dtype, path),
            run.spec.config,
            run.spec.settings,
            run.spec.robot,
            run.spec.norm_stats,
            run.tokenizer_path,
            {**run.notes, **progress},
            write_more,
        )
        keep(checkpoint, self.out / KEPT, run.steps_before(position.stage) + position.step, run.recipe.keep_last,
             run.recipe.keep_period)  # fmt: skip


def write_action_tokenizer(folder: Path, run: Run) -> None:
    """Put that of a pi0-FAST into a checkpoint's folder."""
    tokens = run.mixture.tokens
    if tokens is not None and tokens.folder is not None:
        (folder / ACTION_TOKENIZER).mkdir()
        for name in (PIECES, SETTINGS):
            shutil.copyfile(tokens.folder / name, folder / ACTION_TOKENIZER / name)


def write_robots(folder: Path, run: Run, progress: Mapping[str, Any]) -> None:
    """Beside the first robot's policy in `folder`: one for each other robot of the mixture, of the same weights."""
    first, *others = run.mixture.parts
    known = [robot_fingerprint(first.spec.robot)]
    for part in others:
        robot = robot_fingerprint(part.spec.robot)
        if robot in known:
            continue
        known.append(robot)
        save_checkpoint(
            folder / ROBOTS / part.name,
            lambda path: _link(folder / WEIGHTS, path),
            part.spec.config,
            part.spec.settings,
            part.spec.robot,
            part.spec.norm_stats,
            run.tokenizer_path,
            {**run.notes, **progress, "robot_fingerprint": robot},
            lambda partial: write_action_tokenizer(partial, run),
        )


def _write_shards(shards: ShardWriter, state: Mapping[str, Tensor], folder: Path) -> None:
    shards.tell(folder / SHARDS)
    shards.write(state, folder / SHARDS)


def _copy(tensor: Tensor, copies: dict[int, Tensor]) -> Tensor:
    """A copy in this machine's memory; the same one for the same memory."""
    if tensor.data_ptr() not in copies or copies[tensor.data_ptr()].shape != tensor.shape:
        copies[tensor.data_ptr()] = tensor.detach().to("cpu", copy=True)
    return copies[tensor.data_ptr()]


def keep(checkpoint: Path, kept: Path, step: int, last: int, period: int) -> None:
    """Keep the policy of `checkpoint` as `kept`/`step` where the rules want it, and drop those that they do not."""
    if last > 1 or (period and step % period == 0):
        with new_folder(kept / str(step)) as partial:
            for path in sorted(checkpoint.rglob("*")):
                place = path.relative_to(checkpoint)
                if place.parts[0] == TRAIN_STATE:
                    continue
                if path.is_dir():
                    (partial / place).mkdir()
                else:
                    _link(path, partial / place)
    steps = sorted(int(path.name) for path in kept.glob("*") if path.name.isdigit()) if kept.is_dir() else []
    for old in steps[: max(0, len(steps) - last)]:
        if not (period and old % period == 0):
            shutil.rmtree(kept / str(old))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or none with links
        shutil.copy2(source, target)
