"""The policy's loop in a thread of its own: observe now, infer, hand the chunk on, and say why when that fails."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from pi0_ros.base.foreign import shortened
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.backend import Backend
from pi0_ros.inference.metadata import BackendError, RobotMismatchError
from pi0_ros.inference.prefix import Continuation
from pi0_ros.observation.streams import FrozenError, ObservationBuffer, StaleError, UnreadableError

WINDOW = 200  # inferences in the latency figures
STARTING = "starting"
RUNNING = "running"
STATES = (STARTING, RUNNING, "prompt", "stale", "frozen", "unreadable", "implausible", "backend", "mismatch", "error")
TRUST_AGAIN_S = 0.5  # after joint states that could not be true


@dataclass(frozen=True)
class Health:
    """What the loop did so far and what it does now."""

    state: str = STARTING  # one of STATES
    reason: str = "waiting for the first tick of the clock (with use_sim_time: for /clock)"  # "" while running
    chunks: int = 0
    stale_events: int = 0  # how often the streams became stale, frozen or unreadable
    backend_errors: int = 0
    latency_p50_ms: float = float("nan")  # tick to chunk, of the last inferences
    latency_p99_ms: float = float("nan")
    ages_s: dict[str, float] = field(default_factory=dict)  # per topic, of the last observation


class Runner:
    """Infers once for every `wake`, coalescing those that come during an inference.

    `now_ns` is the clock of the observations, `publish` takes each chunk, `traced` then takes it with the milliseconds
    that each stage of its way took, `changed` is called in the loop's thread whenever the state changes. `prompt` may
    be set at any time; without one nothing is inferred. With `continuation` each chunk is made to continue the one
    before (real-time chunking). `doubt` says what of the joint states could not be true since a time of
    `time.monotonic`: no chunk is made of those. `instruct` turns the prompt into what the model is told
    (`SubtaskLoop.instruction`).
    """

    def __init__(
        self,
        buffer: ObservationBuffer,
        backend: Backend,
        now_ns: Callable[[], int],
        publish: Callable[[ActionChunk], None],
        changed: Callable[[Health], None] = lambda health: None,
        prompt: str = "",
        continuation: Continuation | None = None,
        instruct: Callable[[str], str] = lambda task: task,
        doubt: Callable[[float], str] = lambda since: "",
        traced: Callable[[ActionChunk, dict[str, float]], None] = lambda chunk, stages_ms: None,
    ) -> None:
        self.prompt = prompt
        self._continuation, self._instruct = continuation, instruct
        self._traced, self._doubt = traced, doubt
        self._buffer, self._backend = buffer, backend
        self._now_ns, self._publish, self._changed = now_ns, publish, changed
        self._state, self._reason = STARTING, Health.reason
        self._chunks = self._stale_events = self._backend_errors = 0
        self._latencies_ms: deque[float] = deque(maxlen=WINDOW)
        self._ages_s: dict[str, float] = {}
        self._lock = threading.Lock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def health(self) -> Health:
        with self._lock:
            p50, p99 = np.percentile(self._latencies_ms, (50, 99)) if self._latencies_ms else (np.nan, np.nan)
            return Health(
                state=self._state,
                reason=self._reason,
                chunks=self._chunks,
                stale_events=self._stale_events,
                backend_errors=self._backend_errors,
                latency_p50_ms=float(p50),
                latency_p99_ms=float(p99),
                ages_s=dict(self._ages_s),
            )

    def start(self) -> bool:
        """Begin to loop; False while the inference that `stop` did not wait for is still under way."""
        if self._thread is not None and self._thread.is_alive():
            return False
        self._stop.clear()
        self._set(STARTING, Health.reason)
        self._thread = threading.Thread(target=self._loop, name="policy", daemon=True)
        self._thread.start()
        return True

    def wake(self) -> None:
        """It is time for the next chunk."""
        self._wake.set()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """End the loop after the inference under way; False when that took longer than `timeout_s`."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        self._thread = None
        return True

    def step(self) -> bool:
        """Observe, infer, publish once; True when a chunk was published."""
        if self._continuation is not None:
            self._continuation.wait_for_plan()
        start = time.perf_counter()
        prompt, now_ns = self.prompt.strip(), self._now_ns()
        if now_ns <= 0:
            self._set(STARTING, Health.reason)
            return False
        if not prompt:
            self._set("prompt", "no prompt: publish one on ~/prompt or set the parameter `prompt`")
            return False
        since = time.monotonic() - TRUST_AGAIN_S
        if problem := self._doubt(since):
            self._set("implausible", problem)
            return False
        try:
            observation = self._buffer.observe(now_ns - self._buffer.delay_ns, self._instruct(prompt))
            continuation = self._continuation
            before_ms = self._before_ms(now_ns)  # now: the buffer forgets old pictures while the model infers
            prefix = continuation.prefix(observation.stamp_ns) if continuation is not None else None
            ready = time.perf_counter()
            chunk = self._backend.infer(observation, prefix)
            if self._stop.is_set():
                return False
            if problem := self._doubt(since):
                self._set("implausible", problem)
                return False
            if continuation is not None:
                now_ns = self._now_ns()
                chunk = continuation.begun(continuation.executed(chunk), now_ns)
                continuation.published(chunk, now_ns)
            self._publish(chunk)
            spent_ms = [(end - begin) * 1e3 for begin, end in ((start, ready), (start, time.perf_counter()))]
            self._traced(chunk, before_ms | stages_ms(self._backend.timing, *spent_ms))
        except UnreadableError as error:
            self._set("unreadable", str(error))
        except FrozenError as error:
            self._set("frozen", str(error))
        except StaleError as error:
            self._set("stale", str(error))
        except BackendError as error:
            self._set("backend", str(error))
        except RobotMismatchError as error:
            self._set("mismatch", str(error))
        except Exception as error:  # the node must outlive whatever one observation does to it
            self._set("error", f"{type(error).__name__}: {error}")
        else:
            with self._lock:
                self._chunks += 1
                self._latencies_ms.append((time.perf_counter() - start) * 1e3)
                self._ages_s = observation.ages_s
            self._set(RUNNING, "")
            return True
        return False

    def _before_ms(self, now_ns: int) -> dict[str, float]:
        """How long the oldest image was on its way here, and how long it then waited for this inference."""
        captured_ns, received_ns = self._buffer.oldest_image(now_ns - self._buffer.delay_ns) or (now_ns, now_ns)
        return {"receive": (received_ns - captured_ns) * 1e-6, "wait": (now_ns - received_ns) * 1e-6}

    def _loop(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stop.is_set():
                return
            self.step()

    def _set(self, state: str, reason: str) -> None:
        with self._lock:
            changed = state != self._state
            self._stale_events += changed and state in ("stale", "frozen", "unreadable")
            self._backend_errors += state in ("backend", "mismatch", "error")
            self._state, self._reason = state, shortened(reason)
        if changed and not self._stop.is_set():  # a stopped node may have no publishers left to tell it with
            self._changed(self.health)


def stages_ms(timing: Mapping[str, float], ready_ms: float, published_ms: float) -> dict[str, float]:
    """What the `published_ms` from the observation to the published chunk were spent on.

    `ready_ms` of them passed before the backend was asked; `timing` is `Backend.timing`. What none of the other stages
    accounts for counts as publishing.
    """
    fit = timing.get("fit_ms", 0.0)  # pictures made small before they travel
    preprocess = ready_ms + timing.get("prepare_ms", 0.0) + fit
    link = max(0.0, timing["round_trip_ms"] - timing.get("total_ms", 0.0) - fit) if "round_trip_ms" in timing else 0.0
    infer = timing.get("model_ms", 0.0)
    return {
        "preprocess": preprocess,
        "link": link,
        "infer": infer,
        "publish": max(0.0, published_ms - preprocess - link - infer),
    }
