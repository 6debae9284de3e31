"""Which settings Fast DDS, the default ROS middleware, starts with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from pi0_ros.base.errors import InputError
from pi0_ros.base.share import config_path

PROFILES, SOCKET_PROFILES, LOOPBACK_PROFILES = "fastdds_profiles.xml", "fastdds_sockets.xml", "fastdds_loopback.xml"


HIGHEST_DOMAIN = 232  # above it the ports of DDS end


def domain_of(environment: Mapping[str, str]) -> int:
    """ROS_DOMAIN_ID; InputError for one that there cannot be."""
    text = environment.get("ROS_DOMAIN_ID", "") or "0"
    if not (text.isascii() and text.isdecimal() and int(text) <= HIGHEST_DOMAIN):
        raise InputError(f"ROS_DOMAIN_ID is {text!r}: it takes a whole number from 0 to {HIGHEST_DOMAIN}")
    return int(text)


def profiles_variable(environment: Mapping[str, str]) -> str:
    """The variable by which this distribution's Fast DDS finds its profiles; newer ones know the old name too."""
    old, new = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"
    if environment.get(old) and not environment.get(new):
        return old
    return old if distribution(environment) in ("humble", "iron", "jazzy") else new


def distribution(environment: Mapping[str, str]) -> str:
    """The ROS 2 distribution that is sourced, else that of the wheels."""
    return environment.get("ROS_DISTRO", "") or _distribution_of_wheels()


@cache
def _distribution_of_wheels() -> str:
    try:
        version("ros-fastdds")  # Jazzy's is called ros-fastrtps
    except PackageNotFoundError:
        return "jazzy"
    return "kilted"


def without_shared_memory(environment: Mapping[str, str]) -> dict[str, str]:
    """What to set so that Fast DDS talks through sockets only; nothing where the user chose profiles of their own.

    A process that is suspended in the middle of reading shared memory blocks whoever writes to it for a second. Where
    the environment keeps discovery on this machine, ROS itself would bring shared memory back; so the profile keeps
    discovery here, not the environment.
    """
    variable = profiles_variable(environment)
    if environment.get(variable, "") not in ("", str(config_path(PROFILES))):
        return {}
    local = {
        name: neutral
        for name, here, neutral in (
            ("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST", "SYSTEM_DEFAULT"),
            ("ROS_LOCALHOST_ONLY", "1", "0"),
        )
        if environment.get(name) == here
    }
    return {variable: str(config_path(LOOPBACK_PROFILES if local else SOCKET_PROFILES)), **local}
