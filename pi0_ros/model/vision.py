"""The SigLIP vision tower: images to tokens, without pooling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.model.config import Vision
from pi0_ros.model.layers import attend, recomputed

NORM_EPS = 1e-6


class VisionAttention(nn.Module):
    """Full multi-head attention with biases."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each image: [N, T, D] to [N, T, D]."""
        queries, keys, values = (
            project(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = attend(queries, keys, values, None)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class VisionMLP(nn.Module):
    """Two linear layers with the tanh approximation of GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., width]."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class VisionLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, sizes: Vision) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(sizes.width, eps=NORM_EPS)
        self.self_attn = VisionAttention(sizes.width, sizes.num_heads)
        self.layer_norm2 = nn.LayerNorm(sizes.width, eps=NORM_EPS)
        self.mlp = VisionMLP(sizes.width, sizes.mlp_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, T, D] to [N, T, D]."""
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class VisionTower(nn.Module):
    """Patches, learned positions, transformer layers and a final norm."""

    def __init__(self, sizes: Vision) -> None:
        super().__init__()
        self.sizes = sizes
        patch = sizes.patch_size
        self.patch_embedding = nn.Conv2d(3, sizes.width, kernel_size=patch, stride=patch)
        self.position_embedding = nn.Embedding(sizes.num_positions, sizes.width)
        self.layers = nn.ModuleList(VisionLayer(sizes) for _ in range(sizes.depth))
        self.post_layernorm = nn.LayerNorm(sizes.width, eps=NORM_EPS)
        self.recomputed_layers = 0  # in training, so many layers keep no activations and make them again

    def embed_patches(self, images: Tensor) -> Tensor:
        """Return patch plus position embeddings [N, T, D] in float32 for `images` [N, S, S, 3] in [-1, 1].

        A convolution whose stride is its kernel is one matrix product over the patches.
        """
        size, patch = self.sizes.image_size, self.sizes.patch_size
        grid = size // patch
        patches = images.reshape(-1, grid, patch, grid, patch, 3).transpose(2, 3).reshape(-1, grid**2, patch**2 * 3)
        kernel = self.patch_embedding.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(patches, kernel, self.patch_embedding.bias) + self.position_embedding.weight

    def forward(self, images: Tensor) -> Tensor:
        """Map `images` [N, S, S, 3] in [-1, 1] to tokens [N, T, D] in the dtype of the layers."""
        x = self.embed_patches(images.float()).to(self.post_layernorm.weight.dtype)
        for index, layer in enumerate(self.layers):
            x = recomputed(layer, index < self.recomputed_layers, x)
        return self.post_layernorm(x)


def sine_positions(grid: int, width: int, temperature: float = 10000.0) -> Tensor:
    """Return fixed 2-D sine and cosine positions [grid * grid, width], rows first, as ViT baselines use them."""
    if width % 4:
        raise ValueError(f"2-D sine positions need a width that is a multiple of 4, not {width}")
    frequencies = temperature ** -torch.linspace(0, 1, width // 4)
    y, x = (
        axis.flatten()[:, None] * frequencies
        for axis in torch.meshgrid(torch.arange(grid).float(), torch.arange(grid).float(), indexing="ij")
    )
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)
