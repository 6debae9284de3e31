"""Which settings Fast DDS, the default ROS middleware, starts with."""

from __future__ import annotations

from collections.abc import Mapping

from pi0_ros.base.share import config_path

PROFILES, SOCKET_PROFILES, LOOPBACK_PROFILES = "fastdds_profiles.xml", "fastdds_sockets.xml", "fastdds_loopback.xml"


def profiles_variable(environment: Mapping[str, str]) -> str:
    """The variable by which this distribution's Fast DDS finds its profiles."""
    old_name = environment.get("ROS_DISTRO", "jazzy") in ("humble", "iron", "jazzy")
    return "FASTRTPS_DEFAULT_PROFILES_FILE" if old_name else "FASTDDS_DEFAULT_PROFILES_FILE"


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
