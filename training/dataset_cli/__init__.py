"""Look at, check, merge and draw LeRobot datasets: of this package and of others.

    pi0 dataset info datasets/towels                 what is in it
    pi0 dataset check datasets/towels                everything that would bite a trainer
    pi0 dataset merge all/ monday/ tuesday/          one dataset of several
    pi0 dataset plot datasets/towels --html          joints, cameras and streams as pictures and one page

`pi0 dataset ACTION --help` shows the options of each.
"""

from __future__ import annotations

from pi0_ros.training.dataset_cli import check, info, merge, plot

ACTIONS = {
    "info": (info, "say what is in a dataset"),
    "check": (check, "find everything that would bite a trainer"),
    "merge": (merge, "join datasets of one robot into a new one, with exact statistics"),
    "plot": (plot, "draw joints, cameras and streams; an HTML page on request"),
}
