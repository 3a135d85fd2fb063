"""Swin transformer v1 backbone (Liu et al., ICCV 2021) with the parameter names of the published files."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from serve_app.birefnet.configuration import SwinShape


class PatchEmbed(nn.Module):
    """4x4 patches to tokens: N 3 H W -> N H/4 W/4 C. Sizes that 4 does not divide are padded with zeros."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=4, stride=4)
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4))
        tokens: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return tokens


def relative_position_index(window: int) -> Tensor:
    """[window², window²] int64: row of the bias table for each pair of positions in a window."""
    row, col = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    row, col = row.flatten(), col.flatten()
    d_row = row[:, None] - row[None, :] + window - 1
    d_col = col[:, None] - col[None, :] + window - 1
    return d_row * (2 * window - 1) + d_col


def region_mask(window: int, shift: int, last_row: bool, last_col: bool, like: Tensor) -> Tensor:
    """[window², window²] additive mask of a shifted window: -inf between tokens that wrapped round and others.

    Only windows of the last row or column of the grid hold wrapped tokens, so four masks serve any size.
    """
    wrapped = torch.arange(window, device=like.device) >= window - shift
    zero = torch.zeros_like(wrapped)
    row = wrapped if last_row else zero
    col = wrapped if last_col else zero
    region = (row[:, None].int() * 2 + col[None, :].int()).flatten()
    mask = torch.zeros(len(region), len(region), dtype=like.dtype, device=like.device)
    return mask.masked_fill(region[:, None] != region[None, :], float("-inf"))


class WindowAttention(nn.Module):
    """Multi-head attention inside windows with a relative position bias.

    Input and output: N, rows, cols, window², C (a grid of windows). `shift` > 0: the grid was rolled by it.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = nn.Linear(width, width * 3)
        self.proj = nn.Linear(width, width)
        self.kept: Tensor | None
        self.register_buffer("kept", None, persistent=False)

    def biases(self, shift: int) -> Tensor:
        """Additive biases [kinds, heads, window², window²]. With a shift there are four kinds of windows: inner, last
        column, last row, corner. Windows of one kind share one bias, so bias + mask is never stored per window.
        """
        tokens = self.window**2
        index = self.get_buffer("relative_position_index").flatten()
        bias = self.relative_position_bias_table[index].view(tokens, tokens, self.heads).permute(2, 0, 1)
        if shift == 0:
            return bias[None]
        masks = [
            region_mask(self.window, shift, row, col, bias) for row in (False, True) for col in (False, True)
        ]
        return torch.stack([bias + mask for mask in masks])

    def keep_biases(self, shift: int) -> None:
        """Compute the biases once: for a network whose weights change no more."""
        self.kept = self.biases(shift).detach().contiguous()

    def forward(self, x: Tensor, shift: int) -> Tensor:
        rows, cols = x.shape[1:3]
        biases = self.biases(shift) if self.kept is None else self.kept
        qkv = self.qkv(x)
        if shift == 0:
            out = self._attend(qkv, biases[0])
        else:
            lines = []
            for row, band in enumerate((slice(0, rows - 1), slice(rows - 1, rows))):
                parts = (qkv[:, band, : cols - 1], qkv[:, band, cols - 1 :])
                line = [self._attend(p, biases[2 * row + col]) for col, p in enumerate(parts) if p.numel()]
                lines += [torch.cat(line, dim=2)] if line else []
            out = torch.cat(lines, dim=1)
        projected: Tensor = self.proj(out)
        return projected

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        n, rows, cols, tokens, width = qkv.shape
        q, k, v = qkv.reshape(-1, tokens, 3, self.heads, width // 3 // self.heads).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        return out.transpose(1, 2).reshape(n, rows, cols, tokens, width // 3)


class Mlp(nn.Module):
    """Two linear layers with exact (erf) GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP on a map N H W C."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = Mlp(width, width * 4)

    def forward(self, x: Tensor) -> Tensor:
        n, height, width, channels = x.shape
        w = self.window
        # Padding comes after the norm: padded tokens are zeros and take part in the attention unmasked.
        y = F.pad(self.norm1(x), (0, 0, 0, -width % w, 0, -height % w))
        if self.shift:
            y = y.roll((-self.shift, -self.shift), dims=(1, 2))
        rows, cols = y.shape[1] // w, y.shape[2] // w
        grid = y.view(n, rows, w, cols, w, channels).transpose(2, 3).reshape(n, rows, cols, w * w, channels)
        grid = self.attn(grid, self.shift)
        y = grid.view(n, rows, cols, w, w, channels).transpose(2, 3).reshape(n, rows * w, cols * w, channels)
        if self.shift:
            y = y.roll((self.shift, self.shift), dims=(1, 2))
        x = x + y[:, :height, :width]
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchMerging(nn.Module):
    """Four neighbours to one token of twice the width: N H W C -> N H/2 W/2 2C; odd sizes are padded."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(width * 4, width * 2, bias=False)
        self.norm = nn.LayerNorm(width * 4, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        parts = [x[:, row::2, col::2] for col in (0, 1) for row in (0, 1)]
        out: Tensor = self.reduction(self.norm(torch.cat(parts, dim=3)))
        return out


class SwinStage(nn.Module):
    """A run of blocks, every second one shifted, and the merging that follows (not after the last stage)."""

    def __init__(self, width: int, depth: int, heads: int, window: int, downsample: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(width, heads, window, 0 if i % 2 == 0 else window // 2) for i in range(depth)
        )
        self.downsample = PatchMerging(width) if downsample else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class SwinBackbone(nn.Module):
    """Four normalised maps N C H W at strides 4, 8, 16, 32 of an image N 3 H W."""

    def __init__(self, shape: SwinShape) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(shape.width)
        self.layers = nn.ModuleList(
            SwinStage(shape.width * 2**i, shape.depths[i], shape.heads[i], shape.window, i < 3)
            for i in range(4)
        )
        for i in range(4):
            self.add_module(f"norm{i}", nn.LayerNorm(shape.width * 2**i, eps=1e-5))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        x = self.patch_embed(pixel_values)
        maps = []
        for i, stage in enumerate(self.layers):
            x = stage(x)
            maps.append(self.get_submodule(f"norm{i}")(x).permute(0, 3, 1, 2).contiguous())
            downsample = stage.downsample
            if isinstance(downsample, PatchMerging):
                x = downsample(x)
        return tuple(maps)
