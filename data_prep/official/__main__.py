"""Use what VIGOR's authors released: their initial weights, descriptors and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None)
console = Console(width=132)  # tables in a log are not cut

MEASURES = ("top1", "top5", "top1pct", "hit_rate", "within_10m")


@app.command()
def weights(file: Annotated[Path, typer.Argument(help="the released vgg16.npy")]) -> None:
    """Make vgg16.npy the start of networks in profile full-original. Nothing in it is executed."""
    from data_prep.official.weights import install_vgg16

    try:
        target = install_vgg16(file)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    console.print(f"{target}: 13 layers; `--profile full-original` starts from them")


@app.command()
def evaluate(
    data_root: Annotated[Path, typer.Option(help="your copy of VIGOR; its label files will do")],
    descriptors: Annotated[Path, typer.Option(help="a method's folder, or a folder of such")],
    protocol: Annotated[str, typer.Option(help="same-area or cross-area")] = "same-area",
    labels: Annotated[str, typer.Option(help="original (as released) or corrected")] = "original",
    offsets: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="the delta file, where a method has several"),
    ] = None,
    out: Annotated[Path, typer.Option(help="JSON file for metrics and curves")] = Path(
        "build/official.json"
    ),
    figure: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="image file for the curve over metres (.png, .svg)"),
    ] = None,
) -> None:
    """Evaluate released descriptor files: no network, no image, no training."""
    from data_prep.official import descriptors as released
    from vigorlib.dataset import Vigor
    from vigorlib.files import write_json

    try:
        data = Vigor(data_root, protocol, "test", labels)  # type: ignore[arg-type]
        folders = released.method_folders(descriptors)
        records = [released.evaluate(folder, data, offsets) for folder in folders]
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    write_json(out, records)
    _show(records, protocol)
    if figure:
        _draw(records, protocol, figure)
    console.print(f"metrics and curves: {out}" + (f", figure: {figure}" if figure else ""))


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="prefix of a checkpoint, .../model.ckpt")],
    target: Annotated[Path, typer.Argument(help="file to write, .safetensors")],
    recipe: Annotated[str, typer.Option(help="siamese, safa, safa-mining or vigor")] = "vigor",
) -> None:
    """Turn a TensorFlow 1 checkpoint into weights of our network (needs TensorFlow)."""
    from safetensors.torch import save_file

    from data_prep.official.checkpoint import PROFILE, convert_checkpoint
    from vigorlib.files import write_atomically

    try:
        state = convert_checkpoint(checkpoint, recipe)
    except (ValueError, OSError, RuntimeError) as error:
        raise typer.BadParameter(str(error)) from error
    write_atomically(target, lambda partial: save_file(state, partial))
    console.print(
        f'{target}: model.build("{recipe}", "{PROFILE}", imagenet=False) takes these weights by '
        "load_state_dict(safetensors.torch.load_file(...))"
    )


def _show(records: list[dict[str, Any]], protocol: str) -> None:
    """Ours beside the published, in percent; within 10 m by the released code's distance."""
    from vigorlib.tables import MEASURES as TITLES
    from vigorlib.tables import paper_cell

    table = Table("method", title=f"released descriptors, {protocol}, % (paper's figure behind)")
    for measure in MEASURES:
        table.add_column(TITLES[measure], justify="right")
        table.add_column("paper", justify="right", style="dim")
    table.add_column("geodesic", justify="right")
    for record in records:
        metrics, recipe = record["metrics"], record["recipe"]
        shown = {**metrics, "within_10m": metrics["within_10m_official"]}
        row = [recipe["title"]]
        for measure in MEASURES:
            row += [f"{100 * shown[measure]:.1f}", paper_cell(recipe["name"], protocol, measure)]
        table.add_row(*row, f"{100 * metrics['within_10m']:.1f}")
    console.print(table)
    for record in records:
        for note in record["notes"]:
            console.print(f"{record['name']}: {note}")


def _draw(records: list[dict[str, Any]], protocol: str, file: Path) -> None:
    from vigorlib import figures
    from vigorlib.evaluation import THRESHOLDS_M

    curves = {r["recipe"]["title"]: r["curves"]["metre_accuracy_official"] for r in records}
    drawn = figures.metre_curves({protocol: curves}, THRESHOLDS_M, 40, "released descriptors")
    file.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(file)


if __name__ == "__main__":
    app()
