"""Speckle: more of it, as interference makes it, or less, as a scanner's filters do."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._checks import choice
from ..._compat import moved
from .._base import Intensity
from .._draws import Params
from .._fields import SEED_DRAWS, seed_from
from .._ranges import interval, spread
from ._levels import NEPER, apply_gain, dynamic_range
from ._speckle import MEAN_LOG_DB, reduce_speckle, speckle_intensity

_MODES = ("add", "reduce", "both")


class Speckle(Intensity):
    """Multiply the echo's amplitude by speckle, or smooth the speckle that is there.

    Added speckle is A^s for a Rayleigh amplitude A correlated over a point-spread function, and so s * 20 log10 A in
    the gray levels, made to have a mean of 0 there, with a standard deviation of 5.57 s decibels. An image has speckle
    already, so s stays below 1. `functional.speckle_intensity` is the field, the same for all channels.
    `functional.reduce_speckle` is the smoothing.

    Args:
        strength: (least, greatest) s, in [0, 1], drawn uniformly: of added speckle the power to which it is raised, of
            reduced speckle the share of Lee's filter.
        mode: "add", "reduce", or "both": either, with equal chances.
        axial_px: (least, greatest) standard deviation of the point-spread function along H, in pixels, drawn
            uniformly. It is the same all over, and its axes are the image's, in a sector too.
        lateral_px: the same along W.
        dynamic_range_db: decibels from the image's least value to its greatest, in (0, 200]. Reduction needs none.
        p: probability that an image is changed.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        strength: (B,) in [-1, 1]; positive adds, negative reduces, and what `mode` does not allow changes nothing.
        axial_px, lateral_px: (B,).
        seed: (B, 2) int32, of the field.

    Raises:
        ValueError: a setting out of range.

    Reference:
        Wagner et al., "Statistics of speckle in ultrasound B-scans", IEEE Trans. Sonics and Ultrasonics 30, 1983; Lee,
        "Digital image enhancement and noise filtering by use of local statistics", IEEE TPAMI 2, 1980. Reduction as an
        augmentation: Østvik et al., "Myocardial function imaging in echocardiography using deep learning", IEEE TMI
        40, 2021 (there a bilateral filter). The power s is a choice made here.

    Example:
        >>> import torch
        >>> x = torch.tensor([0.0, 30.0, 60.0]).repeat(1, 1, 256, 86)[..., :256]  # in decibels
        >>> added = Speckle(strength=(0.5, 0.5), mode="add")(x)[..., 1::3] - 30
        >>> abs(float(added.std()) - 0.5 * 5.57) < 0.15
        True
    """

    names: tuple[str, ...] = ("strength", "axial_px", "lateral_px", "seed")

    def __init__(
        self,
        *,
        strength: tuple[float, float] = (0.1, 0.4),
        mode: str = "both",
        axial_px: tuple[float, float] = (0.6, 1.2),
        lateral_px: tuple[float, float] = (0.8, 2.0),
        dynamic_range_db: float = 60.0,
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.strength: tuple[float, float] = interval("strength", strength, high=1)
        self.mode: str = choice("mode", mode, _MODES)
        self.axial_px: tuple[float, float] = interval("axial_px", axial_px)
        self.lateral_px: tuple[float, float] = interval("lateral_px", lateral_px)
        self.dynamic_range_db: float = dynamic_range(dynamic_range_db)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return (
            f"strength={self.strength}, mode={self.mode!r}, axial_px={self.axial_px}, "
            f"lateral_px={self.lateral_px}, dynamic_range_db={self.dynamic_range_db:g}, {super().extra_repr()}"
        )

    def draws(self) -> int:
        """Direction, strength, two widths and a seed."""
        return 4 + SEED_DRAWS

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 6) to strengths, widths and seeds."""
        strength = spread(u[:, 1], self.strength)
        adds = {"add": 1.0, "reduce": 0.0, "both": 0.5}[self.mode]
        return {
            "strength": torch.where(u[:, 0] < adds, strength, -strength),
            "axial_px": spread(u[:, 2], self.axial_px),
            "lateral_px": spread(u[:, 3], self.lateral_px),
            "seed": seed_from(u[:, 4:]),
        }

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Add to every row or reduce it."""
        if self.mode == "add":
            return self._added(x, params)
        if self.mode == "reduce":
            return self._reduced(x, params)
        adds = params["strength"] > 0
        if torch.compiler.is_compiling():  # a row count that depends on data would break the graph
            return torch.where(adds.to(x.device).view(-1, 1, 1, 1), self._added(x, params), self._reduced(x, params))
        order, count = (~adds).to(torch.uint8).argsort(stable=True), int(adds.sum())
        sorted_params = {name: params[name].index_select(0, moved(order, params[name].device)) for name in self.names}
        rows = moved(order, x.device)
        images = x.index_select(0, rows)
        done = [
            change(images[part], {name: value[part] for name, value in sorted_params.items()})
            for change, part in ((self._added, slice(count)), (self._reduced, slice(count, None)))
        ]
        return torch.cat(done).index_select(0, rows.argsort())

    def _added(self, x: Tensor, params: Params) -> Tensor:
        strength, axial, lateral, seed = (moved(params[name], x.device) for name in self.names)
        level_db = speckle_intensity(seed, axial, lateral, (x.shape[2], x.shape[3])).log_()
        level_db = level_db.div_(NEPER).sub_(MEAN_LOG_DB).mul_(strength.clamp(min=0).view(-1, 1, 1, 1))
        return apply_gain(x, level_db, dynamic_range_db=self.dynamic_range_db)

    def _reduced(self, x: Tensor, params: Params) -> Tensor:
        return reduce_speckle(x, moved((-params["strength"]).clamp(min=0).to(x.dtype), x.device))
