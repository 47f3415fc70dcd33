"""The randomness contract: one matrix of CPU uniforms for a call, mapped to named parameters that replay it.

A call draws (B, 1 + K) uniforms on the CPU. Column 0 is the gate, which selects a row with probability p;
`parameters_from` maps the other K to parameters named in `names`, each (B, ...). So a seed gives the same
parameters on every device, those of row i do not depend on the other rows, and they replay a call bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ._source import Seeded

Params = dict[str, Tensor]


def not_empty(name: str, shape: Sequence[int]) -> None:
    """Raise ValueError where images of `shape`, (B, C, H, W) or without leading axes, hold nothing; B may be 0."""
    if 0 in shape[-3:]:
        raise ValueError(f"{name} must have channels and pixels, got shape {tuple(shape)}")


class Draws(Seeded):
    """What is drawn for a batch of images, and its replay. Subclasses define `names` and two small methods.

    Attributes:
        names: the parameters besides the gate; each has shape (B, ...).
        p: probability that a row is selected.
        same_on_batch: one draw for all rows.
    """

    names: tuple[str, ...] = ()
    p: float = 1.0
    same_on_batch: bool = False

    def draws(self) -> int:
        """K, the number of uniforms a sample needs besides the gate."""
        raise NotImplementedError

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms `u` (B, K) in [0, 1) to named parameters for images of size (H, W). Draws nothing."""
        raise NotImplementedError

    def fields_from(self, params: Params, size: tuple[int, int], device: torch.device) -> Params:
        """Build pixel-sized parameters on `device` from the small ones and the gate; none by default."""
        return {}

    def forward_parameters(self, batch_shape: Sequence[int]) -> Params:
        """Draw the parameters of one call.

        Args:
            batch_shape: shape of the images, (B, C, H, W); a missing batch or channel axis counts as 1.

        Returns:
            The parameters named in `names`, each (B, ...), the gate `batch_prob` (B,) of zeros and ones, and
            `forward_input_shape` (4,), all on the CPU. A call makes pixel-sized ones on its images' device;
            their values are the same.
        """
        return self._drawn(batch_shape, torch.device("cpu"))

    def _drawn(self, batch_shape: Sequence[int], device: torch.device) -> Params:
        if not 2 <= len(batch_shape) <= 4:
            raise ValueError(f"batch_shape must be (B, C, H, W), got {tuple(batch_shape)}")
        not_empty("batch_shape", batch_shape)
        shape = (1,) * (4 - len(batch_shape)) + tuple(batch_shape)
        rows = 1 if self.same_on_batch else shape[0]
        # Not `generator=None`: that overload of torch.rand takes no symbolic size and breaks compiled graphs.
        columns = 1 + self.draws()
        generator = self.source()
        if generator is None:
            u = torch.rand(rows, columns, dtype=torch.float32, device="cpu")
        else:
            u = torch.rand(rows, columns, dtype=torch.float32, device="cpu", generator=generator)
        if self.same_on_batch:
            u = u.expand(shape[0], -1)
        params = self.gated(u, (shape[2], shape[3]))
        params.update(self.fields_from(params, (shape[2], shape[3]), device))
        params["forward_input_shape"] = torch.tensor(shape, dtype=torch.long, device="cpu")
        return params

    def gated(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map all uniforms (B, 1 + K) to the parameters and the gate."""
        return {
            **self.parameters_from(u[:, 1:], size),
            "batch_prob": (u[:, 0] < self.p).to(torch.float32),
        }

    def _replayed(self, params: Mapping[str, Tensor], x: Tensor) -> Params:
        copy = dict(params)
        missing = [name for name in self.names if name not in copy]
        if missing:
            raise ValueError(f"params must hold {', '.join(self.names)}; missing: {', '.join(missing)}")
        if "batch_prob" not in copy:
            copy["batch_prob"] = torch.ones(x.shape[0], dtype=torch.float32, device="cpu")
        if "forward_input_shape" not in copy:
            copy["forward_input_shape"] = torch.tensor(x.shape, dtype=torch.long, device="cpu")
        for name in ("batch_prob", *self.names):
            if not isinstance(copy[name], Tensor) or copy[name].ndim == 0 or copy[name].shape[0] != x.shape[0]:
                got = tuple(copy[name].shape) if isinstance(copy[name], Tensor) else type(copy[name]).__name__
                raise ValueError(f"params[{name!r}] must have one row for each of {x.shape[0]} images, got {got}")
        return copy
