"""Training: the loss falls to what can be known, a killed run ends as an unbroken one, presets can be read."""

import numpy as np
import pytest
import torch

from helpers.background_pools import flat_pool, new_stamps, write_pool
from lumos.errors import LumosConfigError, LumosDataError
from lumos.nets.checkpoint import save_model
from lumos.nets.residual import ResidualNetwork
from lumos.nets.settings import ResidualSettings
from lumos.pools.pool import BackgroundPool
from lumos.settings import load_training
from lumos.training import loop
from lumos.training.data import TrainingStream, _turned, split_pool
from lumos.training.learner import learning_rate
from lumos.training.loop import train_network
from lumos.training.settings import OptimizerSettings, TrainSettings, shipped_runs


def settings(path, **changes):
    content = {
        "name": "small",
        "network": {"channels": [4, 6, 8], "blocks": [0, 0, 0], "hidden": 16},
        "pool": {"paths": [str(path)]},
        "stamps": {"flux_from": "proposal", "batch_size": 128},
        "n_stamps": 512,
        "n_validation": 128,
        "validate_every": 128,
        "optimizer": {"batch_size": 64},
    }
    return TrainSettings.model_validate(content | changes)


@pytest.fixture
def pool(tmp_path):
    return flat_pool(tmp_path / "pool", np.random.default_rng(2))


def weights(report):
    return report.model.network.state_dict()


def test_a_killed_run_ends_as_an_unbroken_one(pool, tmp_path, monkeypatch):
    run = settings(tmp_path / "pool", flips=True)
    whole = train_network(run, pool, tmp_path / "whole")
    made = TrainingStream.__getitem__

    def dies(self, index):
        if index == 3 and self._seed == run.seed:
            raise KeyboardInterrupt
        return made(self, index)

    monkeypatch.setattr(TrainingStream, "__getitem__", dies)
    with pytest.raises(KeyboardInterrupt):
        train_network(run, pool, tmp_path / "killed")
    monkeypatch.undo()
    assert len((tmp_path / "killed" / "log.jsonl").read_text().splitlines()) == 3
    resumed = train_network(run, pool, tmp_path / "killed")
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    curve = [{key: value for key, value in line.items() if key != "minutes"} for line in whole.curve]
    assert curve == [{key: value for key, value in line.items() if key != "minutes"} for line in resumed.curve]
    assert [line["n_stamps"] for line in whole.curve] == [128, 256, 384, 512]


def test_seeds_give_the_weights(pool, tmp_path):
    runs = [
        train_network(settings(tmp_path, seed=seed), pool, tmp_path / name)
        for name, seed in zip("abc", (1, 1, 2), strict=True)
    ]
    first, same, other = (weights(run)["head.linear.bias"] for run in runs)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_finished_run_does_nothing(pool, tmp_path, monkeypatch):
    run = settings(tmp_path)
    first = train_network(run, pool, tmp_path / "run")
    monkeypatch.setattr(loop._Trainer, "learn", None)
    again = train_network(run, pool, tmp_path / "run")
    assert torch.equal(weights(first)["head.linear.bias"], weights(again)["head.linear.bias"])
    assert again.curve == first.curve


def test_worker_processes_change_nothing(pool, tmp_path):
    run = settings(tmp_path, n_stamps=256)
    here = train_network(run, pool, tmp_path / "here")
    there = train_network(run.model_copy(update={"workers": 1}), pool, tmp_path / "there")
    assert torch.equal(weights(here)["head.linear.bias"], weights(there)["head.linear.bias"])


def test_training_goes_on_from_another_models_weights(pool, tmp_path):
    first = train_network(settings(tmp_path), pool, tmp_path / "run")
    save_model(first.model, tmp_path / "first", "")
    changes = {"start": str(tmp_path / "first"), "optimizer": {"batch_size": 64, "learning_rate": 1e-12}}
    second = train_network(settings(tmp_path, **changes), pool, tmp_path / "second")
    for name, value in weights(first).items():
        torch.testing.assert_close(weights(second)[name], value, atol=1e-6, rtol=0)
    wider = {"channels": [4, 6, 8], "blocks": [0, 0, 0], "hidden": 32}
    with pytest.raises(LumosConfigError, match=r"first': its network is .*hidden=16.*, allowed: that of the run"):
        train_network(settings(tmp_path, network=wider, **changes), pool, tmp_path / "third")


