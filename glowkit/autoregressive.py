"""A flow without convolutions: causal transformers over the patches of an image, after TarFlow (Zhai et al. 2024).

Patches of pixels are tokens, in the order of reading. In a block, a causal transformer looks at the tokens before each
one and says how that one is shifted and scaled: z_i = (x_i - t_i) exp(-log s_i), t_i and log s_i functions of
x_1 ... x_(i-1), so that the Jacobian is triangular. The next block reads the other way round. Where a Glow sees
neighbours, attention sees all that came before, near or far.

A log s is bounded, and so is t, as the last layer's input is normalised (TarFlow's is not): what an edit makes of one
token cannot grow from token to token. TarFlow's Gaussian noise, denoising and guidance are for samples to look at, and
are left out: training is that of a Glow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glowkit import fields
from glowkit.errors import GlowkitError
from glowkit.flow import MOST_PARAMETERS
from glowkit.image_flow import BIN_CENTRES, ImageFlow
from glowkit.layers import ActNorm, bounded

CONFIG = {
    "image_size": fields.Whole(8, 256),
    "bits": fields.Whole(1, 8),
    "patch": fields.Whole(1, 64),
    "blocks": fields.Whole(1, 64),
    "layers": fields.Whole(1, 64),
    "heads": fields.Whole(1, 64),
    "width": fields.Whole(1, 4096),
}
BOUND = 2.0  # of a block's log s: two blocks reach from the range of all pixels to one grey level
INNER = 4  # hidden units of a transformer's layer, in its width


@dataclass(frozen=True)
class AutoregressiveConfig:
    """The shape of an autoregressive flow: `blocks` causal transformers over patches of `patch` x `patch` pixels.

    Each has `layers` layers, `width` wide, with `heads` heads of attention. `bits` as in a `GlowConfig`. Raises
    GlowkitError for a shape that cannot be.
    """

    image_size: int = 32
    bits: int = 5
    patch: int = 4
    blocks: int = 4
    layers: int = 2
    heads: int = 4
    width: int = 80

    levels = 1  # all of z is one
    kinds: ClassVar[Mapping[str, fields.Kind]] = CONFIG

    def __post_init__(self) -> None:
        fields.check(vars(self), self.kinds, "model.")
        if self.image_size % self.patch:
            raise GlowkitError(f"model.patch = {self.patch}: it must divide image_size = {self.image_size}")
        if self.width % self.heads:
            raise GlowkitError(f"model.heads = {self.heads}: it must divide width = {self.width}")
        if self.parameters > MOST_PARAMETERS:
            raise GlowkitError(
                f"model.blocks = {self.blocks}, layers = {self.layers}, width = {self.width}: {self.parameters:,} "
                f"parameters; there may be {MOST_PARAMETERS:,}"
            )

    @property
    def tokens(self) -> int:
        """T, how many patches an image has."""
        return (self.image_size // self.patch) ** 2

    @property
    def token_size(self) -> int:
        """P, the numbers of a patch."""
        return 3 * self.patch**2

    @property
    def parameters(self) -> int:
        """How many numbers such a flow learns."""
        w, norm = self.width, 2 * self.width
        layer = 2 * norm + 4 * (w + 1) * w + (2 * INNER * w + INNER + 1) * w
        ends = (self.token_size + 1 + self.tokens) * w + norm + 2 * (w + 1) * self.token_size
        return 2 * 3 + self.blocks * (self.layers * layer + ends)

    def as_dict(self) -> dict:
        return asdict(self)


class Layer(nn.Module):
    """A layer of a transformer: what causal attention finds, then two fully connected layers, each added to h."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.net = nn.Sequential(nn.Linear(width, INNER * width), nn.GELU(), nn.Linear(INNER * width, width))

    def forward(self, h: Tensor, past: list[Tensor] | None = None) -> Tensor:
        """h (B, T, width) -> the same shape, of all tokens; or of one, T = 1, and then `past` has the keys and values
        of those before, and gets its own.
        """
        query, *seen = self.qkv(self.norm1(h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if past is not None:
            # In place of what was there: the next token's past.
            seen = past[:] = [torch.cat(pair, 2) for pair in zip(past, seen, strict=True)] if past else seen
        found = F.scaled_dot_product_attention(query, *seen, is_causal=past is None)
        h = h + self.out(found.transpose(1, 2).flatten(2))
        return h + self.net(self.norm2(h))


class Block(nn.Module):
    """Tokens x (B, T, P) -> z (B, T, P), each shifted and scaled by what a transformer makes of those before it.

    `backwards`: the last token is the first, and the first the last.
    """

    def __init__(self, config: AutoregressiveConfig, backwards: bool) -> None:
        super().__init__()
        self.backwards = backwards
        self.embed = nn.Linear(config.token_size, config.width)
        self.positions = nn.Parameter(0.02 * torch.randn(config.tokens, config.width))
        self.layers = nn.ModuleList(Layer(config.width, config.heads) for _ in range(config.layers))
        self.norm, self.last = nn.LayerNorm(config.width), nn.Linear(config.width, 2 * config.token_size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, P) -> z (B, T, P), ladj (B,)."""
        x = self._turned(x)
        # Before the first token there is nothing: its position alone says what is done to it.
        h = F.pad(self.embed(x[:, :-1]), (0, 0, 1, 0)) + self.positions
        for layer in self.layers:
            h = layer(h)
        log_s, t = self._log_s_t(h)
        return self._turned((x - t) * (-log_s).exp()), -log_s.sum((1, 2))

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, T, P) -> x (B, T, P): one token after the other, with keys and values of those before it kept."""
        pasts: list[list[Tensor]] = [[] for _ in self.layers]
        before, tokens = 0.0, []
        for position, own in zip(self.positions, self._turned(z).split(1, 1), strict=True):
            h = (before + position).expand(len(z), 1, -1)
            for layer, past in zip(self.layers, pasts, strict=True):
                h = layer(h, past)
            log_s, t = self._log_s_t(h)
            tokens.append(own * log_s.exp() + t)
            before = self.embed(tokens[-1])
        return self._turned(torch.cat(tokens, 1))

    def _log_s_t(self, h: Tensor) -> tuple[Tensor, Tensor]:
        log_s, t = self.last(self.norm(h)).chunk(2, 2)
        return bounded(log_s, BOUND), t

    def _turned(self, x: Tensor) -> Tensor:
        return x.flip(1) if self.backwards else x


class Autoregressive(ImageFlow):
    """An actnorm of the colours, then `Block` after `Block`, the second backwards, the third forwards, and so on.

    All of z is one level, of an image's shape: each number of z (B, D) is where the one of its pixel was.

    >>> model = Autoregressive(AutoregressiveConfig(image_size=8, blocks=2, width=16))
    >>> x = torch.rand(4, 3, 8, 8)
    >>> torch.allclose(model.decode(model.encode(x)), model.quantise(x), atol=1e-5)
    True
    """

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__(config.image_size, config.bits)
        self.config = config
        self.norm = ActNorm(3)
        self.blocks = nn.ModuleList(Block(config, backwards=bool(k % 2)) for k in range(config.blocks))

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """v (B, 3, H, W) -> z (B, D), ladj (B,)."""
        h, ladj = self.norm(v)
        h = self._tokens(h)
        for block in self.blocks:
            h, block_ladj = block(h)
            ladj = ladj + block_ladj
        return self._image(h).flatten(1), ladj

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, D) -> v (B, 3, H, W): no clamping."""
        h = self._tokens(z.unflatten(1, self.level_shapes[0]))
        for block in reversed(self.blocks):
            h = block.inverse(h)
        return self.norm.inverse(self._image(h))

    @torch.no_grad()
    def initialise(self, x: Tensor, noise: torch.Generator | None = BIN_CENTRES) -> None:
        """Data-dependent initialisation of the actnorm on one batch of images: once, before training."""
        self.norm.initialise(self.dequantise(x, noise))

    def _tokens(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, T, P)"""
        return F.pixel_unshuffle(x, self.config.patch).flatten(2).transpose(1, 2)

    def _image(self, h: Tensor) -> Tensor:
        """The inverse of `_tokens`."""
        side = self.image_size // self.config.patch
        return F.pixel_shuffle(h.transpose(1, 2).unflatten(2, (side, side)), self.config.patch)
