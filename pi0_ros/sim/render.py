"""Camera images by casting rays at the geometry: no OpenGL, no display, the same pixels on every machine."""

from __future__ import annotations

import mujoco
import numpy as np

LIGHT = np.array([0.35, -0.25, 0.90]) / np.linalg.norm([0.35, -0.25, 0.90])  # direction towards the light
AMBIENT = 0.45
BACKGROUND = np.array([0.55, 0.60, 0.66])


class Renderer:
    """Renders a model's cameras as uint8 RGB [size, size, 3]."""

    def __init__(self, model: mujoco.MjModel, size: int = 96) -> None:
        self.model = model
        self.size = size
        rows, columns = np.mgrid[0:size, 0:size]
        # Pixel centres on the image plane one unit ahead of the camera: x right, y up.
        self._plane = np.stack([columns + 0.5 - size / 2, size / 2 - rows - 0.5], axis=-1).reshape(-1, 2) * (2 / size)
        count = size * size
        self._geom = np.zeros(count, np.int32)
        self.geoms = self._geom.reshape(size, size)  # geom id under each pixel of the last picture, -1: background
        self._distance = np.zeros(count)
        self._normal = np.zeros(count * 3)
        self._colour = np.concatenate([model.geom_rgba[:, :3], BACKGROUND[None]])  # geom id -1 is the background

    def render(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Return the view of the camera named `camera` at the state of `data` (after `mj_forward` or a step)."""
        index = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        half = np.tan(np.deg2rad(self.model.cam_fovy[index]) / 2)
        rotation = data.cam_xmat[index].reshape(3, 3)
        rays = self._plane @ (half * rotation[:, :2].T) - rotation[:, 2]
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        mujoco.mj_multiRay(
            self.model, data, data.cam_xpos[index], rays.reshape(-1), None, 1, -1,
            self._geom, self._distance, self._normal, len(rays), 3.0,
        )  # fmt: skip
        lambert = np.abs(self._normal.reshape(-1, 3) @ LIGHT)
        lambert[self._geom < 0] = 1.0
        shade = AMBIENT + (1 - AMBIENT) * lambert
        pixels = self._colour[self._geom] * shade[:, None]
        return (np.clip(pixels, 0.0, 1.0) * 255).astype(np.uint8).reshape(self.size, self.size, 3)
