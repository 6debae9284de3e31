"""Motion: the timeline of action chunks, limits, watchdog and arming. numpy only: no ROS, no torch."""
