"""Two halves of a trace are joined, and their figures lead to advice."""

from __future__ import annotations

import pytest

from pi0_ros.control.latency import NAMES, Traces, advice, controller_half, policy_half, summarise, table

MS = 1_000_000
T0 = 1_700_000_000_000_000_000
STAGES = {"receive": 30.0, "wait": 10.0, "preprocess": 5.0, "link": 20.0, "infer": 40.0, "publish": 1.0}


def texts(values: dict[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}


def halves(i: int, every_ms: int = 200, actions: int = 20, **stages: float) -> tuple[dict[str, str], dict[str, str]]:
    """Policy's and controller's words on chunk `i`: published 66 ms after its stamp, followed 4 and 10 ms later."""
    stamp = T0 + i * every_ms * MS
    policy = policy_half(stamp, 0.05, actions, stamp + 66 * MS, STAGES | stages)
    return texts(policy), texts(controller_half(stamp, stamp + 70 * MS, stamp + 80 * MS))


@pytest.mark.parametrize("policy_first", [True, False])
def test_halves_are_joined_whichever_comes_first(policy_first):
    traces = Traces()
    for i in range(3):
        policy, controller = halves(i)
        for half in (policy, controller) if policy_first else (controller, policy):
            traces.add(half)
    assert traces.published == len(traces.complete) == 3
    first = traces.complete[0]
    assert first.stamp_ns == T0 and (first.dt, first.actions) == (0.05, 20)
    assert first.stages_ms == STAGES | {"deliver": pytest.approx(4.0), "command": pytest.approx(10.0)}
    assert first.total_ms == pytest.approx(120.0) and first.delay_s == pytest.approx(0.080)


def test_a_chunk_that_nobody_followed_leaves_no_trace():
    traces = Traces()
    traces.add(halves(0)[0])
    traces.add(halves(1)[0])
    traces.add(halves(1)[1])
    assert traces.published == 2 and [trace.stamp_ns for trace in traces.complete] == [T0 + 200 * MS]
    with pytest.raises(ValueError, match="1 traces are too few"):
        summarise(traces.complete)


@pytest.mark.parametrize("values", [{}, {"chunk": "1", "published": "x"}, {"chunk": "soon", "accepted": "1"}])
def test_anything_else_is_no_half(values):
    traces = Traces()
    traces.add(texts(controller_half(1, 2, 3)))
    with pytest.raises(ValueError, match="no half of a latency trace"):
        traces.add(values)


def figures(**changes):
    traces = Traces()
    for i in range(20):
        for half in halves(i, **changes):
            traces.add(half)
    return summarise(traces.complete)


def test_figures_in_steps_of_the_chunk():
    summary = figures()
    assert summary.stages["infer"] == (40.0, 40.0, 40.0) and summary.stages["total"][0] == pytest.approx(120.0)
    assert summary.rate_hz == pytest.approx(5.0) and summary.inference_ms == pytest.approx(66.0)
    assert summary.delay_steps == 2 and summary.horizon_steps == 4  # 80 ms and 200 ms in steps of 50 ms
    assert summary.dominant == "infer"
    lines = table(summary).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*NAMES, "total"]
    assert "33%" in lines[1 + NAMES.index("infer")]


def test_advice_when_all_is_well():
    text = " ".join(advice(figures()))
    assert "takes over 2 steps (100 ms)" in text and "followed for 4 steps, of its 20 actions: 14 to spare" in text
    assert "into `infer`, 40.0 of 120.0 ms" in text and "num_steps" in text
    assert "There is room: 5.0 chunks per second of 12.1" in text
    assert "inference delay 2 steps, execution horizon 2 to 18 steps, now 4" in text


def test_advice_when_chunks_are_too_short_or_the_policy_too_slow():
    first, *_ = advice(figures(actions=5))
    assert first.startswith("Chunks end before the next one takes over (2 + 4 steps of 5)")
    text = " ".join(advice(figures(every_ms=70)))
    assert "The policy is at its limit: an inference takes up to 66 ms. Set policy_rate_hz to 12.1 at most" in text
    assert "execution horizon none" in " ".join(advice(figures(actions=3)))
    assert "into `receive`" in " ".join(advice(figures(receive=100.0)))
