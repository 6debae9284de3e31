"""Errors: what the user can mend derives from `Pi0Error`; everything else is a bug of this package.

A command or node prints a `Pi0Error` (and an OSError: no such file, no permission, no space) as one line and ends with
status 2. A bug shows its traceback and where to report it, and ends with status 70. `--traceback` shows it always.
"""

from __future__ import annotations

import os
import sys
import traceback

USER_ERROR, BUG = 2, 70  # exit statuses; 70 is EX_SOFTWARE of <sysexits.h>
AGAIN = "give the same command again when it is mended"  # after trouble of the machine, by what can be resumed
TRACEBACK = "--traceback"
VARIABLE = "PI0_TRACEBACK"  # how `--traceback` reaches the processes that a command starts
REPORT_TO = "the issue tracker of pi0_ros"
EXTRAS = {
    **dict.fromkeys(("torch", "safetensors", "sentencepiece", "tokenizers", "tensorstore", "ml_dtypes"), "policy"),
    **dict.fromkeys(("av", "matplotlib", "pandas", "pyarrow"), "train"),
    **dict.fromkeys(("viser", "yourdfpy"), "view"),
    "mujoco": "sim",
    "ray": "ray",
    "websockets": "openpi",
}
PYPI = {"zmq": "pyzmq", "yaml": "PyYAML", "PIL": "Pillow", "cv2": "opencv-python-headless"}  # module -> package
OWN = ("numpy", "msgpack", "rosbags", "lz4", "tqdm", *PYPI)  # what every installation by pip has


class Pi0Error(Exception):
    """What the user can mend; the message names the file, key, argument or topic and says what to do.

    `details` are lines to print below it, such as the last words of a process that ended.
    """

    def __init__(self, *args: object, details: str = "") -> None:
        super().__init__(*args)
        self.details = details


class InputError(Pi0Error, ValueError):
    """A value, file or name that was given and cannot be used."""


def take_traceback(arguments: list[str]) -> list[str]:
    """Return `arguments` without `--traceback`, which, where it stood, holds for this process and those it starts."""
    if TRACEBACK not in arguments:
        return arguments
    os.environ[VARIABLE] = "1"
    return [argument for argument in arguments if argument != TRACEBACK]


def report(error: Exception, program: str) -> int:
    """Print what ended `program` on stderr; returns the exit status. Call it where `error` is being handled."""
    wants_traceback = os.environ.get(VARIABLE) == "1"
    if (message := mendable(error)) is None:
        traceback.print_exception(error)
        print(
            f"{program}: {type(error).__name__}: this is a bug of pi0_ros, not your mistake. Please report it, with "
            f"the lines above and the command, to {REPORT_TO}.",
            file=sys.stderr,
        )
        return BUG
    if wants_traceback:
        traceback.print_exception(error)
    print(f"{program}: {message}", file=sys.stderr)
    if isinstance(error, Pi0Error) and error.details:
        print(error.details, file=sys.stderr)
    return USER_ERROR


def mendable(error: Exception) -> str | None:
    """The one line that says what the user can mend, None for a bug."""
    if isinstance(error, Pi0Error):
        return " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        return f"not enough memory: {' '.join(str(error).split()) or 'use a smaller model or batch, or fewer workers'}"
    if isinstance(error, OSError):  # of the machine: Python's own order puts the number first
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        return f"{' -> '.join(names)}: {error.strerror}" if names and error.strerror else " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("pi0_ros"):
        library = error.name.split(".")[0]
        remedy = "source ROS 2, whose package it is"
        if library in EXTRAS:
            remedy = f"pip install 'pi0_ros[{EXTRAS[library]}]'"
        elif library in OWN:
            remedy = f"pip install {PYPI.get(library, library)}"
        return f"the Python package {library!r} is not installed: {remedy}"
    return None
