"""The learning rate in the course of a training run."""

import math

from lumos.training.settings import OptimizerSettings

__all__ = ["learning_rate"]


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
