"""Whether a change of the code changes any number: digests of what the commands make from small fixed inputs.

Every command runs once (simulate, psf, catalog, backgrounds, measure with classical estimators and with networks, sky,
coadd, train, adapt); each column of each table, each image and each set of weights becomes one line. Run it on two
versions, with the same OUT, and compare the lines. Two runs of one version differ in three: `pool.json[exposures]` and
`pool.json[inputs]` hold the times of files, `checkpoint.safetensors` that of the training.

Run: ``python benchmarks/same_numbers.py OUT > before.txt``
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from astropy.io import fits

SURVEY: dict[str, Any] = {
    "text": "Small exposures in two bands",
    "survey": "paucam",
    "bands": ["NB455", "NB785"],
    "exposures_per_band": 2,
    "dither": 20,
    "seed": 7,
    "states": ["before", "after"],
    "sky": {"galaxies": 900, "clustered": 0.3, "mag_range": [17.5, 23.0], "stars": 60, "star_mag_range": [14.0, 20.0]},
    "camera": {"shape": [512, 512]},
}
#: Its stars are many enough for a fit of the PSF.
BROAD: dict[str, Any] = {
    "text": "Two small exposures in one broad band",
    "survey": "generic",
    "bands": ["r"],
    "exposures_per_band": 2,
    "dither": 20,
    "sky": {"galaxies": 460, "clustered": 0, "mag_range": [17.5, 23.0], "stars": 95, "star_mag_range": [14.0, 21.0]},
    "camera": {"shape": [512, 512], "exposure_time": 100, "gain": 2, "read_noise": 6, "zeropoint": 23.6},
    "background": {"sky_brightness": 20.5},
}
TRAINING: dict[str, Any] = {
    "name": "small",
    "network": {"channels": [4, 6, 8], "blocks": [0, 0, 0], "hidden": 16},
    "stamps": {"flux_from": "proposal", "batch_size": 128},
    "n_stamps": 512,
    "n_validation": 128,
    "validate_every": 128,
    "optimizer": {"batch_size": 64},
}
#: Of the JSON files, what holds no number that was measured.
LEFT_OUT = ("manifest.json",)


def run_commands(out: Path) -> None:
    """Run every command into folders below ``out``."""
    out.mkdir(parents=True)
    training = TRAINING | {"pool": {"paths": [str(out / "pool")]}}
    for name, content in (("survey", SURVEY), ("broad", BROAD), ("training", training)):
        (out / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    narrow, broad = out / "simulated", out / "simulated_broad"
    images, broad_images = narrow / "exposures", broad / "exposures"
    lumos("simulate", out / "survey.yaml", "--out", narrow)
    lumos("simulate", out / "broad.yaml", "--out", broad)
    first = min(broad_images.glob("*.fits"))
    lumos("psf", broad_images, "--out", out / "psf")
    lumos("catalog", first, "--out", out / "catalog.parquet")
    lumos("backgrounds", images, "--survey", "paucam", "--out", out / "pool", "--set", "backgrounds.n_per_exposure=60")
    measured = ("--catalog", narrow / "parent.parquet", "--survey", "paucam")
    every = ("--estimators", "aperture,profile_fit,optimal,optimal_free")
    lumos("measure", images, *measured, *every, "--out", out / "run")
    lumos("measure", images, *measured, "--model", "paucam-mock", "--out", out / "run_mock")
    lumos("measure", images, *measured, "--model", "paucam-mock-posterior", "--out", out / "run_posterior")
    own = ("--catalog", out / "catalog.parquet", "--psf", out / "psf")
    lumos("measure", broad_images, *own, "--model", "generic", "--out", out / "run_own")
    parent = ("--catalog", broad / "parent.parquet")
    lumos("measure", broad_images, *parent, "--model", "generic", "--out", out / "run_broad")
    lumos("sky", narrow / "parent.parquet", "--n", "400", "--out", out / "sky.parquet")
    sky = ("--catalog", out / "sky.parquet", "--survey", "paucam", "--model", "paucam-mock")
    lumos("measure", images, *sky, "--out", out / "run_sky")
    lumos("coadd", out / "run", "--prior", "none", "--out", out / "coadd_gauss.parquet")
    lumos("coadd", out / "run_mock", "--sky", out / "run_sky", "--out", out / "coadd.parquet")
    lumos("coadd", out / "run_posterior", "--product", "naive", "--out", out / "coadd_posterior.parquet")
    lumos("train", out / "training.yaml", "--out", out / "trained")
    few = ("--set", "adapt.n_injected=200", "--set", "adapt.epochs=3")
    lumos("adapt", "generic", "--run", out / "run_broad", "--out", out / "adapted", "--force", *few)


def lumos(*arguments: object) -> None:
    """Run one command; what it says goes to standard error."""
    command = [sys.executable, "-m", "lumos", *map(str, arguments)]
    print("lumos", *command[3:], file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603


def digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what each thing in a folder is called, and its digest."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            for column in table.column_names:
                yield f"{name}[{column}]", digest(json.dumps(table[column].to_pylist(), default=str).encode())
        elif path.suffix == ".fits":
            with fits.open(path) as hdus:
                for number, hdu in enumerate(hdus):
                    yield f"{name}[{number}]", digest(b"" if hdu.data is None else np.asarray(hdu.data).tobytes())
        elif path.suffix in {".safetensors", ".npy"}:
            yield name, digest(path.read_bytes())
        elif path.suffix == ".json" and path.name not in LEFT_OUT:
            for key, value in sorted(json.loads(path.read_text(encoding="utf-8")).items()):
                yield f"{name}[{key}]", digest(json.dumps(value, sort_keys=True).encode())


def digest(content: bytes) -> str:
    """Return the first letters of a SHA-256 sum."""
    return hashlib.sha256(content).hexdigest()[:16]


def main() -> None:
    """Read the command line, run the commands, print the digests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="new folder")
    out = parser.parse_args().out
    run_commands(out)
    for name, value in digests(out):
        print(f"{value} {name}")


if __name__ == "__main__":
    main()
