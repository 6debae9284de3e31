"""What this package's recordings say beside the robot's streams: topics, and the keys of rosbag2's `custom_data`.

The recorder writes it, converter and check read it; tools of others use some of the same words.
"""

from __future__ import annotations

PROMPT_TOPIC, PROMPT_TYPE = "/pi0/prompt", "std_msgs/msg/String"  # the instruction, again whenever it changes
IN_CHARGE_TOPIC, IN_CHARGE_TYPE = "/pi0/in_charge", "std_msgs/msg/String"  # who moves the robot, when it changes
PERSON = "person"  # a text on it; policy and nobody are others
SUBTASK_TOPIC = "/pi0/subtask"  # String: a label finer than the prompt
PROMPT_KEYS = ("prompt", "task", "instruction")  # of `custom_data`; ours is the first
ROBOT_KEY, ROBOT_FILE_KEY = "robot", "robot_file"  # of `custom_data`: its name, and the text of the whole file
REASONS_KEY, REASON_KEY = "reasons", "reason"  # of `custom_data`: why the flight recorder kept it, a line each
INCIDENT = "incident"  # the outcome of what it kept
FAILED_OUTCOMES = ("failure", "failed", "fail")
YES, NO = ("true", "1", "yes"), ("false", "0", "no")


def recorded_prompt(data: dict[str, str]) -> str:
    """The prompt in custom data; empty without one."""
    return next((data[key] for key in PROMPT_KEYS if data.get(key)), "")


def kept_because(data: dict[str, str]) -> list[str]:
    """Why the flight recorder kept a recording; empty for any other."""
    return [line for line in (data.get(REASONS_KEY) or data.get(REASON_KEY, "")).splitlines() if line.strip()]


def is_discarded(data: dict[str, str]) -> bool:
    """Whether custom data says that the recording was discarded."""
    return _word(data, "discarded") in YES or _word(data, "outcome") == "discarded"


def success_of(data: dict[str, str]) -> bool | None:
    """What custom data says about the recording's success; None where it says nothing."""
    if _word(data, "outcome") in FAILED_OUTCOMES or _word(data, "success") in NO:
        return False
    return True if _word(data, "outcome") == "success" or _word(data, "success") in YES else None


def unknown_outcome(data: dict[str, str]) -> str:
    """That a word about the outcome is not understood, as a sentence; empty where all are."""
    outcomes = ("success", "unknown", "interrupted", "discarded", *FAILED_OUTCOMES)
    known = {"outcome": outcomes, "success": (*YES, *NO), "discarded": (*YES, *NO)}
    odd = [f"{key} is {data[key]!r}" for key, words in known.items() if _word(data, key) not in ("", *words)]
    return f"{', '.join(odd)}: not understood, so neither success nor failure" if odd else ""


def _word(data: dict[str, str], key: str) -> str:
    return data.get(key, "").strip().lower()
