"""pi0 and pi0.5 policies on ROS 2 robots: record, train, serve, execute, watch."""

from pathlib import Path

# In a source tree `training/` lies beside this folder, and is `pi0_ros.training` all the same.
_SOURCE = Path(__file__).resolve().parents[1]
if not Path(__file__).with_name("training").is_dir() and (_SOURCE / "training" / "recipe.py").is_file():
    __path__.append(str(_SOURCE))
