"""Ranger: RAdam, lookahead and gradient centralisation in one optimizer."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from utils.memory import portions

PORTION = 2**22  # numbers that are updated together, which bounds the memory of temporary ones

# Missing from groups of the published checkpoints, which store them beside the groups
_OPTIONS = {"alpha": 0.5, "k": 6, "N_sma_threshhold": 5, "use_gc": True, "gc_conv_only": False}


class Ranger(Optimizer):
    """RAdam (arXiv 1908.03265) with lookahead (1907.08610) on centralised gradients (2004.01461).

    The update, the option names and the state (`step`, `exp_avg`, `exp_avg_sq`, `slow_buffer` for each parameter) are
    those of Less Wright's Ranger, so that published training checkpoints can be resumed.

    Args:
        lr: step size.
        alpha: how far the slow weights go towards the fast ones, every `k` steps.
        N_sma_threshhold: length of the moving average above which the step is divided by the gradient's deviation;
            below it, in the first steps, the step is momentum alone.
        betas: decay of the mean and of the mean square.
        eps: added to the deviation.
        weight_decay: decoupled, as in AdamW.
        use_gc: subtract from each gradient its mean over all dimensions but the first; gc_conv_only: for convolutions.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        alpha: float = 0.5,
        k: int = 6,
        N_sma_threshhold: int = 5,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        use_gc: bool = True,
        gc_conv_only: bool = False,
    ) -> None:
        if not (lr > 0 and eps > 0 and k >= 1 and 0 <= alpha <= 1 and all(0 <= beta < 1 for beta in betas)):
            raise ValueError(f"Ranger: lr {lr}, eps {eps}, k {k}, alpha {alpha} or betas {betas} is out of range")
        options = dict(
            lr=lr, alpha=alpha, k=k, N_sma_threshhold=N_sma_threshhold, betas=betas, eps=eps,
            weight_decay=weight_decay, use_gc=use_gc, gc_conv_only=gc_conv_only,
        )  # fmt: skip
        super().__init__(params, options)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in _OPTIONS.items():
                group.setdefault(name, value)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update; `closure`, if given, computes the loss again, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            same_step: dict[int, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    same_step[self._begin(parameter)].append(parameter)
            for number, parameters in same_step.items():
                for part in portions(parameters, PORTION):
                    self._update(part, number, group)
        return loss

    def _begin(self, parameter: Tensor) -> int:
        """Count the update of a parameter, from 1."""
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["slow_buffer"] = parameter.clone()
        state["step"] += 1
        return state["step"]

    def _update(self, parameters: list[Tensor], step: int, group: dict[str, Any]) -> None:
        """Update the parameters together, by few kernel launches."""
        means, squares, slow = (
            [self.state[parameter][name] for parameter in parameters]
            for name in ("exp_avg", "exp_avg_sq", "slow_buffer")
        )
        gradients = [_centralised(parameter.grad, group) for parameter in parameters if parameter.grad is not None]
        beta1, beta2 = group["betas"]
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)

        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["weight_decay"] * group["lr"])
        step_size = group["lr"] / (1 - beta1**step)
        rectification = _rectification(step, beta2, group["N_sma_threshhold"])
        if rectification is None:
            torch._foreach_add_(parameters, means, alpha=-step_size)
        else:
            deviations = torch._foreach_sqrt(squares)
            torch._foreach_add_(deviations, group["eps"])
            torch._foreach_addcdiv_(parameters, means, deviations, value=-step_size * rectification)

        if step % group["k"] == 0:
            torch._foreach_lerp_(slow, parameters, group["alpha"])
            torch._foreach_copy_(parameters, slow)


def _centralised(gradient: Tensor, group: dict[str, Any]) -> Tensor:
    if group["use_gc"] and gradient.dim() > (3 if group["gc_conv_only"] else 1):
        return gradient - gradient.mean(dim=tuple(range(1, gradient.dim())), keepdim=True)
    return gradient


def set_cosine_lr(optimizer: Optimizer, lr: float, step: int, steps: int) -> None:
    """Let the learning rate fall from `lr` to 0 along half a cosine, over `steps` steps."""
    for group in optimizer.param_groups:
        group["lr"] = lr * cosine_decay(step, steps)


def cosine_decay(step: int, steps: int) -> float:
    """1 at step 0, 0 at step `steps`, along half a cosine between."""
    return (1 + math.cos(math.pi * step / steps)) / 2


def _rectification(step: int, beta2: float, threshold: float) -> float | None:
    """RAdam's factor for the variance of the mean square, with its bias correction; None while that is unreliable."""
    decay = beta2**step
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * decay / (1 - decay)
    if length <= threshold:
        return None
    return math.sqrt((1 - decay) * (length - 4) / (longest - 4) * (length - 2) / length * longest / (longest - 2))
