"""Ranger: RAdam, lookahead and gradient centralisation in one optimizer."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# What groups of the published checkpoints lack, since they kept it beside the groups
_OPTIONS = {"alpha": 0.5, "k": 6, "N_sma_threshhold": 5, "use_gc": True, "gc_conv_only": False}


class Ranger(Optimizer):
    """RAdam (arXiv 1908.03265) with lookahead (1907.08610) on centralised gradients (2004.01461).

    The update, the option names and the state (`step`, `exp_avg`, `exp_avg_sq`, `slow_buffer` for each parameter) are
    those of Less Wright's Ranger, so that published training checkpoints can be resumed.

    Args:
        lr: step size.
        alpha: how far the slow weights go towards the fast ones, every `k` steps.
        N_sma_threshhold: length of the moving average above which the step is divided by the gradient's deviation;
            below it, in the first steps, it is momentum alone.
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
        """One update; `closure`, if given, computes the loss anew, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["slow_buffer"] = parameter.clone()
        state["step"] += 1

        if group["use_gc"] and grad.dim() > (3 if group["gc_conv_only"] else 1):
            grad = grad - grad.mean(dim=tuple(range(1, grad.dim())), keepdim=True)
        beta1, beta2 = group["betas"]
        mean = state["exp_avg"].mul_(beta1).add_(grad, alpha=1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

        if group["weight_decay"]:
            parameter.mul_(1 - group["weight_decay"] * group["lr"])
        step_size = group["lr"] / (1 - beta1 ** state["step"])
        rectification = _rectification(state["step"], beta2, group["N_sma_threshhold"])
        if rectification is None:
            parameter.add_(mean, alpha=-step_size)
        else:
            parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-step_size * rectification)

        if state["step"] % group["k"] == 0:
            parameter.copy_(state["slow_buffer"].lerp_(parameter, group["alpha"]))


def set_cosine_lr(optimizer: Optimizer, lr: float, step: int, steps: int) -> None:
    """Let the learning rate fall from `lr` to 0 along half a cosine, over `steps` steps."""
    for group in optimizer.param_groups:
        group["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2


def _rectification(step: int, beta2: float, threshold: float) -> float | None:
    """RAdam's factor for the variance of the mean square, with its bias correction; None while that is unreliable."""
    decay = beta2**step
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * decay / (1 - decay)
    if length <= threshold:
        return None
    return math.sqrt((1 - decay) * (length - 4) / (longest - 4) * (length - 2) / length * longest / (longest - 2))
