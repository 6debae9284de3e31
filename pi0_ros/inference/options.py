"""The options of a policy: where it runs and how it is loaded, for node, `pi0 serve` and `pi0 eval`. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields
from typing import Any

from pi0_ros.base.choices import IMAGE_CODINGS
from pi0_ros.base.errors import InputError

BACKENDS = ("local", "zmq", "openpi")
DTYPES = ("auto", "float32", "bfloat16")
MAX_SEED = 2**31 - 1


def _option(default: Any, text: str, limits: tuple[float, float] | None = None) -> Any:
    return field(default=default, metadata={"text": text, "limits": limits})


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """Which policy, where it runs, and how. ValueError names the option that cannot be."""

    checkpoint: str = _option("", "checkpoint folder: this package's, LeRobot's or openpi's (backend local)")
    backend: str = _option("local", "where the model runs: local, zmq (`pi0 serve`) or openpi (its websocket)")
    server: str = _option(
        "tcp://127.0.0.1:5555",
        "address of the server, or several in order of preference with commas between them (backend zmq); "
        "ws://host:8000 for backend openpi",
    )
    timeout_s: float = _option(2.0, "longest wait for an answer, of all servers together, s", (0.01, 60.0))
    image_coding: str = _option(
        "raw", "pictures to the server: raw or jpeg, both resized here, or whole as the camera gave them (backend zmq)"
    )
    device: str = _option("auto", "torch device: auto, cpu, cuda, cuda:1 ... (backend local)")
    dtype: str = _option("auto", "numbers of the model: auto (the checkpoint's), float32, bfloat16 (backend local)")
    tokenizer: str = _option("", "tokenizer file or folder, for a checkpoint without one (backend local)")
    seed: int = _option(0, "seed of the sampling noise (backend local)", (0, MAX_SEED))
    torch_threads: int = _option(
        0, "CPU threads of torch, 0: one for a small model, else all cores but one (backend local)", (0, 256)
    )
    keys: str = _option("", "this robot's folder of `pi0 keys create`, where the server wants keys (backend zmq)")
    token_file: str = _option("", "file with the token that the server wants (backend openpi)")
    num_steps: int = _option(0, "flow steps per chunk, 0: the checkpoint's (backend local)", (0, 100))

    def __post_init__(self) -> None:
        for name, choices in (("backend", BACKENDS), ("dtype", DTYPES), ("image_coding", IMAGE_CODINGS)):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}")
        for option in fields(self):
            limits, value = option.metadata["limits"], getattr(self, option.name)
            if limits is not None and not limits[0] <= value <= limits[1]:
                raise InputError(f"{option.name} is {value}, expected {limits[0]:g} .. {limits[1]:g}")
        if self.backend == "local" and not self.checkpoint:
            raise InputError("backend 'local' needs a checkpoint folder: set `checkpoint`")
        if self.backend == "zmq" and not self.servers:
            raise InputError("backend 'zmq' needs an address: set `server`, e.g. tcp://127.0.0.1:5555")
        for address in self.servers if self.backend == "zmq" else ():
            if "://" not in address:
                raise InputError(f"server address '{address}': expected something like tcp://host:5555")
        if self.backend == "zmq" and len(set(self.servers)) < len(self.servers):
            raise InputError(f"server {self.server!r} names an address twice")
        if self.backend == "openpi" and len(self.servers) > 1:
            raise InputError("backend 'openpi' takes one server; several in order of preference are for backend 'zmq'")
        if self.image_coding != "raw" and self.backend != "zmq":
            raise InputError("image_coding is for backend 'zmq'")
        if self.backend == "openpi" and not self.server.startswith(("ws://", "wss://")):
            raise InputError(f"backend 'openpi' needs an address such as ws://gpu-box:8000, not {self.server!r}")
        if self.keys and self.backend != "zmq":
            raise InputError("keys are for backend 'zmq'")
        if self.token_file and self.backend != "openpi":
            raise InputError("token_file is for backend 'openpi'")

    @property
    def servers(self) -> tuple[str, ...]:
        """The addresses in `server`, in order of preference."""
        return tuple(address.strip() for address in self.server.strip("[] ").split(",") if address.strip())


OPTIONS: dict[str, Field[Any]] = {option.name: option for option in fields(PolicyOptions)}
LOCAL = ("checkpoint", "device", "dtype", "tokenizer", "seed", "torch_threads", "num_steps")  # of a command


def add_policy_arguments(
    parser: argparse.ArgumentParser, names: Iterable[str] = LOCAL, checkpoint_required: bool = True
) -> None:
    """Add the options called `names` to a command that loads a policy: `--num-steps` for `num_steps`."""
    for name in names:
        option = OPTIONS[name]
        text = option.metadata["text"].removesuffix(" (backend local)")
        spellings = [f"--{name.replace('_', '-')}"]
        if name == "torch_threads":
            spellings.insert(0, "--threads")
        parser.add_argument(
            *spellings,
            dest=name,
            type=type(option.default),
            default=option.default,
            required=name == "checkpoint" and checkpoint_required,
            help=text if option.default == "" else f"{text} (default %(default)s)",
        )


def policy_options(args: argparse.Namespace) -> PolicyOptions:
    """The options among a command's arguments; those that it does not offer keep their defaults."""
    return PolicyOptions(**{name: getattr(args, name) for name in OPTIONS if hasattr(args, name)})
