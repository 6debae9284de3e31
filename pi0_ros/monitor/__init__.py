"""From messages to pictures: forward kinematics, planned and executed paths, RViz markers, the browser scene."""
