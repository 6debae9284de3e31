"""The texts that pi0, pi0.5 and pi0-FAST are prompted with, character for character as the references write them.

Sources: openpi `models/tokenizer.py`, LeRobot's processors of pi0 and pi0.5, and for the subtask prompt the public fork
`BrunoFANG1/openpi_subtask_generation`.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

_BIN_EDGES = np.linspace(-1, 1, 257)[:-1]  # left edges of 256 bins; what lies below the first is printed as -1


def clean(prompt: str) -> str:
    """The instruction on one line: stripped, underscores and line breaks as spaces; case is kept (pi0, pi0.5)."""
    return prompt.strip().replace("_", " ").replace("\n", " ")


def state_bins(state: Sequence[float] | np.ndarray) -> list[int]:
    """The bin 0..255 over [-1, 1] of each value of a normalised state; -1 below and 255 above the range."""
    return [int(index) for index in np.digitize(np.asarray(state, dtype=np.float64), _BIN_EDGES) - 1]


def pi05_text(prompt: str, state: Sequence[float] | np.ndarray) -> str:
    """The prompt of pi0.5 with its normalised state; a space follows the last colon."""
    return f"Task: {clean(prompt)}, State: {_state_text(state)};\nAction: "


def fast_text(prompt: str, state: Sequence[float] | np.ndarray) -> str:
    """The prompt of pi0-FAST: lower case, and line breaks inside the instruction stay."""
    return f"Task: {prompt.lower().strip().replace('_', ' ')}, State: {_state_text(state)};\n"


def lerobot_pi0_text(prompt: str) -> str:
    """The prompt of LeRobot's pi0: the instruction as it is, ended by a line break."""
    return prompt if prompt.endswith("\n") else f"{prompt}\n"


def subtask_text(task: str) -> str:
    """The question for the next subtask: lower case, its last punctuation mark replaced by a full stop."""
    text = clean(task.lower())
    if text and text[-1] in string.punctuation:
        text = text[:-1]
    return f"Task: {text}. Subtask: "


def _state_text(state: Sequence[float] | np.ndarray) -> str:
    return " ".join(map(str, state_bins(state)))
