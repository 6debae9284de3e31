"""LIBERO, where the user has installed it: the only place that imports it."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.base.errors import TRACEBACK
from pi0_ros.benchmark.rules import PICTURE_SIDE
from pi0_ros.benchmark.simulator import Environment, Simulator, SimulatorError, Suite, Task

INSTALL = (
    "`pip install hf-libero` (LeRobot's build of LIBERO), or the package of github.com/Lifelong-Robot-Learning/LIBERO"
)
SCREEN = "on a machine without a screen set MUJOCO_GL=egl, or MUJOCO_GL=osmesa without a GPU"
ALLOW_PICKLES = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def installed() -> bool:
    """Whether there is a package `libero`; imports nothing."""
    return importlib.util.find_spec("libero") is not None


def open_libero() -> Simulator:
    """LIBERO as it is installed; SimulatorError says what to install or to set."""
    if not installed():
        raise SimulatorError(f"the Python package 'libero' is not installed: {INSTALL}")
    try:
        with _aside():
            from libero.libero import benchmark, get_libero_path
            from libero.libero.envs import OffScreenRenderEnv
    except EOFError:
        raise SimulatorError(
            "LIBERO asks where to keep its data when it is first imported, and nobody answered: run "
            "`echo N | python3 -c 'import libero.libero'` once"
        ) from None
    except Exception as error:  # of LIBERO, robosuite, MuJoCo or OpenGL: each has its own
        why = f"{type(error).__name__}: {error}"
        raise SimulatorError(
            f"LIBERO is installed but cannot be imported ({why}): {INSTALL}; {SCREEN}; {TRACEBACK} shows where"
        ) from error
    return _Libero(benchmark.get_benchmark_dict(), get_libero_path, OffScreenRenderEnv)


class _Libero:
    """The suites and environments of the installed LIBERO."""

    def __init__(self, suites: Any, path_of: Any, environment: Any) -> None:
        self._suites, self._path_of, self._environment = suites, path_of, environment

    def suite(self, name: str) -> Suite:
        if name not in self._suites:
            raise SimulatorError(f"the installed LIBERO has no suite {name!r}: it has {', '.join(self._suites)}")
        with _aside():
            return _Suite(self._suites[name]())

    def environment(self, task: Any) -> Environment:
        with _aside():
            try:
                file = Path(self._path_of("bddl_files")) / task.problem_folder / task.bddl_file
                found: Environment = self._environment(
                    bddl_file_name=str(file), camera_heights=PICTURE_SIDE, camera_widths=PICTURE_SIDE
                )
            except Exception as error:  # missing files, no OpenGL, ...
                why = f"{type(error).__name__}: {error}"
                raise SimulatorError(
                    f"LIBERO's environment of task {task.language!r} cannot be made ({why}); {SCREEN}; "
                    f"{TRACEBACK} shows where"
                ) from error
        return found


class _Suite:
    """A suite whose initial states can be read with any torch."""

    def __init__(self, suite: Any) -> None:
        self._suite = suite
        self.n_tasks: int = suite.n_tasks

    def get_task(self, i: int) -> Task:
        with _aside():
            task: Task = self._suite.get_task(i)
        return task

    def get_task_init_states(self, i: int) -> Sequence[np.ndarray]:
        """They are pickled arrays, which LIBERO's torch.load(path) takes only where torch is told to."""
        before = os.environ.get(ALLOW_PICKLES)
        os.environ[ALLOW_PICKLES] = "1"
        try:
            with _aside(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch tells that it was told
                states: Sequence[np.ndarray] = self._suite.get_task_init_states(i)
        except OSError as error:
            raise SimulatorError(
                f"the initial states of task {i} cannot be read: {error}; install LIBERO anew"
            ) from error
        finally:
            if before is None:
                del os.environ[ALLOW_PICKLES]
            else:
                os.environ[ALLOW_PICKLES] = before
        return states


@contextmanager
def _aside() -> Iterator[None]:
    """LIBERO prints to stdout, which is for results."""
    with redirect_stdout(sys.stderr):
        yield