def test_what_a_network_is_given_besides_counts_for_nothing_at_first():
    """Its answers are those of the network whose weights it took, until it has learnt."""
    torch.manual_seed(5)
    less = ResidualNetwork(ResidualSettings(hidden=16, scene=True))
    given = ResidualSettings(hidden=16, scene=True, position=True, reference=True)
    more = ResidualNetwork(given, n_bands=3, n_states=2)
    more.take_weights(less)
    images, scalars = torch.randn(4, less.n_channels, 60, 60), torch.randn(4, more.n_scalars)
    index = torch.tensor([[0, 0], [1, 1], [2, 0], [0, 1]])
    shared = [more.numbers.index(name) for name in less.numbers]
    before, after = less(images, scalars[:, shared], index), more(images, scalars, index)
    for one, other in zip(before.parameters, after.parameters, strict=True):
        torch.testing.assert_close(one, other)
    assert torch.equal(before.share, after.share)


def test_training_may_start_from_a_model_that_knows_no_bands(pool, tmp_path):
    bare = train_network(settings(tmp_path), pool, tmp_path / "run")
    save_model(bare.model, tmp_path / "bare", "")
    changes = {"start": str(tmp_path / "bare"), "optimizer": {"batch_size": 64, "learning_rate": 1e-12}}
    told = train_network(settings(tmp_path, per_band=True, **changes), pool, tmp_path / "told")
    assert told.model.config.bands
    torch.testing.assert_close(weights(told)["head.linear.bias"], weights(bare)["head.linear.bias"])
    save_model(told.model, tmp_path / "told_model", "")
    back = settings(tmp_path, **(changes | {"start": str(tmp_path / "told_model")}))
    with pytest.raises(LumosConfigError, match=r"told_model': its bands is \('.*, allowed: that of the run, \(\)"):
        train_network(back, pool, tmp_path / "back")


def test_another_run_in_the_same_folder_is_refused(pool, tmp_path):
    train_network(settings(tmp_path), pool, tmp_path / "run")
    with pytest.raises(LumosConfigError, match=r"holds the results of other settings \(train"):
        train_network(settings(tmp_path, seed=9), pool, tmp_path / "run")


def test_a_damaged_checkpoint_is_named(pool, tmp_path):
    run = settings(tmp_path)
    train_network(run, pool, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LumosDataError, match=r"checkpoint\.safetensors: damaged"):
        train_network(run, pool, tmp_path / "run")


@pytest.mark.parametrize("kind", ["likelihood", "posterior"])
def test_network_learns_what_can_be_known(tmp_path, kind):
    """On white noise and a flat sky nothing beats the optimal flux: the PDF must become its Gaussian.

    Minus the logarithm of a unit Gaussian at the truth is 0.5 + 0.5 log(2 pi) = 1.419 on average. The proposal
    density or the population tells a little more, so the loss must come below that plus what a network of 600 steps
    has not learned; the start is at 2.2 or more.
    """
    pool = flat_pool(tmp_path / "pool", np.random.default_rng(3), n=256)
    stamps = {"flux_from": "proposal" if kind == "likelihood" else "population", "batch_size": 512}
    run = settings(
        tmp_path,
        kind=kind,
        stamps=stamps | {"proposal": {"high": 100.0}, "mag_range": [19, 22]},
        network={"channels": [4, 6, 8], "blocks": [0, 0, 0], "hidden": 16, "reference": kind == "posterior"},
        n_stamps=20 * 1024,
        n_validation=2048,
        validate_every=20 * 1024,
        optimizer={"batch_size": 64, "learning_rate": 3e-3, "average": 0.98},
    )
    score = train_network(run, pool, tmp_path / "run").validation
    assert score.loss < 1.419 + 4 * score.loss_err + 0.05
    # 1.95 / sqrt(n) is exceeded by chance once in 1000; the rest is for what has not been learned.
    assert score.pit_ks < 1.95 / np.sqrt(score.n) + 0.03
    assert score.pull == pytest.approx(1, abs=0.15)


