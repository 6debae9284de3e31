"""Triton kernels for one observation: few rows, weights read once, activations that never leave the caches.

Each has a twin in plain torch in `twins.py`, which says what it computes. Rounding follows the plain model: what it keeps
in bfloat16 between two operations is rounded to the activations' dtype here, too.

With PDL a kernel starts while the one before it ends: it loads what does not depend on it (weights, mostly), and waits
only then. S suffix tokens, D width, N outputs, K inputs, R rows = S * heads.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _gelu_tanh(x):
    inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
    return x * (1.0 - 1.0 / (1.0 + tl.exp2(2.0 * LOG2E * inner)))


@triton.jit
def _silu(x):
    return x / (1.0 + tl.exp2(-LOG2E * x))


@triton.jit
def project_kernel(
    x, w, out, rows, outputs, inputs: tl.constexpr,
    SPLIT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    GEGLU: tl.constexpr, PARTIAL: tl.constexpr, PDL: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """out = x w^T for x [rows, K], w [N, K]; PARTIAL: float32 [SPLIT, rows, N]; GEGLU: w is [gates | ups]."""
    column, part, tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    span: tl.constexpr = inputs // SPLIT
    n = column * BN + tl.arange(0, BN)
    m = tile * BM + tl.arange(0, BM)
    k = part * span + tl.arange(0, BK)
    inside, valid = n < outputs, m < rows
    weights = w + n[:, None].to(tl.int64) * inputs + k[None, :]
    activations = x + m[:, None] * inputs + k[None, :]
    if span == BK:  # the whole tile of weights is on its way before the activations are there
        first = tl.load(weights, mask=inside[:, None], other=0.0)
        if GEGLU:
            second = tl.load(weights + outputs * inputs, mask=inside[:, None], other=0.0)
        if PDL:
            gdc_wait()
            gdc_launch_dependents()
        a = tl.load(activations, mask=valid[:, None], other=0.0)
        total = tl.dot(a, first.T)
        if GEGLU:
            up = tl.dot(a, second.T)
    else:
        if PDL:
            gdc_wait()
            gdc_launch_dependents()
        total = tl.zeros([BM, BN], tl.float32)
        if GEGLU:
            up = tl.zeros([BM, BN], tl.float32)
        for start in tl.range(0, span, BK, num_stages=STAGES):
            a = tl.load(activations + start, mask=valid[:, None], other=0.0)
            first = tl.load(weights + start, mask=inside[:, None], other=0.0)
            total = tl.dot(a, first.T, total)
            if GEGLU:
                second = tl.load(weights + outputs * inputs + start, mask=inside[:, None], other=0.0)
                up = tl.dot(a, second.T, up)
    if GEGLU:
        kind = x.dtype.element_ty
        total = _gelu_tanh(total.to(kind).to(tl.float32)).to(kind).to(tl.float32) * up.to(kind).to(tl.float32)
    where = m[:, None] * outputs + n[None, :]
    kept = valid[:, None] & inside[None, :]
    if PARTIAL:
        tl.store(out + part * rows * outputs + where, total, mask=kept)
    else:
        tl.store(out + where, total.to(out.dtype.element_ty), mask=kept)


@triton.jit
def settle_kernel(
    partials, x, hidden, scale, shift, gate, still_scale, still_shift, still_gate, given, rows, width,
    PARTS: tl.constexpr, GATED: tl.constexpr, MODULATED: tl.constexpr, BD: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """x += gate * sum of partials [PARTS, rows, D]; hidden = x / rms(x) * scale + shift. One row per program.

    Rows before `given` are modulated by the `still_` rows.
    """
    row = tl.program_id(0)
    d = tl.arange(0, BD)
    inside = d < width
    kind = x.dtype.element_ty
    still = row < given
    factor = tl.load(scale + d, mask=inside, other=0.0)
    if MODULATED:
        factor = tl.where(still, tl.load(still_scale + d, mask=inside, other=0.0), factor)
        offset = tl.load(shift + d, mask=inside & (still == 0), other=0.0)
        offset += tl.load(still_shift + d, mask=inside & still, other=0.0)
    if GATED:
        opening = tl.load(gate + d, mask=inside & (still == 0), other=0.0)
        opening += tl.load(still_gate + d, mask=inside & still, other=0.0)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    where = row * width + d
    value = tl.load(x + where, mask=inside, other=0.0).to(tl.float32)
    if PARTS > 0:
        update = tl.load(partials + where, mask=inside, other=0.0)
        for part in tl.static_range(1, PARTS):
            update += tl.load(partials + part * rows * width + where, mask=inside, other=0.0)
        update = update.to(kind).to(tl.float32)
        if GATED:
            update *= opening.to(tl.float32)
        value = (value + update).to(kind)
        tl.store(x + where, value, mask=inside)
        value = value.to(tl.float32)
    normal = value * tl.rsqrt(tl.sum(value * value) / width + 1e-6) * factor
    if MODULATED:
        normal += offset
    tl.store(hidden + where, normal.to(kind), mask=inside)


@triton.jit
def _sum_parts(pointer, stride, mask, PARTS: tl.constexpr):
    total = tl.load(pointer, mask=mask, other=0.0).to(tl.float32)
    for part in tl.static_range(1, PARTS):
        total += tl.load(pointer + part * stride, mask=mask, other=0.0).to(tl.float32)
    return total


@triton.jit
def attend_kernel(
    qkv, keys, values, cosine, sine, length, mixed, lse, tokens,
    HEADS: tl.constexpr, HALF: tl.constexpr, PARTS: tl.constexpr, SPAN: tl.constexpr, OWN: tl.constexpr,
    BM: tl.constexpr, BT: tl.constexpr, STATE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Attention of the suffix, one share of the keys per program: SPAN cached ones, or in the last share its own.

    qkv float32 [PARTS, S, (HEADS + 2) * head_dim] not rotated yet; keys, values [P, head_dim]; cosine, sine [S, HALF];
    mixed float32 [shares, R, head_dim] and lse [shares, R] (base 2). STATE: token 0 sees no other suffix token.
    """
    dim: tl.constexpr = 2 * HALF
    stride: tl.constexpr = (HEADS + 2) * dim
    tile, share, shares = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    row = tile * BM + tl.arange(0, BM)
    token, head = row // HEADS, row % HEADS
    valid = row < tokens * HEADS
    h, d = tl.arange(0, HALF), tl.arange(0, dim)
    known = tl.load(length)
    kind = keys.dtype.element_ty
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    spot = qkv + token[:, None] * stride + head[:, None] * dim + h[None, :]
    q1 = _sum_parts(spot, tokens * stride, valid[:, None], PARTS).to(kind).to(tl.float32)
    q2 = _sum_parts(spot + HALF, tokens * stride, valid[:, None], PARTS).to(kind).to(tl.float32)
    turn = token[:, None] * HALF + h[None, :]
    cos = tl.load(cosine + turn, mask=valid[:, None], other=0.0)
    sin = tl.load(sine + turn, mask=valid[:, None], other=0.0)
    left, right = (q1 * cos - q2 * sin).to(kind), (q2 * cos + q1 * sin).to(kind)
    factor = LOG2E / tl.sqrt(dim * 1.0)
    most = tl.full([BM], -1e30, tl.float32)
    total = tl.zeros([BM], tl.float32)
    result = tl.zeros([BM, dim], tl.float32)
    if share == shares - 1:
        t = tl.arange(0, OWN)
        there = t < tokens
        spot = qkv + t[:, None] * stride + HEADS * dim + h[None, :]
        k1 = _sum_parts(spot, tokens * stride, there[:, None], PARTS).to(kind).to(tl.float32)
        k2 = _sum_parts(spot + HALF, tokens * stride, there[:, None], PARTS).to(kind).to(tl.float32)
        turn = t[:, None] * HALF + h[None, :]
        cos = tl.load(cosine + turn, mask=there[:, None], other=0.0)
        sin = tl.load(sine + turn, mask=there[:, None], other=0.0)
        logits = tl.dot(left, (k1 * cos - k2 * sin).to(kind).T)
        logits = tl.dot(right, (k2 * cos + k1 * sin).to(kind).T, logits) * factor
        seen = there[None, :] & (row[:, None] >= 0)
        if STATE:
            seen = seen & ((token[:, None] > 0) | (t[None, :] == 0))
        logits = tl.where(seen, logits, -1e30)
        most = tl.max(logits, 1)
        weight = tl.exp2(logits - most[:, None])
        total = tl.sum(weight, 1)
        spot = qkv + t[:, None] * stride + (HEADS + 1) * dim + d[None, :]
        v = _sum_parts(spot, tokens * stride, there[:, None], PARTS).to(kind)
        result = tl.dot(weight.to(kind), v)
    else:
        first = share * SPAN
        last = tl.minimum(known, first + SPAN)
        for start in range(0, SPAN, BT):
            t = first + start + tl.arange(0, BT)
            there = t < last
            spot = keys + t[:, None] * dim + h[None, :]
            k1 = tl.load(spot, mask=there[:, None], other=0.0)
            k2 = tl.load(spot + HALF, mask=there[:, None], other=0.0)
            logits = tl.dot(left, k1.T)
            logits = tl.dot(right, k2.T, logits) * factor
            logits = tl.where(there[None, :], logits, -1e30)
            higher = tl.maximum(most, tl.max(logits, 1))
            weight = tl.where(there[None, :], tl.exp2(logits - higher[:, None]), 0.0)
            shrink = tl.exp2(most - higher)
            total = total * shrink + tl.sum(weight, 1)
            v = tl.load(values + t[:, None] * dim + d[None, :], mask=there[:, None], other=0.0)
            result = tl.dot(weight.to(kind), v, result * shrink[:, None])
            most = higher
    rows = tokens * HEADS
    some = total > 0.0
    safe = tl.where(some, total, 1.0)
    tl.store(lse + share * rows + row, tl.where(some, most + tl.log2(safe), -1e30), mask=valid)
    where = (share * rows + row[:, None]) * dim + d[None, :]
    tl.store(mixed + where, (result / safe[:, None]).to(mixed.dtype.element_ty), mask=valid[:, None])


