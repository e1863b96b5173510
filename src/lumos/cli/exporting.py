"""Commands that hand results on: tables for other programs, pictures of single objects."""

from pathlib import Path
from typing import Annotated

import typer

from lumos.cli.app import command
from lumos.cli.console import show_progress
from lumos.cli.options import CoaddFile, check_file, check_run
from lumos.errors import LumosConfigError

__all__ = ["export", "show"]


@command
def export(
    source: Annotated[Path, typer.Argument(help="Folder of `lumos measure` or `lumos photoz`, or a coadd.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; for hats a folder.")],
    format_: Annotated[
        str, typer.Option("--format", help="fits, votable, csv, ecsv, lsst, paus, des, qp, hats or rail.")
    ],
    bands: Annotated[
        str | None, typer.Option("--bands", help="Bands of lsst, paus, des, rail and colours, separated by commas.")
    ] = None,
    colours: Annotated[bool, typer.Option("--colours", help="Colours of the bands with their covariance.")] = False,
    finished: Annotated[bool, typer.Option("--finished", help="Leave out exposures that are not finished.")] = False,
) -> None:
    """Write the fluxes of a run or a coadd, or p(z), as another program reads them."""
    from lumos.exports.formats import check_format  # noqa: PLC0415

    check_format(format_, out)
    chosen = None if bands is None else [name.strip() for name in bands.split(",") if name.strip()]
    with show_progress("export"):
        from lumos.exports.run import export_table  # noqa: PLC0415

        n_rows = export_table(source, out, format_, bands=chosen, colours=colours, finished=finished)
    typer.echo(f"{out}: {n_rows} rows of {source} as {format_}")


@command
def show(
    run: Annotated[Path, typer.Argument(help="Folder of `lumos measure`.")],
    object_: Annotated[str, typer.Option("--object", help="Identifier of the object: object_id, or its text.")],
    out: Annotated[Path, typer.Option("--out", help="Picture to write (PNG).")],
    coadd: CoaddFile = None,
    band: Annotated[str | None, typer.Option("--band", help="Show one band alone.")] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Most exposures whose stamps are shown.")] = 12,
) -> None:
    """Draw one object in every exposure: stamp, model, residual, neighbours, mask and PDFs."""
    if out.suffix != ".png":
        raise LumosConfigError(f"{out}: a picture is written to a file that ends in .png")
    if out.exists():
        raise LumosConfigError(f"{out}: exists; give a new --out")
    check_run(run)
    check_file(coadd, "coadd")
    with show_progress("show"):
        from lumos.workflows.show import show_object  # noqa: PLC0415

        typer.echo(show_object(run, object_, out, coadd=coadd, band=band, most=most))
