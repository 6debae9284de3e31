"""Suites and tasks, as in LIBERO; initial states are pickled arrays that torch.load reads."""

import pathlib
import pickle
from typing import NamedTuple

import numpy as np

from libero.libero import get_libero_path

WIDTH = 8  # of an initial state: place (3), yaw, fingers, target (3)
TASKS = {"libero_spatial": 10, "libero_object": 10, "libero_goal": 10, "libero_10": 10, "libero_90": 90}


class Task(NamedTuple):
    """As LIBERO's."""

    name: str
    language: str
    problem: str
    problem_folder: str
    bddl_file: str
    init_states_file: str


class Benchmark:
    """As LIBERO's, whose suites are classes without arguments."""

    name = ""

    def __init__(self, task_order_index: int = 0) -> None:
        print(f"[info] using task orders {list(range(TASKS[self.name]))}")
        self.tasks = []
        for number in range(TASKS[self.name]):
            colour = ("red", "green", "blue")[number % 3]
            name = f"close_the_gripper_on_the_{colour}_cube_{number}"
            words = f"close the gripper on the {colour} cube"
            self.tasks.append(Task(name, words, "Libero", self.name, f"{name}.bddl", f"{name}.pruned_init"))
        self.n_tasks = len(self.tasks)

    def get_task(self, i: int) -> Task:
        """Task `i`; its file is made on the way."""
        task = self.tasks[i]
        folder = pathlib.Path(get_libero_path("bddl_files")) / task.problem_folder
        folder.mkdir(exist_ok=True)
        (folder / task.bddl_file).write_text(f"{self.name} {i} {task.language}")
        return task

    def get_task_init_states(self, i: int) -> np.ndarray:
        """float64 [50, 8], by the very call that LIBERO makes."""
        import torch

        path = pathlib.Path(get_libero_path("init_states")) / f"{self.tasks[i].name}.pruned_init"
        random = np.random.default_rng([i, TASKS[self.name]])
        states = np.zeros((50, WIDTH))
        states[:, :3] = random.uniform((-0.2, -0.2, 0.2), (0.2, 0.2, 0.4), (50, 3))
        states[:, 3] = random.uniform(-0.5, 0.5, 50)
        states[:, 4] = 0.04
        states[:, 5:] = random.uniform((-0.2, -0.2, 0.05), (0.2, 0.2, 0.1), (50, 3))
        torch.save(states, path, pickle_protocol=pickle.HIGHEST_PROTOCOL)
        return torch.load(path)


def get_benchmark_dict(help: bool = False) -> dict[str, type[Benchmark]]:
    """Name -> class."""
    return {name: type(name.upper(), (Benchmark,), {"name": name}) for name in TASKS}
