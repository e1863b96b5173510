"""A network, the moving average of its weights and its optimiser, with their state on disk; the learning rate."""

import copy
import math
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lumos.errors import LumosDataError
from lumos.files import whole_file
from lumos.training.settings import OptimizerSettings

__all__ = ["CHECKPOINT", "Learner", "learning_rate"]

#: File with all that the next batch depends on.
CHECKPOINT = "checkpoint.safetensors"


class Learner:
    """A network that learns.

    Parameters
    ----------
    network : torch.nn.Module
        On the device where it learns.
    settings : OptimizerSettings
        How its weights are fitted.
    out : Path
        Folder of the checkpoint.
    """

    def __init__(self, network: nn.Module, settings: OptimizerSettings, out: Path) -> None:
        self.network, self.out = network, out
        #: The network with the average of the weights.
        self.mean = copy.deepcopy(network)
        self.batches, self.seconds = 0, 0.0
        self._settings = settings
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=1.0, weight_decay=settings.weight_decay)

    def step(self, loss: Tensor, progress: float, number: float) -> None:
        """Take a step.

        Parameters
        ----------
        loss : tensor
            One number.
        progress : float
            Share of the run that is done.
        number : float
            Steps before: the average follows quickly at first, when the weights are far from good.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._settings, progress)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        if self._settings.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._settings.clip)
        self._optimizer.step()
        share = 1 - min(self._settings.average, (1 + number) / (10 + number))
        with torch.no_grad():
            mean, now = self.mean.state_dict(), self.network.state_dict()
            floating = [name for name, value in mean.items() if value.is_floating_point()]
            torch._foreach_lerp_([mean[name] for name in floating], [now[name] for name in floating], share)

    def save(self) -> None:
        """Write everything that the next batch depends on, whole or not at all."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.mean.state_dict().items()}
        for number, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        tensors = {name: value.contiguous().cpu() for name, value in tensors.items()}
        about = {"batches": str(self.batches), "seconds": f"{self.seconds:.3f}"}
        with whole_file(self.out / CHECKPOINT) as temporary:
            save_file(tensors, temporary, about)

    def load(self) -> bool:
        """Continue from the checkpoint, if there is one.

        Returns
        -------
        bool
            Whether there was.

        Raises
        ------
        LumosDataError
            If it is damaged.
        """
        path = self.out / CHECKPOINT
        if not path.exists():
            return False
        about, tensors = _read(path)
        groups: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
        for name, value in tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = value
        self.network.load_state_dict(groups["network"])
        self.mean.load_state_dict(groups["average"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in groups["optimizer"].items():
            number, _, what = name.partition(".")
            state.setdefault(int(number), {})[what] = value
        content: dict[str, object] = {"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]}
        self._optimizer.load_state_dict(content)
        self.batches, self.seconds = int(about["batches"]), float(about["seconds"])
        return True


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
        return about, load_file(path)
    except (SafetensorError, OSError) as error:
        raise LumosDataError(f"{path}: damaged ({error}); remove it to begin anew") from error


def learning_rate(settings: OptimizerSettings, progress: float) -> float:
    """Return the learning rate at a point of the run.

    Parameters
    ----------
    settings : OptimizerSettings
        Rate, schedule and warm-up of the run.
    progress : float
        Share of the run that is done, 0 to 1.

    Returns
    -------
    float
        Learning rate of the step.
    """
    if settings.schedule == "step":
        return settings.learning_rate * 0.1 ** sum(progress >= at for at in settings.step_at)
    if progress < settings.warmup:
        return settings.learning_rate * max(progress / settings.warmup, 1e-3)
    share = (progress - settings.warmup) / (1 - settings.warmup)
    return settings.learning_rate * max(0.5 * (1 + math.cos(math.pi * min(share, 1.0))), 1e-3)
