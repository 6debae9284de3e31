"""pi0 and pi0.5 policies on ROS 2 robots: record, train, serve, execute, watch."""

__version__ = "0.1.0"
