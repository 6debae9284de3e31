"""Where the package's files lie that are no code: `config/` and `launch/`, in the source tree or installed."""

from __future__ import annotations

import os
from pathlib import Path


def share_path(*parts: str) -> Path:
    """A file or folder of the package (`launch/...`, `config/...`), in the source tree or else the installed share."""
    here = Path(__file__).resolve()
    ament = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    for root in (here.parents[2], *(prefix / "share" / "pi0_ros" for prefix in (*here.parents, *ament))):
        if (root / "config" / "robots").is_dir():
            return root.joinpath(*parts)
    raise FileNotFoundError(
        f"the config folder of pi0_ros is neither beside {here.parent} nor in a share/pi0_ros: install the package "
        "(pip install . or colcon build) and source the workspace"
    )


def config_path(*parts: str) -> Path:
    """A file or folder below `config/`, for example `config_path("robots", "demo_arm.yaml")`."""
    return share_path("config", *parts)
