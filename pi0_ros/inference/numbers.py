"""A server's numbers: for `pi0 serve --status`, and as text for Prometheus (its exposition format 0.0.4)."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pi0_ros.base.memory import resident_bytes
from pi0_ros.inference.metadata import Metadata

WINDOW = 500  # answers in the quantiles
ACTIVE_S = 60.0  # a client that asked within this time counts
MAX_CLIENTS = 1000  # remembered


@dataclass
class ServerNumbers:
    """Counted by the threads of a server; read by any."""

    session: str
    started: float = field(default_factory=time.monotonic)
    answered: int = 0
    inferences: int = 0  # calls of the policy
    draining: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _infer_ms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _wait_ms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _clients: dict[str, float] = field(default_factory=dict)

    def heard(self, client: str) -> None:
        """A client asked."""
        now = time.monotonic()
        with self._lock:
            self._clients.pop(client, None)
            self._clients[client] = now
            while self._clients and (
                len(self._clients) > MAX_CLIENTS or now - next(iter(self._clients.values())) > ACTIVE_S
            ):
                del self._clients[next(iter(self._clients))]

    def inferred(self, waited_ms: float, took_ms: float) -> None:
        """A chunk was made."""
        with self._lock:
            self._wait_ms.append(waited_ms)
            self._infer_ms.append(took_ms)

    def look(self, metadata: Metadata | None, waiting: int, refused: Mapping[str, int]) -> dict[str, Any]:
        """Everything, as plain data."""
        with self._lock:
            now = time.monotonic()
            clients = sum(now - at <= ACTIVE_S for at in self._clients.values())
            infer, wait = (list(values) or [float("nan")] for values in (self._infer_ms, self._wait_ms))
        found: dict[str, Any] = {
            "state": "draining" if self.draining else "ready" if metadata is not None else "waiting for its policy",
            "session": self.session,
            "process": os.getpid(),
            "uptime_s": round(now - self.started, 1),
            "clients": clients,
            "waiting": waiting,
            "answered": self.answered,
            "inferences": self.inferences,
            "refused": dict(refused),
            "memory_bytes": resident_bytes(),
        }
        for name, values in (("infer_ms", infer), ("wait_ms", wait)):
            found[name] = {f"p{q}": float(np.percentile(values, q)) for q in (50, 99)}
        if metadata is not None:
            found |= {key: getattr(metadata, key) for key in ("checkpoint", "model", "horizon", "fps", "statistics")}
            found["robot"] = metadata.robot.name
        return found


KINDS = {  # name in `look` -> Prometheus's name, type, help
    "uptime_s": ("pi0_uptime_seconds", "gauge", "Time since the server began"),
    "clients": ("pi0_clients", "gauge", "Clients that asked within the last minute"),
    "waiting": ("pi0_waiting_questions", "gauge", "Questions that wait for the policy"),
    "answered": ("pi0_chunks_total", "counter", "Chunks sent"),
    "inferences": (
        "pi0_inferences_total",
        "counter",
        "Calls of the policy; fewer than chunks where it infers in batches",
    ),
    "memory_bytes": ("pi0_resident_memory_bytes", "gauge", "Memory of the process"),
}


def as_prometheus(numbers: Mapping[str, Any]) -> str:
    """What `ServerNumbers.look` returned, as Prometheus reads it."""
    lines = []
    for key, (name, kind, text) in KINDS.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {numbers[key]}"]
    lines += ["# HELP pi0_ready Whether questions are taken", "# TYPE pi0_ready gauge"]
    lines.append(f"pi0_ready {int(numbers['state'] == 'ready')}")
    lines += ["# HELP pi0_refused_total Questions refused, by the protocol's code", "# TYPE pi0_refused_total counter"]
    lines += [f'pi0_refused_total{{code="{code}"}} {count}' for code, count in sorted(numbers["refused"].items())]
    for key, name, text in (
        ("infer_ms", "pi0_inference_seconds", "Time of an inference, of the last ones"),
        ("wait_ms", "pi0_wait_seconds", "Time that questions waited for their inference, of the last ones"),
    ):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        lines += [f'{name}{{quantile="0.{q[1:]}"}} {_number(ms * 1e-3)}' for q, ms in numbers[key].items()]
    if "model" in numbers:
        labels = ",".join(f'{key}="{_label(numbers[key])}"' for key in ("checkpoint", "model", "robot", "statistics"))
        lines += [
            "# HELP pi0_policy_info What is served",
            "# TYPE pi0_policy_info gauge",
            f"pi0_policy_info{{{labels}}} 1",
        ]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return "NaN" if value != value else f"{value:.6g}"


def _label(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
