"""The results of `pi0 eval`: errors by joint, every chunk's error over time, and the worst moments with pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pi0_ros.base.errors import InputError
from pi0_ros.datasets.folder import read_json
from pi0_ros.view.kinds import ERRORS
from pi0_ros.view.source import MOST_POINTS, NoEpisodes, Shown, number, picture_file, said

MOMENTS = "moments.json"
ACTIONS = "actions.png"
MOMENT_FILE = re.compile(r"moments/[\w-]+\.jpg")
MOST_MOMENTS = 100


class EvalSource(NoEpisodes):
    """The page of one evaluation."""

    def __init__(self, path: Path) -> None:
        """Raises `InputError` where its files are not those of `pi0 eval`."""
        self._path = path
        self.about()

    def about(self) -> dict[str, Any]:
        """Everything but the pictures."""
        path = self._path / ERRORS
        found = read_json(path)
        try:
            table = [
                {
                    "joint": str(row["joint"]),
                    "unit": str(row["unit"]),
                    **{key: number(row.get(key)) for key in ("mean", "p95", "first", "last", "of_holding")},
                }
                for row in found["errors"]
            ]
            facts = [
                ("checkpoint", str(found["checkpoint"])),
                ("episodes", ", ".join(str(n) for n in found["episodes"])),
                ("chunks", str(found["chunks"])),
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: not what `pi0 eval` writes: {error!r}") from error
        return {
            "kind": "evaluation",
            "title": self._path.resolve().name,
            "facts": said(facts),
            "table": table,
            "files": [[ACTIONS, "one episode: recorded and predicted"]] if (self._path / ACTIONS).is_file() else [],
            **self._moments(),
        }

    def file(self, name: str) -> Shown:
        """A picture of a moment, or the drawn episode. Raises `InputError` for any other."""
        if name != ACTIONS and not MOMENT_FILE.fullmatch(name):
            raise InputError("there is no such picture here")
        return picture_file(self._path, name)

    def _moments(self) -> dict[str, Any]:
        path = self._path / MOMENTS
        if not path.is_file():
            why = f"no {MOMENTS}: an older `pi0 eval` wrote this; run it again to see the worst moments"
            return {"notes": [why], "joints": [], "chunks": [], "worst": []}
        found = read_json(path)
        try:
            if found["format"] != 1:
                raise InputError(f"{path}: of format {found['format']!r}; this version reads 1")
            chunks = sorted(found["chunks"], key=lambda chunk: (int(chunk["episode"]), int(chunk["frame"])))
            step = -(-len(chunks) // MOST_POINTS) or 1
            prompts = {int(episode["number"]): str(episode["prompt"]) for episode in found["episodes"]}
            return {
                "notes": [f"one of {step} chunks is drawn"] if step > 1 else [],
                "fps": float(found["fps"]),
                "joints": [
                    {
                        "name": str(j["name"]),
                        "unit": str(j["unit"]),
                        "lower": number(j["lower"]),
                        "upper": number(j["upper"]),
                    }
                    for j in found["joints"]
                ],
                "chunks": [
                    [int(chunk["episode"]), int(chunk["frame"]), number(chunk["error"])] for chunk in chunks[::step]
                ],
                "worst": [_moment(moment, prompts, len(found["joints"])) for moment in found["worst"][:MOST_MOMENTS]],
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: not what `pi0 eval` writes: {error!r}") from error


def _moment(moment: Mapping[str, Any], prompts: Mapping[int, str], joints: int) -> dict[str, Any]:
    """One of the worst; ValueError where it has not all joints."""

    def row(values: Any) -> list[float | None]:
        if len(values) != joints:
            raise ValueError(f"{len(values)} values of {joints} joints")
        return [number(value) for value in values]

    return {
        "episode": int(moment["episode"]),
        "frame": int(moment["frame"]),
        "prompt": prompts.get(int(moment["episode"]), ""),
        "error": number(moment["error"]),
        "by_joint": row(moment["by_joint"]),
        "predicted": [row(action) for action in moment["predicted"]],
        "recorded": [row(action) for action in moment["recorded"]],
        "held": row(moment["held"]),
        "pictures": [[str(camera), str(file)] for camera, file in moment["pictures"].items()],
    }
