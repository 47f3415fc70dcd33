"""How metrics are collected over batches and processes: per-case values, or the predictions of the whole set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .. import _checks
from ..distributed import gather_results
from ._masks import comparable

Metric: TypeAlias = Callable[..., Tensor]


class Collected(nn.Module):
    """Rows, one for each case, of all batches since the last `reset`.

    They are no buffers: DistributedDataParallel, which copies buffers from rank 0, leaves each process its own.
    """

    names: tuple[str, ...]

    def __init__(self, metric: Metric, **settings: Any) -> None:
        super().__init__()
        if not callable(metric):
            raise TypeError(f"metric must be a function of pred and target, got {metric!r}")
        self.metric: Metric = metric
        self.settings: dict[str, Any] = settings
        self._persistent = False
        self.reset()

    def reset(self) -> None:
        """Forget all cases, as at the end of an epoch."""
        self._rows: dict[str, list[Tensor]] = {name: [] for name in self.names}

    def compute(self) -> Tensor:
        """The metric of all cases that all processes were given; every process must call it.

        Raises:
            ValueError: no process was given a case, or as the metric raises.
        """
        return self._value(*self._gathered())

    def persistent(self, mode: bool = True) -> None:
        """Set whether `state_dict` holds the cases; at first it does not, so checkpoints of a network stay as they are.

        Under DDP the state holds the cases of its own process: save and load one for each process.
        """
        self._persistent = mode

    def extra_repr(self) -> str:
        """The settings."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())

    def _value(self, *rows: Tensor) -> Tensor:
        raise NotImplementedError

    def _keep(self, *rows: Tensor) -> None:
        for (name, kept), new in zip(self._rows.items(), rows, strict=True):
            if kept and kept[0].shape[1:] != new.shape[1:]:
                expected = ", ".join(["N", *map(str, kept[0].shape[1:])])
                raise ValueError(
                    f"{name} must have shape ({expected}) as in the batches before, got {tuple(new.shape)}"
                )
        for kept, new in zip(self._rows.values(), rows, strict=True):
            kept.append(new)

    def _gathered(self) -> list[Tensor]:
        rows = [gather_results(_joined(kept)) for kept in self._rows.values()]
        if not len(rows[0]):
            raise ValueError(
                f"{type(self).__name__}.compute() needs at least one case, got none; call update(pred, target) first"
            )
        return rows

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Collected:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # `half()` and `to(dtype)` are meant for weights: of what they do, only the device is followed.
        for kept in self._rows.values():
            kept[:] = [rows.to(fn(rows).device) for rows in kept]
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._persistent:
            for name, kept in self._rows.items():
                rows = _joined(kept)
                destination[prefix + name] = torch.empty(0) if rows is None else rows

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, strict: bool, missing: Any, *lists: Any
    ) -> None:
        lost = [prefix + name for name in self.names if prefix + name not in state_dict]
        if not lost:
            self.reset()
            rows = [state_dict.pop(prefix + name).detach().clone() for name in self.names]
            if len(rows[0]):
                self._keep(*rows)
        elif self._persistent:
            missing.extend(lost)
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *lists)


class PerCase(Collected):
    """A metric of each case, such as `dice`; `compute` gives the mean over cases.

    Cases whose value is nan, as `empty="nan"` makes them, are left out of the mean, as in `summarize`; an infinite one
    makes it infinite.

    Args:
        metric: a function of pred and target that returns (B, ...), a row for each case.
        **settings: passed to the metric.

    Example:
        >>> from functools import partial
        >>> from sslmed.metrics import dice, per_class
        >>> metric = PerCase(partial(per_class, dice), classes=3)  # of label maps
        >>> pred, target = torch.tensor([[[0, 0, 1, 2]]]), torch.tensor([[[0, 1, 1, 2]]])
        >>> metric.update(pred, target)
        >>> metric.update(target, target)
        >>> metric.compute()
        tensor([0.8333, 0.8333, 1.0000])
    """

    names: tuple[str, ...] = ("values",)

    def update(self, pred: Tensor, target: Tensor, **settings: Any) -> None:
        """Add the cases of a batch.

        Args:
            pred: (B, ...) as the metric takes them.
            target: the reference.
            **settings: what differs between batches, as `spacing_mm`.
        """
        self._keep(self._score(pred, target, settings))

    def forward(self, pred: Tensor, target: Tensor, **settings: Any) -> Tensor:
        """Add the cases of a batch, and return the metric of this batch alone."""
        values = self._score(pred, target, settings)
        self._keep(values)
        return self._value(values)

    def values(self) -> Tensor:
        """(N, ...) the values of all cases, as for `summarize`; every process must call it.

        They are in the order of the updates, those of rank 0 first.

        Raises:
            ValueError: no process was given a case.
        """
        return self._gathered()[0]

    def _score(self, pred: Tensor, target: Tensor, settings: dict[str, Any]) -> Tensor:
        values = self.metric(pred, target, **{**self.settings, **settings}).detach()
        if values.shape[:1] != target.shape[:1]:
            raise ValueError(
                f"metric must return a row for each of {len(target)} cases, got shape {tuple(values.shape)};"
                " for metrics of a whole set there is WholeSet"
            )
        return values

    def _value(self, *rows: Tensor) -> Tensor:
        (values,) = rows
        mean = values.double().nanmean(0)
        return mean.to(values.dtype) if values.is_floating_point() else mean


class WholeSet(Collected):
    """A metric of all cases together, such as `mcc`: not a mean over batches, which is another number.

    Args:
        metric: a function of pred (N, ...) and target (N, ...).
        **settings: passed to the metric.

    Example:
        >>> from sslmed.metrics import mcc
        >>> metric = WholeSet(mcc, classes=3)
        >>> metric.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
        >>> metric.update(torch.tensor([1, 2]), torch.tensor([2, 2]))
        >>> metric.compute()
        tensor(0.7000, dtype=torch.float64)
    """

    names: tuple[str, ...] = ("pred", "target")

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Add the cases of a batch.

        Args:
            pred: (B,) or (B, ...) as the metric takes them.
            target: (B,) or (B, ...), the reference.
        """
        self._check(pred, target)
        # Copies: a column would keep its whole batch in memory, and later changes in place would be counted.
        self._keep(*(comparable(x.detach()).clone() for x in (pred, target)))

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Add the cases of a batch, and return the metric of this batch alone.

        Of some batches a metric is not defined, as `roc_auc` where a class is missing, and raises: use `update`.
        """
        value = self._value(pred.detach(), target)  # first: where the metric raises, no case is added
        self.update(pred, target)
        return value

    def _check(self, pred: Tensor, target: Tensor) -> None:
        for name, x in (("pred", pred), ("target", target)):
            _checks.shaped(name, x, "(N, ...)", ndim=tuple(range(1, 9)))
        if len(pred) != len(target):
            raise ValueError(f"pred must have one row for each of {len(target)} cases, got {tuple(pred.shape)}")
        _checks.same_device(pred=pred, target=target)

    def _value(self, *rows: Tensor) -> Tensor:
        pred, target = rows
        return self.metric(pred, target, **self.settings)


def _joined(kept: list[Tensor]) -> Tensor | None:
    return torch.cat([rows.to(kept[-1].device) for rows in kept]) if kept else None
