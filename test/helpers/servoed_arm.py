"""An arm whose hand is commanded by twists, as MoveIt Servo takes them, with a gripper of its own."""

from __future__ import annotations

_SPEED = "kind: speed, role: action, action: absolute, limits: {{velocity: {0}, acceleration: {1}}}"
_LINES = [
    *(f"  - {{name: {name}, unit: m/s, {_SPEED.format(0.25, 1.0)}}}" for name in ("vx", "vy", "vz")),
    *(f"  - {{name: {name}, unit: rad/s, {_SPEED.format(1.0, 4.0)}}}" for name in ("wx", "wy", "wz")),
    *(
        f"  - {{name: {name}, unit: rad, kind: revolute, role: state, limits: {{position: [-3, 3], velocity: 2, "
        "acceleration: 9}}"
        for name in ("elbow", "wrist")
    ),
]
SERVOED = f"""
name: servoed
control_rate_hz: 20
policy_rate_hz: 2
dataset_fps: 20
prompt: put the red cube in the tray
joints:
{chr(10).join(_LINES)}
  - {{name: grip, unit: normalized, action: absolute,
     kind: gripper, limits: {{position: [0, 1], velocity: 5, acceleration: 50}}}}
cameras: []
state:
  - {{topic: /joint_states, type: sensor_msgs/msg/JointState, max_age_s: 2.0, joints: [elbow, wrist, grip]}}
commands:
  - {{name: hand, topic: /servo_node/delta_twist_cmds, type: geometry_msgs/msg/TwistStamped, frame: base_link,
     joints: [vx, vy, vz, wx, wy, wz], names: [linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]}}
  - {{name: gripper, topic: /gripper/commands, type: std_msgs/msg/Float64MultiArray, joints: [grip]}}
action: {{source: command, max_age_s: 0.3}}
"""
