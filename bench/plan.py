"""`pi0 train --plan` beside what a run really takes: small models, trained and resumed, each in a process of its own.

    python bench/plan.py                                  # every model and way to train, a few minutes
    python bench/plan.py --model pi0 --trainable lora     # one of them

Measured is the peak of the process's memory (VmHWM) less what it holds just before, when everything is imported and a
tiny run has warmed Python and the libraries up. Ends with status 1 where the plan is off by more than `--within`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "helpers")]

import numpy as np  # noqa: E402
from hugging_face import fit_action_tokenizer  # noqa: E402
from synthetic import TINY, make_data, make_source  # noqa: E402

from pi0_ros.tokens.action_tokens import VARIABLE  # noqa: E402
from pi0_ros.training import loop  # noqa: E402
from pi0_ros.training.plan import measure, typical  # noqa: E402
from pi0_ros.training.recipe import Recipe, recipe_from_dict  # noqa: E402
from pi0_ros.training.run import prepare  # noqa: E402
from pi0_ros.training.saving import Saver, TrainingStoppedError  # noqa: E402

STEPS = 6
# glibc keeps what is freed in pieces of up to 32 MB, at these sizes everything: for the measurement it gives all back.
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
SIZES: dict[str, Any] = {
    "vlm": {"width": 384, "depth": 6, "mlp_dim": 1536, "num_heads": 6, "num_kv_heads": 1, "head_dim": 64},
    "expert": {"width": 256, "depth": 6, "mlp_dim": 1024, "num_heads": 6, "num_kv_heads": 1, "head_dim": 64},
    "vision": {"width": 256, "depth": 6, "mlp_dim": 1024, "num_heads": 4, "patch_size": 16, "image_size": 112},
    "vocab_size": 8192,
    "action_horizon": 16,
}
WAYS = {"pi0": ("full", "lora", "expert_only"), "pi05": ("full", "lora", "expert_only"), "pi0_fast": ("full", "lora")}


@dataclass(frozen=True)
class Case:
    """What is trained: a model, what of it learns, frames at once."""

    model: str
    trainable: str
    micro_batch: int

    def recipe(self, tokenizer: Path, sizes: dict[str, Any]) -> Recipe:
        """Six steps with a validation and a save after every second one."""
        sizes, fast = dict(sizes), self.model == "pi0_fast"
        extra: dict[str, Any] = {"model": "demo"}
        if fast:
            sizes.pop("expert")
            sizes |= {"action_dim": 6, "cameras": ["base_0_rgb", "left_wrist_0_rgb"], "max_token_len": 160}
            extra = {"model": "pi0_fast", "tokenizer": str(tokenizer)}
            sizes["vocab_size"] = max(512, sizes.get("vocab_size", 0))
        elif self.model == "pi05":
            sizes |= {"model": "pi05", "discrete_state_input": True, "max_token_len": 64}
            extra["tokenizer"] = str(tokenizer)
        stage = {
            "name": "one", "steps": STEPS, "batch": 8, "micro_batch": self.micro_batch, "lr": 1e-4, "warmup": 1,
            "ema": 0.0 if self.trainable == "lora" else 0.9, "trainable": self.trainable,
        }  # fmt: skip
        common = {"precision": "float32", "threads": 1, "held_out": 0.3, "validation_frames": 16, "log_every": 2}
        every = {"validate_every": 2, "save_every": 2, "track": []}
        return recipe_from_dict({**common, **every, **extra, "model_overrides": sizes, "stages": [stage]}, "bench")


def memory(key: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def child(case: Case, folder: Path, resume: bool) -> None:
    """Train in this process; print the plan and what was measured, as JSON."""
    tokenizer = ROOT / "test" / "fixtures" / "reference" / "tokenizer" / "tiny.model"
    side = SIZES["vision"]["image_size"]
    with contextlib.redirect_stderr(io.StringIO()), tempfile.TemporaryDirectory() as place:
        random = np.random.default_rng(0)
        chunks = np.clip(random.normal(size=(200, 1, 6)) * 0.5 + np.zeros((200, SIZES["action_horizon"], 6)), -1, 1)
        os.environ[VARIABLE] = str(fit_action_tokenizer(folder.parent / "tokens", chunks, scale=4))
        tiny = {**TINY, "action_horizon": SIZES["action_horizon"]}
        loop.train_on([make_source(make_data(4, length=15))], case.recipe(tokenizer, tiny), Path(place) / "tiny")
    source, recipe = make_source(make_data(6, size=side, length=15)), case.recipe(tokenizer, SIZES)
    plain, write, stepped = loop.train_step, Saver._try, threading.Event()

    def step(run: Any, stage: Any, number: int, *rest: Any) -> Any:
        if number == 2 and not resume:
            os.kill(os.getpid(), signal.SIGTERM)
        stepped.clear()
        numbers = plain(run, stage, number, *rest)
        stepped.set()
        return numbers

    def slowly(saver: Saver, *what: Any) -> None:
        """A checkpoint of real size is still being written when the next step is done."""
        stepped.clear()
        stepped.wait(10)
        write(saver, *what)

    loop.train_step = step  # type: ignore[assignment]
    Saver._try = slowly  # type: ignore[method-assign, assignment]
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    with contextlib.suppress(TrainingStoppedError):
        loop.train_on([source], recipe, folder, resume=True)
    peak = memory("VmHWM") - before
    with tempfile.TemporaryDirectory() as place:
        run = prepare([source], recipe, Path(place), {}, {})
    need = measure(recipe, run.spec.config, typical(run), run.autocast)
    print(json.dumps({"planned": need.held("cpu"), "measured": peak, "parts": vars(need)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--trainable", nargs="+", default=["full", "lora", "expert_only"])
    parser.add_argument("--micro", type=int, nargs="+", default=[4], help="frames computed at once")
    parser.add_argument("--within", type=float, default=0.1)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        case = Case(args.model[0], args.trainable[0], args.micro[0])
        child(case, Path(args.child[0]), args.child[1] == "resume")
        return
    off = 0.0
    print(f"{'model':9s} {'learns':12s} {'at once':>7s}            {'planned':>9s} {'measured':>9s}")
    for model in args.model:
        for trainable in [way for way in args.trainable if way in WAYS[model]]:
            for micro in args.micro:
                with tempfile.TemporaryDirectory() as place:
                    for way in ("training", "resume"):
                        words = ["--model", model, "--trainable", trainable, "--micro", str(micro)]
                        done = subprocess.run(
                            [sys.executable, __file__, *words, "--child", str(Path(place) / "run"), way],
                            capture_output=True, text=True, check=False, env={**os.environ, **GIVES_BACK},
                        )  # fmt: skip
                        if done.returncode:
                            sys.exit(done.stderr)
                        numbers = json.loads(done.stdout.splitlines()[-1])
                        planned, measured = numbers["planned"], numbers["measured"]
                        ratio = planned / measured - 1
                        off = max(off, abs(ratio))
                        print(
                            f"{model:9s} {trainable:12s} {micro:7d} {way:9s} {planned / 1e6:7.0f} MB "
                            f"{measured / 1e6:6.0f} MB {ratio:+7.1%}",
                            flush=True,
                        )
    print(f"off by {off:.1%} at most")
    sys.exit(off > args.within)


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
