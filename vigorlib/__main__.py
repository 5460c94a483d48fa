"""The library without a notebook: ``python -m vigorlib train|evaluate|recipes|runs``."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from vigorlib.recipes import MAIN_ROWS, PROFILES, RECIPES, get_profile, get_recipe

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None)
console = Console(width=116)  # tables in a log are not cut

CHAPTER_RECIPES = (*reversed(MAIN_ROWS), "vigor-resnet")  # the longest first
PROTOCOLS = ("same-area", "cross-area")

ProfileOption = Annotated[str, typer.Option(help=f"one of {', '.join(PROFILES)}")]
DataOption = Annotated[str, typer.Option(help="your copy of VIGOR; empty: the embedded city")]


@app.command()
def train(
    recipe: Annotated[list[str], typer.Option(help="recipe to train; repeat for several")] = [],  # noqa: B006
    chapters: Annotated[bool, typer.Option(help="every run that the chapters show")] = False,
    profile: ProfileOption = "mini",
    protocol: Annotated[list[str], typer.Option(help="same-area or cross-area; repeatable")] = [],  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="repeat for several")] = [0],  # noqa: B006
    data_root: DataOption = "",
    jobs: Annotated[int, typer.Option(help="runs side by side (not with accelerate)")] = 1,
) -> None:
    """Train runs into runs/, reusing and resuming what is there."""
    from vigorlib.grid import Job, train_all

    names = [*recipe, *(CHAPTER_RECIPES if chapters else ())]
    if not names:
        raise typer.BadParameter("name a --recipe, or --chapters for all that the book shows")
    for name in names:
        get_recipe(name)
    get_profile(profile)
    wanted = [
        Job(name, profile, area, number)
        for number in seed
        for area in (protocol or (PROTOCOLS if chapters else PROTOCOLS[:1]))
        for name in dict.fromkeys(names)
    ]
    if jobs > 1 and "LOCAL_RANK" in os.environ:
        raise typer.BadParameter(
            f"--jobs {jobs} under a launcher: expected 1, its processes train each run together"
        )
    if jobs > 1:
        train_all(wanted, data_root, jobs)
        return
    from vigorlib import processes
    from vigorlib.runs import load_or_train

    for job in wanted:
        run = load_or_train(
            job.recipe,
            profile,
            job.seed,
            job.protocol,  # type: ignore[arg-type]
            data_root,
            use_recorded=False,
        )
        if processes.is_main():
            console.print(f"{job}: {run.provenance}, top-1 {run.metrics['top1']:.1%}")
    processes.leave()


@app.command()
def evaluate(
    recipe: Annotated[str, typer.Option(help="a trained recipe")],
    profile: ProfileOption = "mini",
    protocol: str = "same-area",
    seed: int = 0,
    data_root: DataOption = "",
) -> None:
    """Evaluate a trained run again and print every measurement."""
    from vigorlib import processes
    from vigorlib.dataset import data_folder
    from vigorlib.runs import evaluate as measure
    from vigorlib.runs import load_or_train, photographs

    run = load_or_train(recipe, profile, seed, protocol, data_root)  # type: ignore[arg-type]
    root = data_folder(profile, data_root)
    test = photographs(root, run.profile, protocol, "test")  # type: ignore[arg-type]
    metrics, _, _ = measure(run.network().to(processes.join()), test, run.profile)
    table = Table("measurement", "now", run.provenance)
    for name, value in metrics.items():
        if isinstance(value, float):
            table.add_row(name, f"{value:.4f}", f"{run.metrics[name]:.4f}")
    if processes.is_main():
        console.print(table)
    processes.leave()


@app.command()
def recipes() -> None:
    """What can be trained, and at what sizes."""
    table = Table("recipe", "title", "backbone", "aggregator", "mining", "hybrid stage")
    for entry in RECIPES.values():
        flags = ["yes" if flag else "-" for flag in (entry.mining, entry.hybrid)]
        table.add_row(entry.name, entry.title, entry.backbone, entry.aggregator, *flags)
    console.print(table)
    sizes = Table("profile", "tiles", "panoramas", "batch", "epochs same-area", "cross-area")
    for size in PROFILES.values():
        epochs = ["{} + {}".format(*size.epochs[area]) for area in PROTOCOLS]
        pixels = ["{} x {}".format(*reversed(px)) for px in (size.tile_px, size.panorama_px)]
        sizes.add_row(size.name, *pixels, str(size.batch), *epochs)
    console.print(sizes)


@app.command()
def runs(
    profile: ProfileOption = "mini",
    summary: Annotated[bool, typer.Option(help="only what ran on this machine")] = False,
) -> None:
    """The runs there are: trained on this machine, and recorded with the project."""
    from vigorlib.runs import local_runs, recorded_runs

    table = Table(
        "run", "seed", "top-1", "top-5", "hit rate", "within 10 m", "median error", "provenance",
        title=f"profile {profile} (embedded city unless another data root was given)",
    )  # fmt: skip
    sources = [("this machine", local_runs(profile))]
    if not summary:
        sources.append(("recorded", recorded_runs(profile)))
    for provenance, records in sources:
        for record in records:
            m = record["metrics"]
            shares = (f"{m[k]:.1%}" for k in ("top1", "top5", "hit_rate", "within_10m"))
            name = f"{record['recipe']['title']}, {record['protocol']}"
            error = f"{m['median_error_m']:.1f} m"
            table.add_row(name, str(record["seed"]), *shares, error, provenance)
    console.print(table)


@app.command()
def results(profile: ProfileOption = "mini") -> None:
    """The recorded results beside the published ones, as Markdown (the README's table)."""
    from vigorlib.tables import summary

    print(summary(profile))


@app.command()
def keep(
    profile: ProfileOption = "mini",
    weights: Annotated[list[str], typer.Option(help="recipe whose network is kept, too")] = [],  # noqa: B006
) -> None:
    """Store every run of this machine in results/, to come with the project."""
    from vigorlib.runs import keep as keep_run
    from vigorlib.runs import load_or_train, local_runs

    for record in local_runs(profile):
        name, protocol, seed = record["recipe"]["name"], record["protocol"], record["seed"]
        if name not in RECIPES:
            continue
        run = load_or_train(name, profile, seed, protocol)
        wanted = name in weights and protocol == "same-area" and seed == 0
        console.print(str(keep_run(run, wanted)))


if __name__ == "__main__":
    app()
