"""The inference engine: the same chunks as the plain model's, at the speed of the machine."""

from pi0_ros.engine.engine import Engine
from pi0_ros.engine.pictures import Letterbox

__all__ = ["Engine", "Letterbox"]
