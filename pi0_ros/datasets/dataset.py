"""A LeRobot dataset of any author as training sees it: states, actions, frames and prompts by a robot file's names.

`DatasetFolder` reads the files; here its columns, cameras and joints get the robot file's names and units. Datasets of
`pi0 convert` carry their robot file; for others it is given, with what they call things (`dataset` in the robot file,
or `--map theirs=ours`). What can't be matched by name is an error that lists both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pi0_ros.datasets.folder import DatasetFolder, Entry
from pi0_ros.datasets.language import IDLE, PERSISTENT, TAKEOVER, Label, labels_of
from pi0_ros.datasets.layout import ACTION, ROBOT_PATH, STATE, DatasetError, image_key
from pi0_ros.robot import Joint, Robot

BEYOND = 0.5  # of a joint's range between its limits: the usual value further outside, the unit is another one


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode of a dataset: T frames at the dataset's fps, in the robot's units and joint order."""

    index: int
    prompt: str
    state: np.ndarray  # float32 [T, S]
    action: np.ndarray  # float32 [T, A], absolute
    fps: int
    cameras: tuple[str, ...]  # names in the robot file
    pictures: Callable[[str, int, int], np.ndarray]  # (camera, first frame, the one after the last) -> [T, H, W, 3]
    idle: np.ndarray  # bool [T]: where no training sample should start
    labels: tuple[Label, ...] = ()  # (second, text), each until the next one
    takeover: np.ndarray | None = None  # bool [T]: where a person led instead of the policy; None: nobody says

    @property
    def length(self) -> int:
        """Number of frames T."""
        return len(self.state)

    def frames(self, camera: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Frames `start` to `stop` (default: all) of `camera`, a name in the robot file: uint8 [T, H, W, 3] RGB."""
        if camera not in self.cameras:
            raise DatasetError(f"no camera {camera!r} in this dataset; there are {sorted(self.cameras)}")
        return self.pictures(camera, start, self.length if stop is None else min(stop, self.length))


class Dataset:
    """A dataset and the robot it is of: `.fps`, `.robot`, `.cameras` (names in the robot file) and `.episodes`."""

    def __init__(self, path: Path | str, robot: Robot | None = None, names: Mapping[str, str] | None = None) -> None:
        """Read the metadata at `path`; `robot` overrules the robot file inside, `names` (theirs -> ours) what it says
        of names. Raises `DatasetError` where the dataset can't be read, or its columns are not the robot's.
        """
        self.path = Path(path)
        self.folder = DatasetFolder(path)
        inside = robot or self.folder.robot
        if inside is None:
            raise DatasetError(
                f"{self.path / ROBOT_PATH}: missing, the dataset was not made by `pi0 convert`: say with --robot which "
                f"robot it is of; `pi0 robot convert {self.path}` writes a first robot file"
            )
        self.robot: Robot = inside
        self.info = self.folder.info
        self.fps = int(self.folder.fps)
        if self.fps != self.folder.fps:
            raise DatasetError(f"{self.path}: {self.folder.fps:g} fps; only whole numbers of frames a second are known")
        self._names = {self._full(theirs): ours for theirs, ours in self.robot.dataset.names}
        overruled = set((names or {}).values())  # by the caller
        self._names = {theirs: ours for theirs, ours in self._names.items() if ours not in overruled}
        self._names |= {self._full(theirs): ours for theirs, ours in (names or {}).items()}
        self._check_names(names or {})
        self._keys = {camera.name: self._key(camera.name) for camera in self.robot.cameras}
        self.cameras = tuple(name for name, key in self._keys.items() if key in self.folder.camera_keys)
        own = robot is None and not names  # of ours, a camera may have been left out
        if not own and (missing := [name for name in self._keys if name not in self.cameras]):
            raise DatasetError(
                f"{self.path}: no pictures of the robot's camera {missing[0]!r}; there are "
                f"{', '.join(self.folder.camera_keys) or 'none'}: say which with --map THEIRS={missing[0]}"
            )

    def __len__(self) -> int:
        return int(self.info["total_frames"])

    @property
    def is_plain(self) -> bool:
        """Whether every camera's frames lie under their own name, as `pi0 convert` puts them."""
        return all(key == image_key(name) for name, key in self._keys.items())

    def key_of(self, camera: str) -> str:
        """The feature that holds a camera's frames."""
        return self._keys[camera]

    def _key(self, ours: str) -> str:
        theirs = [theirs for theirs, name in self._names.items() if name == ours]
        column = ours if ours in (STATE, ACTION) else image_key(ours)
        return theirs[0] if theirs else column

    def _full(self, theirs: str) -> str:
        """The feature that a camera's short name means, else the name itself."""
        return image_key(theirs) if image_key(theirs) in self.folder.features else theirs

    def _check_names(self, given: Mapping[str, str]) -> None:
        """Raises `DatasetError` for a name that the dataset or the robot does not have, or two for one."""
        ours = [STATE, ACTION, *(camera.name for camera in self.robot.cameras), *self.robot.joint_names]
        for theirs, name in given.items():
            if name not in ours:
                raise DatasetError(
                    f"--map {theirs}={name}: robot {self.robot.name} has no {name!r}; it has {', '.join(ours)}"
                )
        known = {*self.folder.features, *(name for key in self.folder.features for name in self._dimensions(key))}
        for theirs, name in self._names.items():
            if theirs not in known:
                raise DatasetError(
                    f"{self.path}: nothing is called {theirs!r} ({name!r} of the robot); columns are "
                    f"{', '.join(self.folder.features)}"
                )
        for name in set(self._names.values()):
            if len(found := [theirs for theirs, other in self._names.items() if other == name]) > 1 and (
                name not in self.robot.joint_names
            ):
                raise DatasetError(f"{self.path}: {' and '.join(found)} are both called {name!r}: name one of them")

    def _dimensions(self, key: str) -> list[str]:
        return self.folder.names(key) if key not in self.folder.camera_keys else []

    def _matrix(self, ours: str, joints: Sequence[Joint]) -> np.ndarray:
        """The state or action of all rows, float32 [N, joints], in the robot's order and units."""
        key, wanted = self._key(ours), [joint.name for joint in joints]
        if key not in self.folder.columns:
            raise DatasetError(
                f"{self.path}: no column {key}; there are {', '.join(self.folder.features)}: say which with "
                f"--map THEIRS={ours}"
            )
        values = self.folder.columns[key].reshape(len(self.folder.columns[key]), -1)
        theirs = self.folder.names(key)
        called = [self._names.get(name, name) for name in theirs]
        unnamed = theirs == [str(place) for place in range(len(theirs))] and called == theirs
        if unnamed and len(theirs) != len(wanted):
            raise DatasetError(
                f"{self.path}: {key} has {len(theirs)} dimensions without names, robot {self.robot.name} has "
                f"{len(wanted)} joints there: name them, such as --map 0={wanted[0]}"
            )
        if not unnamed and (missing := [name for name in wanted if name not in called]):
            raise DatasetError(
                f"{self.path}: {key} has no joint {', '.join(map(repr, missing))}; its dimensions are "
                f"{', '.join(theirs)}: say which is which, such as --map {theirs[0]}={missing[0]}"
            )
        if twice := [name for name in wanted if called.count(name) > 1]:
            raise DatasetError(f"{self.path}: {key} has {called.count(twice[0])} dimensions called {twice[0]!r}")
        places = list(range(len(wanted))) if unnamed else [called.index(name) for name in wanted]
        scale = np.array([dict(self.robot.dataset.scale).get(name, 1.0) for name in wanted])
        offset = np.array([dict(self.robot.dataset.offset).get(name, 0.0) for name in wanted])
        picked = values[:, places]
        if (scale != 1.0).any() or (offset != 0.0).any():
            picked = (picked - offset) / scale
        if self.folder.robot is None:
            self._check_units(key, picked, joints)
        return np.asarray(picked, np.float32)

    def _check_units(self, key: str, values: np.ndarray, joints: Sequence[Joint]) -> None:
        """Raises `DatasetError` where a joint's usual position is far outside of its limits."""
        for place, joint in enumerate(joints):
            if key == self._key(ACTION) and joint.action == "velocity":
                continue
            low, high = np.quantile(values[:, place], [0.1, 0.9])
            slack = BEYOND * joint.span
            if low < joint.lower - slack or high > joint.upper + slack:
                raise DatasetError(
                    f"{self.path}: {key} of {joint.name} is {low:.4g} to {high:.4g} most of the time, its limits are "
                    f"{joint.lower:g} to {joint.upper:g} {joint.unit}: degrees for radians? Write `dataset: "
                    f"{{scale: {{{joint.name}: 57.29578}}}}` into the robot file, or mend its limits"
                )

    @cached_property
    def episodes(self) -> list[Episode]:
        """All episodes, with states and actions in memory and frames on disk."""
        folder, columns = self.folder, self.folder.columns
        state, action = self._matrix(STATE, self.robot.state_joints), self._matrix(ACTION, self.robot.action_joints)
        if len(state) != len(self):
            raise DatasetError(f"{self.path}: {len(state)} rows, meta/info.json says {len(self)}")
        idle = columns[IDLE].reshape(-1).astype(bool) if IDLE in columns else np.zeros(len(state), bool)
        led = columns[TAKEOVER].reshape(-1).astype(bool) if TAKEOVER in columns else None
        tasks = folder.tasks
        order = self._rows_in_order()
        found = []
        for entry in folder.entries:
            rows = slice(order[entry.index], order[entry.index] + entry.length)
            numbers = np.unique(columns["task_index"].reshape(-1)[rows])
            if not len(numbers) or numbers[-1] >= len(tasks):
                raise DatasetError(f"{self.path}: episode {entry.index} has no task")
            if len(numbers) > 1:
                raise DatasetError(
                    f"{self.path}: episode {entry.index} has {len(numbers)} tasks ({tasks[numbers[0]]!r}, "
                    f"{tasks[numbers[1]]!r}, ...): one instruction holds for a whole episode; split it"
                )
            labels: tuple[Label, ...] = ()
            if PERSISTENT in folder.features:
                labels = labels_of(folder.episode_table(entry, [PERSISTENT]).column(PERSISTENT)[0].as_py())
            values = (tasks[numbers[0]], state[rows], action[rows], self.fps, self.cameras)
            found.append(
                Episode(
                    entry.index, *values, self._pictures(entry), idle[rows], labels, led if led is None else led[rows]
                )
            )
        return found

    def _rows_in_order(self) -> dict[int, int]:
        """The first row of every episode in `columns`. Raises `DatasetError` where its rows do not stand together."""
        index = self.folder.columns["episode_index"].reshape(-1)
        starts = np.flatnonzero(np.concatenate([[True], index[1:] != index[:-1]])) if len(index) else np.zeros(0, int)
        lengths = np.diff([*starts, len(index)])
        found = {int(index[start]): (int(start), int(length)) for start, length in zip(starts, lengths, strict=True)}
        for entry in self.folder.entries:
            if len(found) != len(starts) or found.get(entry.index, (0, -1))[1] != entry.length:
                raise DatasetError(
                    f"{self.path}: the rows of episode {entry.index} are not the {entry.length} that meta/ says; "
                    f"`pi0 dataset check {self.path}` says what is wrong"
                )
        return {number: start for number, (start, _) in found.items()}

    def _pictures(self, entry: Entry) -> Callable[[str, int, int], np.ndarray]:
        def read(camera: str, start: int, stop: int) -> np.ndarray:
            return self.folder.frame_range(entry, self._keys[camera], start, stop)

        return read


def parse_names(pairs: Sequence[str]) -> dict[str, str]:
    """`--map` arguments, each THEIRS=OURS. Raises `DatasetError`."""
    found: dict[str, str] = {}
    for pair in pairs:
        theirs, equals, ours = pair.partition("=")
        if not (theirs.strip() and equals and ours.strip()):
            raise DatasetError(f"--map {pair}: write THEIRS=OURS, such as observation.images.top=base_camera")
        if theirs.strip() in found:
            raise DatasetError(f"--map {pair}: {theirs.strip()!r} is mapped twice")
        found[theirs.strip()] = ours.strip()
    return found
