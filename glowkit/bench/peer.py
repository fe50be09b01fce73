"""The Glow of normflows 1.7.3 (Stimper et al. 2023), built as its own Glow example builds it: what `bench` runs beside.

The package is optional: `pip install normflows==1.7.3`.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from glowkit.errors import GlowkitError
from glowkit.flow import Glow, GlowConfig

INSTALL = "pip install normflows==1.7.3"


class Peer(Glow):
    """normflows' Glow behind the methods of ours, so that one loop trains, encodes and measures both.

    Its example has a Gaussian for each class and dimension as prior of each level; faces have no classes, so here it
    is one for each dimension. Coupling nets bend with relu, whatever `activation` says, and run in float32.
    """

    def __init__(self, config: GlowConfig) -> None:
        try:
            import normflows as nf
        except ImportError:
            raise GlowkitError(f"normflows is not installed: {INSTALL}") from None
        nn.Module.__init__(self)  # and not Glow's, which would build our layers
        self.config, self.dim, self.levels = config, 3 * config.image_size**2, nn.ModuleList()
        warnings.filterwarnings("ignore", "torch.lu is deprecated")
        priors, levels = [], []
        for depth in reversed(range(config.levels)):  # normflows counts levels from the deepest
            channels, size = 6 * 2**depth, config.image_size // 2 ** (depth + 1)
            steps = [
                nf.flows.GlowBlock(2 * channels, config.width, scale=config.coupling == "affine")
                for _ in range(config.steps)
            ]
            levels.append([*steps, nf.flows.Squeeze()])
            aside = 2 * channels if depth == config.levels - 1 else channels
            priors.append(nf.distributions.DiagGaussian((aside, size, size)))
        merges = [nf.flows.Merge() for _ in levels[1:]]
        self.flow = nf.MultiscaleFlow(priors, levels, merges, class_cond=False)

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        parts, ladj = self.flow.inverse_and_log_det(v)
        eps = [(h - prior.loc) / prior.log_scale.exp() for h, prior in zip(parts, self.flow.q0, strict=True)]
        ladj = ladj - sum(prior.log_scale.sum() for prior in self.flow.q0)
        return torch.cat([part.flatten(1) for part in reversed(eps)], 1), ladj

    def inverse(self, z: Tensor) -> Tensor:
        sizes = [prior.d for prior in reversed(self.flow.q0)]
        eps = reversed(z.split(sizes, 1))
        parts = [
            prior.loc + prior.log_scale.exp() * part.reshape(-1, *prior.shape)
            for part, prior in zip(eps, self.flow.q0, strict=True)
        ]
        return self.flow.forward_and_log_det(parts)[0]

    @torch.no_grad()
    def initialise(self, x: Tensor, noise: torch.Generator | None = None) -> None:
        """Its actnorms set themselves on the first batch that they see."""
        self(self.dequantise(x, noise))