def test_exposures_are_not_shared_between_training_and_validation(tmp_path):
    rng = np.random.default_rng(4)
    stamps = [new_stamps(rng.normal(100, 5, (3, 96, 96))) for _ in range(30)]
    ccds = [({"exposure_id": str(number)}, stamp) for number, stamp in enumerate(stamps)]
    pool = BackgroundPool.open(write_pool(tmp_path / "pool", *ccds))
    training, validation = split_pool(pool)
    assert not set(pool.exposure[training]) & set(pool.exposure[validation])
    assert len(training) + len(validation) == len(pool)
    assert 0 < len(validation) < len(training) / 5


def test_departing_validation_is_reported(pool, tmp_path, caplog):
    """A hundred stamps seen again and again are learned by heart."""
    run = settings(
        tmp_path,
        n_distinct=128,
        n_stamps=128 * 60,
        # Losses have a long tail; with so many the gap is some twenty of its errors, where five count.
        n_validation=1024,
        validate_every=128 * 60,
        seed=2,
        optimizer={"batch_size": 32, "learning_rate": 5e-3, "average": 0.0, "weight_decay": 0.0},
    )
    train_network(run, pool, tmp_path / "run")
    assert "learns the backgrounds by heart" in caplog.text


def test_paper_network_trains_with_its_losses(tmp_path):
    pool = flat_pool(tmp_path / "pool", np.random.default_rng(5), n=32)
    run = settings(
        tmp_path,
        architecture="paper",
        kind="posterior",
        network={"n_components": 5},
        cut_from=20.5,
        stamps={"batch_size": 64, "mag_range": [19, 22]},
        n_stamps=128,
        n_validation=64,
        validate_every=64,
        optimizer={"batch_size": 32, "learning_rate": 1e-4, "schedule": "step", "step_at": [0.4, 0.8]},
    )
    report = train_network(run, pool, tmp_path / "run")
    assert np.isfinite(report.validation.loss)
    assert report.curve[-1]["n_stamps"] == 128


def test_flips_keep_the_middle_pixel():
    images = torch.zeros(64, 1, 60, 60)
    images[:, 0, 30, 30] = 1
    images[:, 0, 30, 33] = 2
    turned = _turned(images.clone(), np.random.default_rng(1))
    assert (turned[:, 0, 30, 30] == 1).all()
    places = {tuple(np.argwhere(image[0].numpy() == 2)[0]) for image in turned}
    assert places == {(30, 33), (30, 27), (33, 30), (27, 30)}


def test_schedules():
    cosine = OptimizerSettings(learning_rate=1.0, warmup=0.1)
    assert learning_rate(cosine, 0.05) == pytest.approx(0.5)
    assert learning_rate(cosine, 0.1) == pytest.approx(1.0)
    assert learning_rate(cosine, 0.55) == pytest.approx(0.5)
    assert learning_rate(cosine, 1.0) == pytest.approx(1e-3)
    step = OptimizerSettings(learning_rate=1.0, schedule="step", step_at=(0.4, 0.8))
    assert [learning_rate(step, at) for at in (0, 0.39, 0.4, 0.9)] == pytest.approx([1, 1, 0.1, 0.01])


@pytest.mark.parametrize("name", shipped_runs())
def test_shipped_runs_can_be_read(name):
    assert load_training(name).n_stamps >= 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("kind=posterior", "flux_from=population"),
        ("network.scene=false", "network.scene must be true where there is no pool"),
        ("network.position=true", "flips must be false"),
        ("device=tpu", "device"),
        ("epochs=3", "allowed: architecture"),
    ],
)
def test_contradictions_are_refused(override, message):
    with pytest.raises(LumosConfigError, match=message):
        load_training("generic", [override])


def test_a_pool_has_one_source():
    with pytest.raises(LumosConfigError, match="either paths or simulate"):
        load_training("paucam-mock", ["pool.paths=[a]"])


def test_unknown_runs_are_refused():
    with pytest.raises(LumosConfigError, match=r"unknown training run 'none', allowed:.*generic"):
        load_training("none")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(pool, tmp_path):
    with pytest.raises(LumosConfigError, match="no GPU"):
        train_network(settings(tmp_path, device="cuda"), pool, tmp_path / "run")
