"""Topics that are not there, and those that are and were perhaps meant."""

from __future__ import annotations

from collections.abc import Mapping

from pi0_ros.doctor.heard import Session

MOST = 3


def meant(topic: str, kind: str, there: Mapping[str, str]) -> list[str]:
    """Topics of this type whose names end alike: another namespace; else those that share most of their words."""
    words = topic.strip("/").split("/")
    alike = {}
    for name, its in there.items():
        if its == kind and name != topic:
            other = name.strip("/").split("/")
            tail = next((n for n, (a, b) in enumerate(zip(reversed(words), reversed(other))) if a != b), None)
            tail = min(len(words), len(other)) if tail is None else tail
            alike[name] = (tail, len(set(words) & set(other)))
    best = max(alike.values(), default=(0, 0))
    return sorted(name for name, score in alike.items() if score == best and any(score))[:MOST]


def hint(session: Session, topic: str) -> str:
    """A clause that names what was perhaps meant, with a space behind it; empty where nothing is like it."""
    heard = session.topics[topic]
    free = {name: kind for name, kind in session.there.items() if name not in session.topics}
    near = meant(topic, heard.item.type, free)
    return f"{' or '.join(near)} is there: is it meant? " if near else ""
