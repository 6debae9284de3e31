"""Every Triton kernel against its twin, in Triton's interpreter; and what compiles for a Hopper GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import engine_cases as cases
import pytest
import torch

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("the kernels run for real here: the tests marked gpu", allow_module_level=True)
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("TRITON_INTERPRET=1 is not set", allow_module_level=True)

from pi0_ros.engine import kernels, twins
from pi0_ros.engine.engine import Engine
from pi0_ros.engine.fused import FusedNetwork, Tiles, Tuning, why_not
from pi0_ros.engine.schedule import make_schedule
from pi0_ros.engine.tuning import disagreement, fits
from pi0_ros.engine.weights import prepare
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.rtc import CleanPrefix

SMALL = Tuning(
    qkv=Tiles(16, 32), gate_up=Tiles(32, 32), down=Tiles(32, 64, 2), attention_keys=64, out_columns=32, pdl=0,
    prefix_rows=32, prefix_keys=32,
)  # fmt: skip
F16 = torch.float16  # the interpreter multiplies no bfloat16; rounding is like it, and finer
ROOT = Path(__file__).resolve().parents[2]


def draw(*shape, dtype=torch.float32, seed=0, scale=1.0):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def tables(positions, half):
    angles = torch.arange(positions)[:, None] / 10000 ** (torch.arange(half) / half)
    return angles.cos().contiguous(), angles.sin().contiguous()


def poisoned(*shape, dtype=torch.float32):
    return torch.full(shape, float("nan"), dtype=dtype)


def close(actual, wanted, limit):
    assert torch.isfinite(actual.float()).all()
    assert float((actual.float() - wanted.float()).norm() / wanted.float().norm()) <= limit


@pytest.mark.parametrize("split, depth", [(1, 32), (2, 64), (4, 32)])
@pytest.mark.parametrize("rows", [1, 21])
def test_project(split, depth, rows):
    x, w, out = draw(rows, 128, dtype=F16), draw(48, 128, dtype=F16, seed=1), poisoned(split, rows, 48)
    kernels.project_kernel[(2, split, 1)](
        x, w, out, rows, 48, 128, SPLIT=split, BM=32, BN=32, BK=depth, GEGLU=False, PARTIAL=True, PDL=0, STAGES=1
    )
    close(out.sum(0), twins.project(x, w), 1e-6)


@pytest.mark.parametrize("depth", [32, 128])
def test_project_with_geglu(depth):
    x, w, out = draw(21, 128, dtype=F16), draw(2 * 48, 128, dtype=F16, seed=1, scale=0.1), poisoned(21, 48, dtype=F16)
    kernels.project_kernel[(2, 1, 1)](
        x, w, out, 21, 48, 128, SPLIT=1, BM=32, BN=32, BK=depth, GEGLU=True, PARTIAL=False, PDL=0, STAGES=1
    )
    close(out, twins.geglu((x.float() @ w.float().T).to(F16)), 3e-3)


@pytest.mark.parametrize("given", [0, 3])
@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("parts", [0, 1, 4])
def test_settle(parts, modulated, given):
    rows, width = 7, 48
    x, partials = draw(rows, width, dtype=F16), draw(max(parts, 1), rows, width, seed=1)
    scale, shift, gate = draw(2, width, seed=2), draw(2, width, seed=3), draw(2, width, dtype=F16, seed=4)
    still = torch.arange(rows)[:, None] < given if modulated else torch.zeros(rows, 1, dtype=torch.bool)
    pick = lambda pair: torch.where(still, pair[1], pair[0])  # noqa: E731
    update = partials.sum(0) if parts else None
    wanted = twins.settle(update, x, pick(scale), pick(shift) if modulated else None, pick(gate) if modulated else None)
    hidden = poisoned(rows, width, dtype=F16)
    kernels.settle_kernel[(rows,)](
        partials, x, hidden, scale[0], shift[0], gate[0], scale[1], shift[1], gate[1], given, x, x, rows, width,
        PARTS=parts, FIRST=False, GATED=modulated and parts > 0, MODULATED=modulated, BD=64, PDL=0,
    )  # fmt: skip
    assert torch.equal(x, wanted[0])
    close(hidden, wanted[1], 2e-3)


def test_settle_begins_with_state_and_actions():
    rows, width = 5, 32
    partials, bias, state = draw(2, rows, width), draw(width, seed=1), draw(1, width, dtype=F16, seed=2)
    x, hidden, scale = poisoned(rows, width, dtype=F16), poisoned(rows, width, dtype=F16), draw(width, seed=3)
    kernels.settle_kernel[(rows,)](
        partials, x, hidden, scale, scale, x, scale, scale, x, 0, bias, state, rows, width, PARTS=2, FIRST=True,
        GATED=False, MODULATED=False, BD=32, PDL=0,
    )  # fmt: skip
    wanted = torch.cat([state, (partials.sum(0) + bias)[1:].to(F16)])
    assert torch.equal(x, wanted)
    close(hidden, twins.settle(None, wanted, scale)[1], 2e-3)


@pytest.mark.parametrize("kind", ["turn", "rotate"])
def test_rotation_of_queries_and_keys(kind):
    rows, heads, half, length = 9, 4, 16, 5 if kind == "turn" else 0
    cos, sin = tables(rows + length, half)
    queries, keys = poisoned(rows, heads * 2 * half, dtype=F16), poisoned(rows, 2 * half, dtype=F16)
    values = poisoned(rows, 2 * half, dtype=F16)
    x, w = draw(rows, 64, dtype=F16), draw((heads + 2) * 2 * half, 64, dtype=F16, seed=1)
    qkv = twins.project(x, w).to(F16)
    if kind == "turn":
        kernels.turn_kernel[((heads + 2) * half // 16,)](
            x, w, cos, sin, torch.tensor([length]), queries, keys, values, rows, 64, HEADS=heads, HALF=half, BM=16,
            BN=16, BK=32, PDL=0, STAGES=1,
        )  # fmt: skip
    else:
        kernels.rotate_kernel[(rows,)](qkv, cos, sin, queries, keys, values, HEADS=heads, HALF=half, BH=8)
    for made, wanted in zip((queries, keys, values), twins.turn(qkv, cos[length:], sin[length:], heads), strict=True):
        close(made, wanted, 3e-3)


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("length", [1, 33, 40])
def test_attention_by_shares_and_its_projection(length, state):
    tokens, heads, dim, room, width, keys_each = 9, 4, 32, 40, 48, 16
    queries = draw(tokens, heads * dim, dtype=F16)
    keys, values = draw(room + tokens, dim, dtype=F16, seed=1), draw(room + tokens, dim, dtype=F16, seed=2)
    shares, rows = -(-(room + tokens) // keys_each), tokens * heads
    mixed, lse = poisoned(shares, rows, dim, dtype=F16), poisoned(shares, rows)
    kernels.attend_kernel[(-(-rows // 16), shares)](
        queries, keys, values, torch.tensor([length]), mixed, lse, tokens, room, HEADS=heads, DIM=dim, BM=16,
        BT=keys_each, STATE=int(state), PDL=0,
    )  # fmt: skip
    column = torch.arange(room + tokens)
    seen = ((column < length) | (column >= room)).repeat(tokens, 1)
    if state:
        seen[0, room + 1 :] = False
    w, out = draw(width, heads * dim, dtype=F16, seed=3), poisoned(heads, tokens, width)
    kernels.gather_kernel[(2, heads)](
        mixed, lse, w, out, tokens, width, HEADS=heads, DIM=dim, SHARES=shares, BM=16, BN=32, PDL=0
    )
    close(out.sum(0), twins.project(twins.attend(queries, keys, values, seen).to(F16), w), 8e-3)


@pytest.mark.parametrize("length", [1, 20, 37])
def test_attention_of_the_prefix(length):
    tokens, heads, dim = 37, 2, 32
    queries = draw(tokens, heads * dim, dtype=F16)
    keys, values = draw(tokens, dim, dtype=F16, seed=1), draw(tokens, dim, dtype=F16, seed=2)
    out = poisoned(tokens, heads * dim, dtype=F16)
    kernels.prefix_attend_kernel[(-(-tokens * heads // 16),)](
        queries, keys, values, torch.tensor([length]), out, tokens * heads, DIM=dim, LIMIT=48, BM=16, BT=16, STAGES=1
    )
    close(out, twins.attend(queries, keys, values, (torch.arange(tokens) < length).repeat(tokens, 1)), 8e-3)


@pytest.mark.parametrize("adds", [False, True])
def test_layer_norm(adds):
    x, update = draw(5, 48, dtype=F16), draw(5, 48, dtype=F16, seed=1)
    weight, bias, out = draw(48, dtype=F16, seed=2), draw(48, dtype=F16, seed=3), poisoned(5, 48, dtype=F16)
    wanted = x + update if adds else x.clone()
    kernels.layer_norm_kernel[(5,)](x, update, weight, bias, out, 48, ADDS=adds, BD=64)
    assert torch.equal(x, wanted)
    close(out, twins.layer_norm(wanted, weight, bias), 2e-3)


def test_geglu():
    both, out = draw(3, 2 * 40, dtype=F16), poisoned(3, 40, dtype=F16)
    kernels.geglu_kernel[(2, 3)](both, out, 40, BLOCK=32)
    close(out, twins.geglu(both), 2e-3)


@pytest.mark.parametrize("given", [0, 2])
def test_action_embeddings(given):
    horizon, dim, width = 6, 5, 32
    x, first, second = draw(horizon, dim), draw(width, dim, seed=1), draw(width, width, seed=2)
    biases, out = draw(2, width, seed=3), poisoned(2, horizon + 1, width)
    each = torch.where(torch.arange(horizon)[:, None] < given, biases[1], biases[0])
    kernels.embed_mlp_kernel[(1, 2)](
        x, first, biases[0], biases[1], given, second, out, horizon, horizon + 1, width, DIM=dim, ADIM=16, BM=16, BN=32,
        BK=16, PDL=0,
    )  # fmt: skip
    close(out.sum(0)[1:], twins.embed(x, first, each, second), 1e-6)
    tokens = poisoned(horizon, width)
    kernels.embed_kernel[(1,)](
        x, first, biases[0], biases[1], 0, tokens, horizon, horizon, width, DIM=dim, ADIM=16, BM=16, BN=32, PDL=0
    )
    close(tokens, twins.embed(x, first, biases[0]), 1e-6)


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("given", [0, 2])
def test_finish(given, modulated):
    rows, width, dim, skip = 6, 32, 5, 0 if modulated else 1
    x, partials, noisy = draw(rows, width, dtype=F16), draw(2, rows, width, seed=1), draw(rows - skip, dim, seed=2)
    scale, shift, gate = draw(2, width, seed=3), draw(2, width, seed=4), draw(2, width, dtype=F16, seed=5)
    w, bias, speed = draw(dim, width, seed=6), draw(dim, seed=7), poisoned(rows - skip, dim)
    still = torch.arange(rows)[:, None] < given if modulated else torch.zeros(rows, 1, dtype=torch.bool)
    pick = lambda pair: torch.where(still, pair[1], pair[0])  # noqa: E731
    hidden = twins.settle(
        partials.sum(0), x, pick(scale), pick(shift) if modulated else None, pick(gate) if modulated else None
    )[1]
    wanted = twins.finish(noisy, hidden[skip:], w, bias, -0.1)
    kernels.finish_kernel[(rows - skip,)](
        partials, x, scale[0], shift[0], gate[0], scale[1], shift[1], gate[1], given, w, bias, noisy, speed, -0.1, rows,
        width, SKIP=skip, DIM=dim, ADIM=8, PARTS=2, MODULATED=modulated, EULER=True, BD=32, PDL=0,
    )  # fmt: skip
    close(speed, wanted[0], 4e-3)
    close(noisy, wanted[1], 4e-3)


@pytest.mark.parametrize("kind", ["none", "trained"])
@pytest.mark.parametrize("name", ["pi0", "pi05"])
def test_a_chunk_with_all_kernels(name, kind):
    model, guidance = cases.model(name), cases.guidances()[kind]
    engine = Engine(model)
    engine.network = FusedNetwork(model.config, engine.plain.weights, SMALL)
    inputs = replace(cases.observation(), images={cases.SLOTS[0]: cases.observation().images[cases.SLOTS[0]]})
    wanted = model.sample_actions(inputs, cases.noise(), 2, guidance=guidance)
    made = engine.sample_actions(inputs, cases.noise(), 2, guidance=guidance)
    assert (made - wanted).abs().max() <= 2e-5
    assert isinstance(guidance, CleanPrefix) == (kind == "trained")


def test_the_check_at_start_sees_wrong_kernels(monkeypatch):
    model = cases.model("pi0")
    weights, schedule = prepare(model), make_schedule(model, 2)
    assert disagreement(model.config, weights, schedule, 32, SMALL) < 1e-4
    right = FusedNetwork._settle

    def wrong(self, schedule, step, norm, scale, parts, *args, **kwargs):
        right(self, schedule, step, norm, scale, max(1, parts - 1), *args, **kwargs)

    monkeypatch.setattr(FusedNetwork, "_settle", wrong)
    assert disagreement(model.config, weights, schedule, 32, SMALL) > 0.03


def test_which_models_the_kernels_serve():
    assert why_not(ModelConfig.preset("pi0")) == "" == why_not(ModelConfig.preset("pi05"))
    assert fits(ModelConfig.preset("pi0"), Tuning()) and fits(ModelConfig.preset("pi05"), Tuning())
    assert "width 96" in why_not(ModelConfig.preset("demo"))
    assert "2 key/value heads" in why_not(cases.config("pi0", kv_heads=2))
    assert "horizon of 64" in why_not(replace(ModelConfig.preset("pi0"), action_horizon=64))


@pytest.mark.slow
def test_every_launch_compiles_for_a_hopper_gpu():
    """Triton brings its compiler along: no GPU is needed to see that the kernels build and fit into shared memory."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = [sys.executable, str(ROOT / "test" / "helpers" / "compile_kernels.py")]
    done = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n") >= 14 and "attend_kernel" in done.stdout
