"""Motion: the timeline of action chunks, limits, watchdog and arming. numpy only: no ROS, no torch.

Imported by: inference, policy, monitor, view, sim, launching, benchmark, nodes, cli.
Terms (docs/glossary.md): action chunk, spline, transition, hold, plan, jerk.
"""
