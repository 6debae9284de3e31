"""A base that is told where to be, with hands that are only seen: several poses share a topic with others."""

from __future__ import annotations

_LIMITS = """limits: {position: {x: [-5, 5], y: [-5, 5], z: [-5, 5]},
     linear: {velocity: 0.5, acceleration: 2}, angular: {velocity: 1.5, acceleration: 6}}"""
SEEN = f"""
name: seen
control_rate_hz: 20
policy_rate_hz: 2
dataset_fps: 20
prompt: put the red cube in the tray
joints:
  - {{name: base, kind: pose, frame: odom, action: relative, seen_from: start,
     {_LIMITS}}}
  - {{name: left, kind: pose, frame: base_link, rotation: quaternion, role: state,
     {_LIMITS}}}
  - {{name: right, kind: pose, frame: base_link, rotation: axis_angle, role: state,
     {_LIMITS}}}
  - {{name: tool, kind: pose, frame: base_link, role: state,
     {_LIMITS}}}
  - {{name: forward, unit: m/s, kind: speed, role: state, limits: {{velocity: 0.5, acceleration: 1}}}}
cameras: []
state:
  - {{topic: /odom, type: nav_msgs/msg/Odometry, joints: [base], max_age_s: 0.3}}
  - {{topic: /odom, type: nav_msgs/msg/Odometry, joints: [forward], names: [linear.x], max_age_s: 0.3}}
  - {{topic: /poses, type: geometry_msgs/msg/PoseArray, joints: [left], index: 0, max_age_s: 0.3}}
  - {{topic: /poses, type: geometry_msgs/msg/PoseArray, joints: [right], index: 1, max_age_s: 0.3}}
  - {{topic: /tf, type: tf2_msgs/msg/TFMessage, joints: [tool], child: tool0, max_age_s: 0.3}}
commands:
  - {{name: base, topic: /base/target, type: geometry_msgs/msg/PoseStamped, joints: [base]}}
action: {{source: command, max_age_s: 0.3}}
"""
