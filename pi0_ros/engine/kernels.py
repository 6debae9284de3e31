"""Triton kernels for one observation: few rows, weights read once, activations that never leave the caches.

Each has a twin in plain torch in `twins.py`, which says what it computes. Rounding follows the plain model: what it
keeps in bfloat16 between two operations is rounded to the activations' dtype here, too.

With PDL kernels start before the ones in front of them end: they fetch what does not depend on those (weights, mostly),
and wait only then. PDL is 0: no; 1: the next kernel is let in after the wait; 2: at once; 3: at once, and weights are
prefetched into the L2 cache; 4: after the wait, with the prefetch.

S suffix tokens, D width, N outputs, K inputs, R rows = S * heads.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _begin(PDL: tl.constexpr):
    """Let the next kernel in at once: all programs of this one run by then, those that wait cannot block it."""
    if PDL == 2 or PDL == 3:
        gdc_launch_dependents()


@triton.jit
def _wait(PDL: tl.constexpr):
    """Wait for the kernels in front."""
    if PDL:
        gdc_wait()
    if PDL == 1 or PDL == 4:
        gdc_launch_dependents()


@triton.jit
def _prefetch(pointers):
    """Ask for the cache lines of `pointers`, to find them in the L2 cache later."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.b32 $0, 0;",
        "=r,l",
        [pointers.to(tl.int64)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


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
    _begin(PDL)
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
        _wait(PDL)
        a = tl.load(activations, mask=valid[:, None], other=0.0)
        total = tl.dot(a, first.T)
        if GEGLU:
            up = tl.dot(a, second.T)
    else:
        if PDL >= 3:
            line = part * span + tl.arange(0, span // 64) * 64  # 128 bytes each
            lines = w + n[:, None].to(tl.int64) * inputs + line[None, :]
            _prefetch(lines)
            if GEGLU:
                _prefetch(lines + outputs * inputs)
        _wait(PDL)
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
    partials, x, hidden, scale, shift, gate, still_scale, still_shift, still_gate, given, bias, state, rows, width,
    PARTS: tl.constexpr, FIRST: tl.constexpr, GATED: tl.constexpr, MODULATED: tl.constexpr, BD: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """x += gate * sum of partials [PARTS, rows, D]; hidden = x / rms(x) * scale + shift. One row per program.

    Rows before `given` are modulated by the `still_` rows. FIRST: x is not read; it is `state` in row 0 and the sum
    with `bias` in the others.
    """
    _begin(PDL)
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
    _wait(PDL)
    where = row * width + d
    if FIRST:
        value = tl.load(bias + d, mask=inside, other=0.0)
    else:
        value = tl.load(x + where, mask=inside, other=0.0).to(tl.float32)
    if PARTS > 0:
        update = tl.load(partials + where, mask=inside, other=0.0)
        for part in tl.static_range(1, PARTS):
            update += tl.load(partials + part * rows * width + where, mask=inside, other=0.0)
        if FIRST:
            value += update
            if row == 0:
                value = tl.load(state + d, mask=inside, other=0.0).to(tl.float32)
            value = value.to(kind)
        else:
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
def turn_kernel(
    x, w, cosine, sine, length, queries, keys, values, rows, inputs: tl.constexpr,
    HEADS: tl.constexpr, HALF: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    PDL: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """x w^T for w [(HEADS + 2) * head_dim, K], rotated: queries [rows, HEADS * head_dim], keys and values.

    Row m stands at position length + m of the tables [positions, HALF]. One program makes BN pairs of one head.
    """
    _begin(PDL)
    dim: tl.constexpr = 2 * HALF
    pair = tl.program_id(0) * BN
    head, within = pair // HALF, pair % HALF
    m, n, k = tl.arange(0, BM), within + tl.arange(0, BN), tl.arange(0, BK)
    valid = m < rows
    known = tl.load(length).to(tl.int32)
    weights = w + (head * dim + n[:, None]) * inputs + k[None, :]
    activations = x + m[:, None] * inputs + k[None, :]
    spot = (known + m[:, None]) * HALF + n[None, :]
    cos = tl.load(cosine + spot, mask=valid[:, None], other=0.0)
    sin = tl.load(sine + spot, mask=valid[:, None], other=0.0)
    if PDL >= 3:
        lines = w + (head * dim + n[:, None]) * inputs + tl.arange(0, inputs // 64)[None, :] * 64  # 128 bytes each
        _prefetch(lines)
        _prefetch(lines + HALF * inputs)
    _wait(PDL)
    first, second = tl.zeros([BM, BN], tl.float32), tl.zeros([BM, BN], tl.float32)
    for start in tl.range(0, inputs, BK, num_stages=STAGES):
        a = tl.load(activations + start, mask=valid[:, None], other=0.0)
        first = tl.dot(a, tl.load(weights + start).T, first)
        second = tl.dot(a, tl.load(weights + HALF * inputs + start).T, second)
    kind = queries.dtype.element_ty
    x1, x2 = first.to(kind).to(tl.float32), second.to(kind).to(tl.float32)
    left, right = (x1 * cos - x2 * sin).to(kind), (x2 * cos + x1 * sin).to(kind)
    if head < HEADS:
        out = queries + m[:, None] * HEADS * dim + head * dim + n[None, :]
        tl.store(out, left, mask=valid[:, None])
        tl.store(out + HALF, right, mask=valid[:, None])
    elif head == HEADS:
        out = keys + m[:, None] * dim + n[None, :]
        tl.store(out, left, mask=valid[:, None])
        tl.store(out + HALF, right, mask=valid[:, None])
    else:
        out = values + m[:, None] * dim + n[None, :]
        tl.store(out, x1.to(kind), mask=valid[:, None])
        tl.store(out + HALF, x2.to(kind), mask=valid[:, None])


@triton.jit
def attend_kernel(
    queries, keys, values, length, mixed, lse, tokens, prefix,
    HEADS: tl.constexpr, DIM: tl.constexpr, BM: tl.constexpr, BT: tl.constexpr, STATE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Attention of the suffix, BT keys per program, over [prefix | suffix] keys and values [prefix + S, head_dim].

    Of the prefix's room `length` tokens are there. queries [R, head_dim], row = token * HEADS + head; mixed [shares, R,
    head_dim] and lse float32 [shares, R] (base 2). STATE: token 0 sees no other suffix token.
    """
    _begin(PDL)
    tile, share = tl.program_id(0), tl.program_id(1)
    row, d = tile * BM + tl.arange(0, BM), tl.arange(0, DIM)
    rows = tokens * HEADS
    valid = row < rows
    known = tl.load(length).to(tl.int32)
    kind = keys.dtype.element_ty
    t = share * BT + tl.arange(0, BT)
    before, behind = t < known, (t >= prefix) & (t < prefix + tokens)
    spot = t[:, None] * DIM + d[None, :]
    k = tl.load(keys + spot, mask=before[:, None], other=0.0)
    v = tl.load(values + spot, mask=before[:, None], other=0.0)
    _wait(PDL)
    q = tl.load(queries + row[:, None] * DIM + d[None, :], mask=valid[:, None], other=0.0)
    if share * BT + BT > prefix:
        k += tl.load(keys + spot, mask=behind[:, None], other=0.0)
        v += tl.load(values + spot, mask=behind[:, None], other=0.0)
    logits = tl.dot(q, k.T) * (LOG2E / tl.sqrt(DIM * 1.0))
    seen = (before | behind)[None, :] & valid[:, None]
    if STATE:
        seen = seen & ((row[:, None] >= HEADS) | (t[None, :] <= prefix))
    logits = tl.where(seen, logits, -1e30)
    most = tl.max(logits, 1)
    weight = tl.where(seen, tl.exp2(logits - most[:, None]), 0.0)
    total = tl.sum(weight, 1)
    some = total > 0.0
    safe = tl.where(some, total, 1.0)
    result = tl.dot(weight.to(kind), v) / safe[:, None]
    tl.store(lse + share * rows + row, tl.where(some, most + tl.log2(safe), -1e30), mask=valid)
    where = (share * rows + row[:, None]) * DIM + d[None, :]
    tl.store(mixed + where, result.to(mixed.dtype.element_ty), mask=valid[:, None])


@triton.jit
def gather_kernel(
    mixed, lse, w, out, tokens, outputs,
    HEADS: tl.constexpr, DIM: tl.constexpr, SHARES: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Join the shares of one head's attention and project them: out float32 [HEADS, S, D] = joined w[:, head]^T."""
    _begin(PDL)
    column, head = tl.program_id(0), tl.program_id(1)
    n, d, m = column * BN + tl.arange(0, BN), tl.arange(0, DIM), tl.arange(0, BM)
    inside, valid = n < outputs, m < tokens
    weights = tl.load(w + n[:, None] * (HEADS * DIM) + head * DIM + d[None, :], mask=inside[:, None], other=0.0)
    _wait(PDL)
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
    x, first, bias, still_bias, given, out, horizon, rows, width, DIM: tl.constexpr, ADIM: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """pi0.5: noisy actions x float32 [H, A] to suffix tokens [H, D], in float32; ADIM is A's next power of two."""
    _begin(PDL)
    n, m, a = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, BM), tl.arange(0, ADIM)
    inside, valid = n < width, m < horizon
    w = tl.load(first + n[:, None] * DIM + a[None, :], mask=inside[:, None] & (a[None, :] < DIM), other=0.0)
    shift = tl.load(bias + n, mask=inside, other=0.0)
    _wait(PDL)
    actions = tl.load(x + m[:, None] * DIM + a[None, :], mask=valid[:, None] & (a[None, :] < DIM), other=0.0)
    total = tl.dot(actions, w.T, input_precision="tf32x3") + shift[None, :]
    kept = valid[:, None] & inside[None, :]
    tl.store(out + m[:, None] * width + n[None, :], total.to(out.dtype.element_ty), mask=kept)


@triton.jit
def embed_mlp_kernel(
    x, first, bias, still_bias, given, second, out, horizon, rows, width, DIM: tl.constexpr, ADIM: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """pi0: the action MLP in float32, BK hidden units per program: out float32 [D / BK, S, D], last rows actions."""
    _begin(PDL)
    n, m, a = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, BM), tl.arange(0, ADIM)
    part, skip = tl.program_id(1), rows - horizon
    k = part * BK + tl.arange(0, BK)
    inside, there, valid = n < width, k < width, (m >= skip) & (m < rows)
    w = tl.load(first + k[:, None] * DIM + a[None, :], mask=there[:, None] & (a[None, :] < DIM), other=0.0)
    v = tl.load(second + n[:, None] * width + k[None, :], mask=inside[:, None] & there[None, :], other=0.0)
    moving, standing = tl.load(bias + k, mask=there, other=0.0), tl.load(still_bias + k, mask=there, other=0.0)
    _wait(PDL)
    source = x + (m[:, None] - skip) * DIM + a[None, :]
    actions = tl.load(source, mask=valid[:, None] & (a[None, :] < DIM), other=0.0)
    hidden = tl.dot(actions, w.T, input_precision="tf32x3")
    hidden = _silu(hidden + tl.where((m < given + skip)[:, None], standing[None, :], moving[None, :]))
    total = tl.dot(hidden, v.T, input_precision="tf32x3")
    kept = valid[:, None] & inside[None, :]
    tl.store(out + part * rows * width + m[:, None] * width + n[None, :], total, mask=kept)


@triton.jit
def finish_kernel(
    partials, x, scale, shift, gate, still_scale, still_shift, still_gate, given, w, bias, noisy, velocity, step,
    rows, width, SKIP: tl.constexpr, DIM: tl.constexpr, ADIM: tl.constexpr, PARTS: tl.constexpr,
    MODULATED: tl.constexpr, EULER: tl.constexpr, BD: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Last residual and norm, the action projection in float32, and with EULER the step noisy += step * velocity."""
    _begin(PDL)
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
    _wait(PDL)
    where = row * width + d
    update = tl.load(partials + where, mask=inside, other=0.0)
    for part in tl.static_range(1, PARTS):
        update += tl.load(partials + part * rows * width + where, mask=inside, other=0.0)
    update = update.to(kind).to(tl.float32)
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


@triton.jit
def rotate_kernel(
    qkv, cosine, sine, queries, keys, values, HEADS: tl.constexpr, HALF: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """Split one row of qkv [P, (HEADS + 2) * head_dim] into rotated queries, rotated keys and values [P, head_dim]."""
    row = tl.program_id(0).to(tl.int64)
    dim: tl.constexpr = 2 * HALF
    head, h, d = tl.arange(0, BH), tl.arange(0, HALF), tl.arange(0, dim)
    cos, sin = tl.load(cosine + row * HALF + h)[None, :], tl.load(sine + row * HALF + h)[None, :]
    source = qkv + row * (HEADS + 2) * dim
    spot = head[:, None] * dim + h[None, :]
    turned = head[:, None] <= HEADS  # the queries and the key
    x1 = tl.load(source + spot, mask=turned, other=0.0).to(tl.float32)
    x2 = tl.load(source + spot + HALF, mask=turned, other=0.0).to(tl.float32)
    left, right = (x1 * cos - x2 * sin).to(queries.dtype.element_ty), (x2 * cos + x1 * sin).to(queries.dtype.element_ty)
    query = head[:, None] < HEADS
    tl.store(queries + row * HEADS * dim + spot, left, mask=query)
    tl.store(queries + row * HEADS * dim + spot + HALF, right, mask=query)
    key = head[:, None] == HEADS
    there = keys + row * dim + head[:, None] * 0 + h[None, :]
    tl.store(there, left, mask=key)
    tl.store(there + HALF, right, mask=key)
    tl.store(values + row * dim + d, tl.load(source + (HEADS + 1) * dim + d))


@triton.jit
def geglu_kernel(both, out, width, BLOCK: tl.constexpr):
    """out [rows, F] = gelu_tanh(gate) * up for both [rows, gate | up]."""
    row = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    kind = out.dtype.element_ty
    gate = tl.load(both + row * 2 * width + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(both + row * 2 * width + width + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + column, (_gelu_tanh(gate).to(kind).to(tl.float32) * up).to(kind), mask=inside)


@triton.jit
def layer_norm_kernel(
    x, update, weight, bias, out, width, ADDS: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """x += update (when ADDS); out = layer norm of x. One row per program."""
    d = tl.arange(0, BD)
    inside = d < width
    where = tl.program_id(0).to(tl.int64) * width + d
    kind = x.dtype.element_ty
    value = tl.load(x + where, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        value = (value + tl.load(update + where, mask=inside, other=0.0).to(tl.float32)).to(kind)
        tl.store(x + where, value, mask=inside)
        value = value.to(tl.float32)
    centred = tl.where(inside, value - tl.sum(value) / width, 0.0)
    normal = centred * tl.rsqrt(tl.sum(centred * centred) / width + 1e-6)
    scale = tl.load(weight + d, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + d, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + where, (normal * scale + shift).to(kind), mask=inside)


@triton.jit
def prefix_attend_kernel(
    queries, keys, values, length, out, rows, DIM: tl.constexpr, LIMIT: tl.constexpr, BM: tl.constexpr,
    BT: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Attention within the prefix: queries [R, head_dim], row = token * heads + head, over `length` <= LIMIT keys."""
    row, d = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, DIM)
    valid = row < rows
    kind = keys.dtype.element_ty
    known = tl.load(length).to(tl.int32)
    q = tl.load(queries + row[:, None] * DIM + d[None, :], mask=valid[:, None], other=0.0)
    factor = LOG2E / tl.sqrt(DIM * 1.0)
    most = tl.full([BM], -1e30, tl.float32)
    total = tl.zeros([BM], tl.float32)
    result = tl.zeros([BM, DIM], tl.float32)
    for start in tl.range(0, LIMIT, BT, num_stages=STAGES):
        t = start + tl.arange(0, BT)
        there = t < known
        k = tl.load(keys + t[:, None] * DIM + d[None, :], mask=there[:, None], other=0.0)
        logits = tl.where(there[None, :], tl.dot(q, k.T) * factor, -1e30)
        higher = tl.maximum(most, tl.max(logits, 1))  # the first block has keys: later ones weigh 0 if they have none
        weight = tl.exp2(logits - higher[:, None])
        shrink = tl.exp2(most - higher)
        total = total * shrink + tl.sum(weight, 1)
        v = tl.load(values + t[:, None] * DIM + d[None, :], mask=there[:, None], other=0.0)
        result = tl.dot(weight.to(kind), v, result * shrink[:, None])
        most = higher
    tl.store(out + row[:, None] * DIM + d[None, :], (result / total[:, None]).to(kind), mask=valid[:, None])
