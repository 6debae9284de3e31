"""`pi0 serve --status`: what a server says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pi0_ros.inference.client import Client
from pi0_ros.inference.keys import read_client_keys

TIMEOUT_S = 5.0


def show(address: str, keys: Path | None) -> int:
    """Print the status of the server at HOST:PORT, or at a whole address; exit status 1 unless it takes questions."""
    whole = address if "://" in address else f"tcp://{address}"
    client = Client(whole, TIMEOUT_S, keys=read_client_keys(keys) if keys is not None else None)
    try:
        status = client.status()
    finally:
        client.close()
    for line in lines(whole, status, client.delays.up_ms + client.delays.down_ms):
        print(line)
    return 0 if status.get("state") == "ready" else 1


def lines(address: str, status: Mapping[str, Any], link_ms: float) -> list[str]:
    """The status for people; what a server of another release does not say is left out."""
    found = [f"{address}: {status.get('state', '?')}, {link_ms:.1f} ms away"]
    rows = {
        "policy": "{checkpoint} ({model}, robot '{robot}', {horizon} actions at {fps:g} Hz, statistics {statistics})",
        "robots": "{clients} asked within the last minute, {waiting} wait",
        "chunks": "{answered} in {inferences} inferences since {uptime_s:.0f} s",
        "inference": "{infer_ms[p50]:.1f} ms (99 of 100 within {infer_ms[p99]:.1f})",
        "waiting": "{wait_ms[p50]:.1f} ms (99 of 100 within {wait_ms[p99]:.1f})",
        "refused": "{refused}",
        "process": "{process}, {memory_mb:.0f} MB",
    }
    refused = ", ".join(f"{count} {code}" for code, count in sorted(status.get("refused", {}).items()))
    said = {**status, "refused": refused or "nothing", "memory_mb": status.get("memory_bytes", 0) / 1e6}
    for name, text in rows.items():
        try:
            found.append(f"  {name:10s} {text.format_map(said)}")
        except (KeyError, ValueError, TypeError, IndexError):
            continue
    return found
