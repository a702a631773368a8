"""Ranger against the published optimizer's numbers, and its state."""

import copy
import io

import pytest
import torch
from conftest import normal

from training.optimizers import Ranger


def parameters():
    return [torch.nn.Parameter(normal(43, (4, 3, 3, 3))), torch.nn.Parameter(normal(44, (5,)))]


def advance(optimizer, conv, bias, steps):
    for i in steps:
        conv.grad, bias.grad = normal(100 + 2 * i, (4, 3, 3, 3)), normal(101 + 2 * i, (5,))
        optimizer.step()


def test_golden(golden):
    conv, bias = parameters()
    optimizer = Ranger([conv, bias], lr=0.01)
    advance(optimizer, conv, bias, range(6))
    golden("ranger/conv_after_6", conv)
    golden("ranger/bias_after_6", bias)
    advance(optimizer, conv, bias, range(6, 14))
    golden("ranger/conv_after_14", conv)
    golden("ranger/bias_after_14", bias)


def test_a_resumed_run_equals_an_unbroken_one():
    conv, bias = parameters()
    optimizer = Ranger([conv, bias], lr=0.01)
    advance(optimizer, conv, bias, range(8))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert {name for row in state["state"].values() for name in row} == {"step", "exp_avg", "exp_avg_sq", "slow_buffer"}
    twins = [torch.nn.Parameter(p.detach().clone()) for p in (conv, bias)]
    resumed = Ranger(twins, lr=0.5)
    resumed.load_state_dict(state)
    advance(optimizer, conv, bias, range(8, 14))
    advance(resumed, *twins, range(8, 14))
    assert torch.equal(conv, twins[0])
    assert torch.equal(bias, twins[1])


def test_state_of_a_published_checkpoint():
    """Its groups have `step_counter`, and no word of gradient centralisation."""
    conv, bias = parameters()
    optimizer = Ranger([conv, bias], lr=0.01)
    advance(optimizer, conv, bias, range(2))
    state = copy.deepcopy(optimizer.state_dict())
    for name in ("use_gc", "gc_conv_only"):
        del state["param_groups"][0][name]
    state["param_groups"][0]["step_counter"] = 0
    twins = [torch.nn.Parameter(p.detach().clone()) for p in (conv, bias)]
    resumed = Ranger(twins)
    resumed.load_state_dict(state)
    advance(optimizer, conv, bias, range(2, 9))
    advance(resumed, *twins, range(2, 9))
    assert torch.equal(conv, twins[0])


def test_options():
    conv, bias = parameters()
    still = torch.nn.Parameter(torch.ones(2))
    start = conv.detach().clone()
    optimizer = Ranger([conv, bias, still], lr=0.01, weight_decay=0.1, use_gc=False)
    grad = torch.ones_like(conv)
    conv.grad, bias.grad = grad.clone(), torch.zeros_like(bias)
    assert optimizer.step(lambda: 5) == 5
    assert torch.equal(conv.grad, grad)  # the caller's gradient is not changed
    assert torch.allclose(conv, start * (1 - 0.001) - 0.01, atol=1e-6)  # first step: momentum alone, bias-corrected
    assert torch.allclose(bias, normal(44, (5,)) * (1 - 0.001))
    assert torch.equal(still, torch.ones(2))
    centred = torch.nn.Parameter(start.clone())
    centred.grad = grad
    Ranger([centred], lr=0.01).step()
    assert torch.allclose(centred, start)  # a constant gradient has nothing left once it is centralised
    matrix = torch.nn.Parameter(torch.zeros(2, 3))
    matrix.grad = torch.ones(2, 3)
    Ranger([matrix], lr=0.01, gc_conv_only=True).step()
    assert torch.allclose(matrix, torch.full((2, 3), -0.01))
    with pytest.raises(ValueError, match="lr"):
        Ranger([conv], lr=-1)


def test_minimises():
    x = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = Ranger([x], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        (x**2).sum().backward()
        optimizer.step()
    assert x.abs().max() < 0.05