@triton.jit
def gather_kernel(
    mixed, lse, w, out, tokens, outputs,
    HEADS: tl.constexpr, DIM: tl.constexpr, SHARES: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Join the shares of one head's attention and project them: out float32 [HEADS, S, D] = joined w[:, head]^T."""
    column, head = tl.program_id(0), tl.program_id(1)
    n, d, m = column * BN + tl.arange(0, BN), tl.arange(0, DIM), tl.arange(0, BM)
    inside, valid = n < outputs, m < tokens
    weights = tl.load(w + n[:, None] * (HEADS * DIM) + head * DIM + d[None, :], mask=inside[:, None], other=0.0)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    rows = tokens * HEADS
    row = m * HEADS + head
    most = tl.full([BM], -1e30, tl.float32)
    for share in tl.static_range(SHARES):
        most = tl.maximum(most, tl.load(lse + share * rows + row, mask=valid, other=-1e30))
    total = tl.zeros([BM], tl.float32)
    joined = tl.zeros([BM, DIM], tl.float32)
    for share in tl.static_range(SHARES):
        weight = tl.exp2(tl.load(lse + share * rows + row, mask=valid, other=-1e30) - most)
        part = tl.load(mixed + (share * rows + row[:, None]) * DIM + d[None, :], mask=valid[:, None], other=0.0)
        joined += weight[:, None] * part.to(tl.float32)
        total += weight
    a = (joined / total[:, None]).to(w.dtype.element_ty)
    where = head * tokens * outputs + m[:, None] * outputs + n[None, :]
    tl.store(out + where, tl.dot(a, weights.T), mask=valid[:, None] & inside[None, :])


@triton.jit
def embed_kernel(
    x, first, bias, still_bias, given, second, second_bias, state, out, horizon, width: tl.constexpr, DIM: tl.constexpr,
    ADIM: tl.constexpr, MLP: tl.constexpr, STATE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Noisy actions x float32 [H, A] to suffix tokens [STATE + H, D], all in float32; ADIM is A's next power of two."""
    n, m, a = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, BM), tl.arange(0, ADIM)
    inside, valid = n < width, m < horizon
    still = m < given
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    actions = tl.load(x + m[:, None] * DIM + a[None, :], mask=valid[:, None] & (a[None, :] < DIM), other=0.0)
    if MLP:
        total = tl.zeros([BM, BN], tl.float32)
        for start in range(0, width, BK):
            k = start + tl.arange(0, BK)
            there = k < width
            w = tl.load(first + k[:, None] * DIM + a[None, :], mask=there[:, None] & (a[None, :] < DIM), other=0.0)
            moving, standing = tl.load(bias + k, mask=there, other=0.0), tl.load(still_bias + k, mask=there, other=0.0)
            hidden = tl.dot(actions, w.T, input_precision="tf32x3")
            hidden = _silu(hidden + tl.where(still[:, None], standing[None, :], moving[None, :]))
            w = tl.load(second + n[:, None] * width + k[None, :], mask=inside[:, None] & there[None, :], other=0.0)
            total = tl.dot(hidden, w.T, total, input_precision="tf32x3")
        total += tl.load(second_bias + n, mask=inside, other=0.0)[None, :]
    else:
        w = tl.load(first + n[:, None] * DIM + a[None, :], mask=inside[:, None] & (a[None, :] < DIM), other=0.0)
        total = tl.dot(actions, w.T, input_precision="tf32x3") + tl.load(bias + n, mask=inside, other=0.0)[None, :]
    kept = valid[:, None] & inside[None, :]
    tl.store(out + (m[:, None] + STATE) * width + n[None, :], total.to(out.dtype.element_ty), mask=kept)
    if STATE:
        tl.store(out + n, tl.load(state + n, mask=inside, other=0.0), mask=inside)


@triton.jit
def finish_kernel(
    partials, x, scale, shift, gate, still_scale, still_shift, still_gate, given, w, bias, noisy, velocity, step,
    rows, width, SKIP: tl.constexpr, DIM: tl.constexpr, ADIM: tl.constexpr, PARTS: tl.constexpr, MODULATED: tl.constexpr,
    EULER: tl.constexpr, BD: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """The last residual and norm, the action projection in float32, and with EULER the step noisy += step * velocity."""
    action = tl.program_id(0)
    row = action + SKIP
    d, a = tl.arange(0, BD), tl.arange(0, ADIM)
    inside, real = d < width, a < DIM
    kind = x.dtype.element_ty
    still = action < given
    factor = tl.load(scale + d, mask=inside, other=0.0)
    if MODULATED:
        factor = tl.where(still, tl.load(still_scale + d, mask=inside, other=0.0), factor)
        offset = tl.load(shift + d, mask=inside & (still == 0), other=0.0)
        offset += tl.load(still_shift + d, mask=inside & still, other=0.0)
        opening = tl.load(gate + d, mask=inside & (still == 0), other=0.0)
        opening += tl.load(still_gate + d, mask=inside & still, other=0.0)
    out = tl.load(bias + a, mask=real, other=0.0)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    where = row * width + d
    update = _sum_parts(partials + where, rows * width, inside, PARTS).to(kind).to(tl.float32)
    if MODULATED:
        update *= opening.to(tl.float32)
    value = (tl.load(x + where, mask=inside, other=0.0).to(tl.float32) + update).to(kind).to(tl.float32)
    normal = value * tl.rsqrt(tl.sum(value * value) / width + 1e-6) * factor
    if MODULATED:
        normal += offset
    normal = normal.to(kind).to(tl.float32)
    weights = tl.load(w + a[:, None] * width + d[None, :], mask=real[:, None] & inside[None, :], other=0.0)
    out += tl.sum(weights * normal[None, :], 1)
    tl.store(velocity + action * DIM + a, out, mask=real)
    if EULER:
        spot = noisy + action * DIM + a
        tl.store(spot, tl.load(spot, mask=real, other=0.0) + step * out, mask=real)
