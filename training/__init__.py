"""From rosbags to a dataset and a fine-tuned policy; importable as `pi0_ros.training`."""
