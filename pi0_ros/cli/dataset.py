"""Look at, check, merge and draw LeRobot datasets: of this package and of others.

    pi0 dataset info datasets/towels                 what is in it
    pi0 dataset check datasets/towels                everything that would bite a trainer
    pi0 dataset merge all/ monday/ tuesday/          one dataset of several
    pi0 dataset plot datasets/towels --html          joints, cameras and streams as pictures and one page

`pi0 dataset ACTION --help` shows the options of each.
"""

from __future__ import annotations

from pi0_ros.cli import dataset_check, dataset_info, dataset_merge, dataset_plot

ACTIONS = {
    "info": (dataset_info, "say what is in a dataset"),
    "check": (dataset_check, "find everything that would bite a trainer"),
    "merge": (dataset_merge, "join datasets of one robot into a new one, with exact statistics"),
    "plot": (dataset_plot, "draw joints, cameras and streams; an HTML page on request"),
}
