"""Recordings: are they usable?

    pi0 bag check bags/                              one verdict for each recording below bags/
    pi0 bag check bags/episode_000012 --robot my_robot -v

`pi0 bag ACTION --help` shows the options of each.
"""

from __future__ import annotations

from pi0_ros.cli import bag_check

ACTIONS = {"check": (bag_check, "say whether recordings are usable, and why not")}
