"""Batch statistics for a while: those of a pass in training mode, and the module's own afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sslmed.studies.modes import batch_statistics


def network() -> nn.Sequential:
    torch.manual_seed(0)
    parts = (
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 2, 3),
        nn.BatchNorm2d(2),
        nn.InstanceNorm2d(2),
    )
    return nn.Sequential(*parts, nn.BatchNorm2d(2, track_running_stats=False))


def test_they_are_those_of_a_pass_in_training_mode() -> None:
    module = network()
    module[1].eval()  # on purpose, as a frozen layer
    modes = [part.training for part in module.modules()]
    own = copy.deepcopy(module.state_dict())
    batches = torch.randn(3, 4, 1, 12, 12) * 2 + 1
    reference = copy.deepcopy(module).train()
    for part in reference:
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the mean over the batches
            part.reset_running_stats()
    with torch.no_grad():
        for batch in batches:
            reference(batch)
    with batch_statistics(module, module, batches):
        for k in (1, 4):
            torch.testing.assert_close(module[k].running_mean, reference[k].running_mean)
            torch.testing.assert_close(module[k].running_var, reference[k].running_var)
        with torch.no_grad():
            torch.testing.assert_close(module.eval()(batches[0]), reference.eval()(batches[0]))
        module.train()
        module[1].eval()
    assert [part.training for part in module.modules()] == modes
    for name, value in module.state_dict().items():
        assert torch.equal(value, own[name]), name
    assert not any(part._forward_pre_hooks for part in module.modules())


def test_its_own_come_back_after_an_error() -> None:
    module = network()
    own = copy.deepcopy(module.state_dict())
    with (
        pytest.raises(RuntimeError),
        batch_statistics(module, module, [torch.rand(2, 1, 8, 8), torch.rand(2, 5, 8, 8)]),
    ):
        pass
    assert all(torch.equal(value, own[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_pre_hooks for part in module.modules())


def test_a_module_without_batch_normalisation_sees_no_batch() -> None:
    with batch_statistics(nn.Conv2d(1, 1, 3), lambda _: pytest.fail("was run"), [torch.rand(2, 1, 8, 8)]):
        pass
