"""Packaging of pi0_ros: one description for `pip`, `pip install -e` and `colcon build`.

`training/` is installed as `pi0_ros.training`, so no package called "training" lands in anyone's site-packages. In the
source tree, editable and symlinked installs included, `pi0_ros/__init__.py` finds it beside the package.
"""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "pi0_ros"
NODES = ("policy", "controller", "recorder", "monitor", "viewer", "flight", "joystick", "sim", "demonstrator")

BASE = [
    "numpy>=1.22",
    "PyYAML>=5.4",
    "Pillow>=9.0",
    "pyzmq>=22",
    "msgpack>=1.0",
    "rosbags>=0.10",
    "lz4>=3.0",
    "tqdm>=4.60",
]
# tensorstore and ml_dtypes read JAX checkpoints, tokenizers those of Hugging Face and pi0-FAST's actions.
POLICY = [
    *("torch>=2.5", "safetensors>=0.4", "sentencepiece>=0.2"),
    *("tensorstore>=0.1.50", "ml_dtypes>=0.3", "tokenizers>=0.21"),
]
SIM = ["mujoco==3.8.1"]
TRAIN = [*POLICY, "av>=12", "matplotlib>=3.8", "pandas>=2.0", "pyarrow>=15", "tensorboard>=2.14"]
RAY = ["ray>=2.10"]
OPENPI = ["websockets>=13"]  # `pi0 serve --websocket`, `backend:=openpi`
CAMERAS = ["opencv-python-headless>=4.5"]  # YUV and Bayer pictures; a ROS machine has python3-opencv
VIEW = ["viser>=1.1", "yourdfpy>=0.0.58"]
# transformers: prompts are compared with its own; it needs protobuf to read a SentencePiece model, as LeRobot does.
# triton: the engine's GPU kernels are tested in its interpreter, and compiled, without a GPU.
TEST = ["pytest>=7.4", "pytest-cov>=5", "pytest-xdist>=3.5", "pytest-rerunfailures>=13", "hypothesis>=6.100"]
TEST += ["transformers>=4.48", "protobuf>=4"]
TEST += ["triton==3.6.0; platform_system == 'Linux'"]  # newer interpreters refuse some masks
LINT = ["mypy>=1.13", "ruff>=0.8", "types-PyYAML"]
COLCON = ["colcon-common-extensions>=0.3", "catkin_pkg>=1.0"]


def share(folder: str) -> list[tuple[str, list[str]]]:
    """data_files entries that install `folder` with its sub-folders below `share/pi0_ros`."""
    folders = [Path(folder), *(path for path in sorted(Path(folder).rglob("*")) if path.is_dir())]
    kept = {path: [str(file) for file in sorted(path.iterdir()) if file.is_file()] for path in folders}
    return [(f"share/{NAME}/{path.as_posix()}", files) for path, files in kept.items() if files]


# colcon's --symlink-install runs this in a folder of links without training/: the source tree's is found instead.
TRAINING = {f"{NAME}.training": "training"} if Path("training").is_dir() else {}

setup(
    name=NAME,
    version="0.1.0",
    description="pi0 and pi0.5 robot policies on ROS 2: record, train, run smoothly and safely",
    long_description=Path("README.md").read_text(encoding="utf-8") if Path("README.md").exists() else "",
    long_description_content_type="text/markdown",
    author="The pi0_ros authors",
    maintainer="The pi0_ros maintainers",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=[NAME, f"{NAME}.*"]), *TRAINING],
    package_dir=TRAINING,
    package_data={
        NAME: ["py.typed"],
        f"{NAME}.sim": ["checkpoint/*", "*.xml"],
        f"{NAME}.view": ["page/*"],
        f"{NAME}.monitor": ["*.html"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/hook", ["resource/hook/pi0.dsv", "resource/hook/pi0.sh"]),  # named in colcon.pkg
        (f"share/{NAME}/bin", ["resource/bin/pi0"]),
        *share("launch"),
        *share("config"),
    ],
    install_requires=BASE,
    extras_require={
        "policy": POLICY,
        "sim": SIM,
        "train": TRAIN,
        "view": VIEW,
        "ray": RAY,
        "cameras": CAMERAS,
        "openpi": OPENPI,
        "test": TEST,
        "dev": [*TRAIN, *CAMERAS, *OPENPI, *SIM, *VIEW, *TEST, *LINT, *COLCON],
    },
    entry_points={
        "console_scripts": [
            f"pi0 = {NAME}.cli.main:main",
            *(f"{node}_node = {NAME}.nodes.start:{node}" for node in NODES),
        ]
    },
    zip_safe=False,
)
