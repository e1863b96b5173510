"""The paper's network: its sizes, what reaches what, and what it refuses."""

import json

import pytest
import torch
from torch import nn

from lumos.errors import LumosShapeError, LumosValueError
from lumos.nets.losses import paper_nll
from lumos.nets.paper import PaperNetwork


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return PaperNetwork()


def inputs(n, seed=2, n_states=80):
    generator = torch.Generator().manual_seed(seed)
    scalars = torch.rand((n, 3), generator=generator) + torch.tensor([20.0, 0, 0])
    index = torch.randint(n_states, (n,), generator=generator)
    return torch.rand((n, 2, 60, 60), generator=generator), scalars, index


def test_sizes_are_those_of_the_published_code(network):
    network.eval()
    convolutions = [layer for layer in network.convolutions if isinstance(layer, nn.Conv2d)]
    channels = [convolutions[0].in_channels, *(layer.out_channels for layer in convolutions)]
    assert channels == [2, 32, 64, 128, 64, 32]
    assert [layer.kernel_size for layer in convolutions] == [(size, size) for size in (9, 7, 5, 3, 2)]
    assert [layer.padding for layer in convolutions] == [(size, size) for size in (4, 4, 3, 3, 2)]
    images, scalars, index = inputs(3)
    assert network.convolutions[:-1](images).shape == (3, 32, 4, 4)
    assert network.convolutions(images).shape == (3, 512)
    assert network.embedding.weight.shape == (80, 10)
    dense = [layer for layer in network.dense if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in dense] == [525, 2000, 1000]
    assert [layer.out_features for layer in dense] == [2000, 1000, 100]
    assert network.head.linear.out_features == 15
    mixture = network(images, scalars, index)
    for table in (mixture.log_weights, mixture.means, mixture.stds):
        assert table.shape == (3, 5)
        assert table.dtype == torch.float32
    # Weights in single precision.
    assert torch.allclose(mixture.log_weights.exp().sum(dim=1), torch.ones(3), rtol=0, atol=1e-5)
    assert (mixture.stds > 0).all()


def test_sizes_come_from_plain_numbers():
    config = json.loads(json.dumps({"n_states": 3, "embedding_dim": 4, "n_components": 2, "dropout": 0.1}))
    network = PaperNetwork(**config).eval()
    assert network.embedding.weight.shape == (3, 4)
    assert network(*inputs(2, n_states=3)).means.shape == (2, 2)
    assert {layer.p for layer in network.dense if isinstance(layer, nn.Dropout)} == {0.1}


def test_gradient_reaches_every_parameter(network):
    images, scalars, _ = inputs(80)
    # Every row of the embedding is used, and both halves of the loss.
    mixture = network(images, scalars, torch.arange(80))
    paper_nll(mixture, torch.ones(80), scalars[:, 0]).mean().backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name
    assert (network.embedding.weight.grad.abs().amax(dim=1) > 0).all()


def test_every_input_matters(network):
    network.eval()
    given = inputs(2)
    before = network(*given).means
    images, scalars, index = given
    changed = [images.clone() for _ in range(2)]
    for channel, other in enumerate(changed):
        other[:, channel] += 1
    variants = [(other, scalars, index) for other in changed]
    variants += [(images, scalars + torch.eye(3)[column], index) for column in range(3)]
    variants.append((images, scalars, (index + 1) % 80))
    for variant in variants:
        assert (network(*variant).means - before).abs().max() > 1e-6


def test_evaluation_is_deterministic_and_row_by_row(network):
    network.eval()
    images, scalars, index = inputs(4)
    whole, again = network(images, scalars, index), network(images, scalars, index)
    assert torch.equal(whole.means, again.means)
    assert torch.equal(whole.log_weights, again.log_weights)
    assert torch.equal(whole.stds, again.stds)
    alone = network(images[:1], scalars[:1], index[:1])
    # Sums of up to 2000 products of order 1 in single precision, in another order.
    assert torch.allclose(alone.means, whole.means[:1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 2, 61, 60), (2, 1, 60, 60), (2, 3, 60, 60), (2, 60, 60)])
def test_images_of_another_shape_are_refused(network, shape):
    _, scalars, index = inputs(2)
    with pytest.raises(LumosShapeError, match=r"stamps and profiles.*allowed: \(2, 2, 60, 60\)") as caught:
        network(torch.zeros(shape), scalars, index)
    assert str(shape) in str(caught.value)


def test_side_information_of_another_shape_is_refused(network):
    images, scalars, index = inputs(2)
    with pytest.raises(LumosShapeError, match="magnitudes and CCD positions"):
        network(images, scalars[:, :2], index)
    with pytest.raises(LumosShapeError, match="rows of the embedding"):
        network(images, scalars, index[:, None])


@pytest.mark.parametrize("row", [-1, 80])
def test_rows_outside_the_embedding_are_refused(network, row):
    images, scalars, _ = inputs(2)
    with pytest.raises(LumosValueError, match=f"got {row}, allowed: 0 to 79"):
        network(images, scalars, torch.tensor([3, row]))


@pytest.mark.parametrize("wrong", [{"n_states": 0}, {"n_components": 0}, {"embedding_dim": 0}, {"dropout": 1.0}])
def test_sizes_that_make_no_network_are_refused(wrong):
    with pytest.raises(LumosValueError, match="network"):
        PaperNetwork(**wrong)
