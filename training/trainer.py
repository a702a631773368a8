"""One step of training: the trained network's, then the discriminator's."""

from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from datasets.training_images import Batch
from training.distributed import parallel
from training.losses import LossBuilder, Losses
from training.stages import Stage

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class DivergedError(Exception):
    """A loss is not finite. The text names the step, the losses and the files of the batch."""


class Trainer:
    """Runs steps. The networks' outputs are computed in the chosen precision, the losses always in float32."""

    def __init__(
        self, stage: Stage, optimizer: Optimizer, discriminator: nn.Module | None, disc_optimizer: Optimizer | None,
        losses: LossBuilder, device: torch.device, precision: str = "fp32",
    ) -> None:  # fmt: skip
        """`precision`: fp32, bf16 or fp16."""
        self.stage = parallel(stage, device)
        self.discriminator = discriminator
        self.parallel_discriminator = parallel(discriminator, device) if discriminator is not None else None
        self.optimizer, self.disc_optimizer = optimizer, disc_optimizer
        self.losses = losses
        self.device = device
        self.dtype = DTYPES.get(precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step(self, number: int, batches: list[Batch], adversarial: bool) -> dict[str, float]:
        """Step `number`, on the mean gradient of the batches. Returns the mean of each loss.

        With `adversarial` the network learns against the discriminator, which learns afterwards, from the pictures that
        the network made in this step. Raises DivergedError before any weight is changed by the loss at fault.
        """
        found: dict[str, list[Tensor]] = defaultdict(list)
        fakes = self._learn_stage(number, batches, adversarial, found)
        if adversarial:
            self._learn_discriminator(number, batches, fakes, found)
        self.scaler.update()
        return {name: float(torch.stack(values).mean()) for name, values in found.items()}

    def _learn_stage(
        self, number: int, batches: list[Batch], adversarial: bool, found: dict[str, list[Tensor]]
    ) -> list[Tensor]:
        """Returns what the discriminator is to learn as fake, for each batch."""
        fakes = []
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        for i, batch in enumerate(batches):
            with self._gradients(self.stage, last=i == len(batches) - 1):
                with self._autocast():
                    pairs = self.stage(batch.images.to(self.device), number)
                    judge = self.discriminator if adversarial else None
                    judgement = judge(pairs.judged) if judge is not None else None
                losses = self.losses.encoder(pairs, judgement)
                self._backward(losses, number, batch, len(batches), found)
            fakes.append(pairs.learned.detach())
        self._update(self.optimizer)
        return fakes

    def _learn_discriminator(
        self, number: int, batches: list[Batch], fakes: list[Tensor], found: dict[str, list[Tensor]]
    ) -> None:
        assert self.discriminator is not None and self.disc_optimizer is not None
        assert self.parallel_discriminator is not None
        self.discriminator.requires_grad_(True)
        for i, (batch, fake) in enumerate(zip(batches, fakes, strict=True)):
            with self._gradients(self.parallel_discriminator, last=i == len(batches) - 1):
                with self._autocast():
                    real = batch.images.to(self.device)
                    losses = self.losses.discriminator(self.parallel_discriminator, fake, real, number)
                self._backward(losses, number, batch, len(batches), found, prefix="disc_")
        self._update(self.disc_optimizer)

    def _backward(
        self, losses: Losses, number: int, batch: Batch, share: int, found: dict[str, list[Tensor]], prefix: str = ""
    ) -> None:
        for name, value in {**losses.parts, "total": losses.total}.items():
            found[prefix + name].append(value.detach())
        if not torch.isfinite(losses.total):
            values = ", ".join(f"{prefix}{name} {value.item():.4g}" for name, value in losses.parts.items())
            files = ", ".join(batch.names)
            raise DivergedError(f"step {number}: the loss is {losses.total.item()} ({values}) on {files}")
        self.scaler.scale(losses.total / share).backward()

    def _update(self, optimizer: Optimizer) -> None:
        self.scaler.step(optimizer)
        optimizer.zero_grad(set_to_none=True)

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, self.dtype) if self.dtype is not None else nullcontext()

    @staticmethod
    def _gradients(module: nn.Module, last: bool) -> AbstractContextManager:
        """Processes exchange gradients once a step, with the last batch."""
        return module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext()
