"""Networks for other runtimes: export to ONNX (optional extra ``onnx``)."""

from pathlib import Path

import torch
from torch import Tensor, nn

from lumos.errors import LumosConfigError
from lumos.nets.mdn import MixtureOutput
from lumos.nets.model import FluxModel
from lumos.nets.residual import ResidualNetwork

__all__ = ["export_onnx"]


class _Tables(nn.Module):
    """The network with plain tensors as output, which is what an exported graph has."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, scalars: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        mixture: MixtureOutput = self.network(images, scalars, index)
        return mixture.parameters if mixture.share is None else (*mixture.parameters, mixture.share)


def export_onnx(model: FluxModel, path: Path) -> None:
    """Write a residual network as an ONNX graph.

    Parameters
    ----------
    model : FluxModel
        The model.
    path : Path
        File to write. Inputs ``images``, ``scalars`` and ``index`` are those of
        :class:`lumos.nets.inputs.NetworkInputs`, for any number of objects; outputs ``log_weights``, ``means``
        and ``stds`` are in units of the network: the flux is ``centre + unit * t``. A network on scenes has a fourth,
        ``share``: the PDF is to be convolved with a Gaussian of standard deviation ``share * widening``.

    Raises
    ------
    LumosConfigError
        If the model has another architecture, or the extra ``onnx`` is not installed.
    """
    if not isinstance(model.network, ResidualNetwork):
        raise LumosConfigError(f"model {model.config.name!r}: architecture paper is not exported, allowed: residual")
    side, n = model.config.stamp_size, 2
    example = (
        torch.zeros(n, model.network.n_channels, side, side),
        torch.zeros(n, model.network.n_scalars),
        torch.zeros(n, 2, dtype=torch.int64),
    )
    objects = torch.export.Dim("objects", min=1)
    try:
        torch.onnx.export(
            _Tables(model.network).eval(),
            example,
            path,
            input_names=["images", "scalars", "index"],
            output_names=["log_weights", "means", "stds"] + ["share"] * (model.config.input_version == 2),
            dynamic_shapes=({0: objects}, {0: objects}, {0: objects}),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except ImportError as error:
        raise LumosConfigError("ONNX export needs: pip install lumos-photometry[onnx]") from error
