"""The mean of two checkpoints' weights: of one before a round of training and the one after it.

    python tools/average.py runs/demo/second/checkpoint runs/demo/policy/checkpoint runs/demo/mean

Weights that come from one another lie in one valley of the loss, and between them is often a better policy than at
either end (Wortsman et al. 2022, Model soups; here both count half). Everything else is the second checkpoint's.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.folders import new_folder, read_json, write_json

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def average(before: Path, after: Path, out: Path) -> None:
    """Write `out`, a checkpoint of our own format. InputError where the two are not of one model and its statistics."""
    if out.exists():
        raise InputError(f"{out} exists: name a new folder")
    for name in ("norm_stats.json", "tokenizer.model"):
        if (before / name).read_bytes() != (after / name).read_bytes():
            raise InputError(f"{before / name} and {after / name} differ: their weights mean other things")
    config = read_json(after / CONFIG)
    if read_json(before / CONFIG)["model"] != config["model"]:
        raise InputError(f"{before} and {after} are of two models")
    one, other = load_file(before / WEIGHTS), load_file(after / WEIGHTS)
    shapes = [{name: tuple(value.shape) for name, value in weights.items()} for weights in (one, other)]
    if differ := sorted(name for name, _ in shapes[0].items() ^ shapes[1].items()):
        raise InputError(f"{before} and {after} differ in {', '.join(differ[:5])}")
    config["training"]["averaged"] = f"half and half with the weights of {before.resolve().parent.name}"
    with new_folder(out) as folder:
        shutil.copytree(after, folder, dirs_exist_ok=True)
        mean = {name: ((one[name].float() + other[name].float()) / 2).to(one[name].dtype) for name in one}
        save_file(mean, folder / WEIGHTS)
        write_json(folder / CONFIG, config)


def main() -> int:
    """Average the two folders of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("out", type=Path, help="a new folder")
    args = parser.parse_args()
    try:
        average(args.before, args.after, args.out)
    except (InputError, OSError) as error:
        print(f"average: {error}", file=sys.stderr)
        return 2
    print(f"checkpoint: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
