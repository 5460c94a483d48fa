"""The library without a notebook: ``python -m vigorlib plan|train|evaluate|verify|localize|recipes|runs``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from vigorlib.files import StorageError
from vigorlib.recipes import MAIN_ROWS, PROFILES, RECIPES, Profile, get_profile, get_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from vigorlib.located import Result

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None)
console = Console(width=116)  # tables in a log are not cut

CHAPTER_RECIPES = (*reversed(MAIN_ROWS), "vigor-resnet")  # the longest first
PROTOCOLS = ("same-area", "cross-area")

CHECKPOINT_HELP = "less memory, about a third more time"
ProfileOption = Annotated[str, typer.Option(help=f"one of {', '.join(PROFILES)}")]
DataOption = Annotated[str, typer.Option(help="your copy of VIGOR; empty: the embedded city")]


@contextmanager
def _one_message() -> Iterator[None]:
    """What a person can mend is one line, not a traceback; exit status 2."""
    try:
        yield
    except (ValueError, FileNotFoundError, RuntimeError, StorageError) as error:
        if type(error) is RuntimeError:  # not one of ours: where it comes from matters
            raise
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


def _with(profile: Profile, checkpoint: bool, compile: bool = False) -> Profile:
    """The profile with what the command line turns on."""
    return dataclasses.replace(
        profile,
        checkpoint_activations=profile.checkpoint_activations or checkpoint,
        compile=profile.compile or compile,
    )


@app.command()
def train(
    recipe: Annotated[list[str], typer.Option(help="recipe to train; repeat for several")] = [],  # noqa: B006
    chapters: Annotated[bool, typer.Option(help="every run that the chapters show")] = False,
    profile: ProfileOption = "mini",
    protocol: Annotated[list[str], typer.Option(help="same-area or cross-area; repeatable")] = [],  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="repeat for several")] = [0],  # noqa: B006
    data_root: DataOption = "",
    jobs: Annotated[int, typer.Option(help="runs side by side (not with accelerate)")] = 1,
    device: Annotated[str, typer.Option(help="cuda: stop with the reason if there is none")] = "",
    checkpoint_activations: Annotated[bool, typer.Option(help=CHECKPOINT_HELP)] = False,
    compile: Annotated[bool, typer.Option(help="both branches through torch.compile")] = False,
) -> None:
    """Train runs into runs/, reusing and resuming what is there."""
    from vigorlib.grid import Job, train_all

    names = [*recipe, *(CHAPTER_RECIPES if chapters else ())]
    if not names:
        raise typer.BadParameter("name a --recipe, or --chapters for all that the book shows")
    with _one_message():
        for name in names:
            get_recipe(name)
        size = _with(get_profile(profile), checkpoint_activations, compile)
    if jobs > 1 and size != get_profile(profile):
        raise typer.BadParameter("--checkpoint-activations and --compile go with --jobs 1")
    if device:
        from vigorlib.device import pick

        with _one_message():
            pick(device)
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
        with _one_message():
            train_all(wanted, data_root, jobs)
        return
    from vigorlib import processes
    from vigorlib.runs import load_or_train

    for job in wanted:
        with _one_message():
            run = load_or_train(
                job.recipe,
                size,
                job.seed,
                job.protocol,  # type: ignore[arg-type]
                data_root,
                use_recorded=False,
            )
        if processes.is_main():
            console.print(f"{job}: {run.provenance}, top-1 {run.metrics['top1']:.1%}")
    processes.leave()


@app.command()
def grid(
    profile: ProfileOption = "mini",
    data_root: DataOption = "",
    jobs: Annotated[int, typer.Option(help="runs side by side")] = 1,
    only_plan: Annotated[bool, typer.Option("--plan", help="say what it takes, and stop")] = False,
    make_file: Annotated[
        str,
        typer.Option("--list", help="write a job list for GNU make (Slurm: RUN=srun), and stop"),
    ] = "",
) -> None:
    """Train every run of the book: the main rows, the ablations, the ledger. Resumes what is there."""
    from pathlib import Path

    from vigorlib import ablations
    from vigorlib.files import write_atomically
    from vigorlib.grid import hours_expected, make_list, train_all
    from vigorlib.runs import find

    wanted = ablations.jobs(profile)
    with _one_message():
        if make_file:
            text = make_list(wanted, data_root, jobs)
            write_atomically(Path(make_file), lambda path: path.write_text(text, encoding="utf-8"))
            console.print(f"{len(wanted)} runs in {make_file}: make -f {make_file} -k -j {jobs}")
            return
        missing = [
            job
            for job in wanted
            if not find(job.recipe, job.profile, job.seed, job.protocol, data_root, False)  # type: ignore[arg-type]
        ]
        if not missing:
            console.print(f"{len(wanted)} runs, all there already")
            return
        hours = hours_expected(missing, data_root)
        console.print(
            f"{len(wanted)} runs, {len(wanted) - len(missing)} there already. The others: about "
            f"{60 * sum(hours.values()) / jobs:.0f} min with {jobs} side by side, at the speed of "
            "steps just taken on this machine"
        )
    if not only_plan:
        with _one_message():
            train_all(missing, data_root, jobs)


@app.command()
def plan(
    recipe: Annotated[str, typer.Option(help="what would be trained")] = "vigor",
    profile: ProfileOption = "full",
    protocol: str = "same-area",
    data_root: Annotated[
        str, typer.Option(help="count its label files; empty: VIGOR's published numbers")
    ] = "",
    tflops: Annotated[
        float, typer.Option(help="your GPU's peak, 10^12/s; an A100's if not given")
    ] = 312.0,
    utilisation: Annotated[float, typer.Option(help="share of the peak that is achieved")] = 0.3,
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16, float16; empty: the profile's")
    ] = "",
    checkpoint_activations: Annotated[bool, typer.Option(help=CHECKPOINT_HELP)] = False,
    measure: Annotated[bool, typer.Option(help="run a few real steps on random images")] = False,
    batch: Annotated[
        int, typer.Option(help="pairs a measured step; 0: the profile's, or what fits")
    ] = 0,
    steps: Annotated[int, typer.Option(help="measured steps, while a minute lasts")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda: what measures")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """What a run takes before it starts: images, steps, operations, memory, disk, hours."""
    import json

    from vigorlib import plan as planning
    from vigorlib import plan_report

    with _one_message():
        what = get_recipe(recipe)
        size = _with(get_profile(profile), checkpoint_activations)
        if precision:
            size = dataclasses.replace(size, precision=precision)
        counted_for = "bfloat16" if size.precision == "auto" else size.precision
        root = _folder_to_count(profile, data_root)
        whole = planning.make_plan(what, size, protocol, root, counted_for)  # type: ignore[arg-type]
        if not as_json:
            for entry in plan_report.tables(whole, tflops, utilisation):
                console.print(entry)
        hours = {"as_given": whole.hours(tflops, utilisation)}
        value: dict[str, Any] = {**whole.as_dict(), "utilisation": utilisation, "hours": hours}
        if measure:
            measured, needed = planning.measure_here(
                what, size, whole.protocol, batch, steps, device
            )
            hours["measured"] = whole.flops / measured.tflops / 1e12 / 3600
            value |= {"measured": dataclasses.asdict(measured), "planned_bytes": needed}
            if not as_json:
                console.print(plan_report.measured_table(whole, measured, needed))
        elif device != "auto":
            planning.require_fit(whole, device)
    if as_json:
        typer.echo(json.dumps(value, indent=1))


@app.command()
def evaluate(
    recipe: Annotated[str, typer.Option(help="a trained recipe")],
    profile: ProfileOption = "mini",
    protocol: str = "same-area",
    seed: int = 0,
    data_root: DataOption = "",
    store: Annotated[bool, typer.Option(help="the run keeps what was measured")] = False,
) -> None:
    """Evaluate a trained run again and print every measurement."""
    from vigorlib import processes
    from vigorlib.runs import evaluate as measure
    from vigorlib.runs import load_or_train, store_evaluation

    with _one_message():
        run = load_or_train(recipe, profile, seed, protocol, data_root)  # type: ignore[arg-type]
        results = measure(run.network().to(processes.join()), run.test_set(data_root), run.profile)
    if store and processes.is_main():
        store_evaluation(run, *results)
    table = Table("measurement", "now", run.provenance)
    for name, value in results[0].items():
        if isinstance(value, float):
            before = run.metrics.get(name)  # younger than the record
            table.add_row(name, f"{value:.4f}", "-" if before is None else f"{before:.4f}")
    if processes.is_main():
        console.print(table)
    processes.leave()


@app.command()
def verify(
    recipe: Annotated[list[str], typer.Option(help="recorded recipe; repeatable")] = ["vigor"],  # noqa: B006
    profile: ProfileOption = "mini",
    protocol: str = "same-area",
    seed: int = 0,
    data_root: DataOption = "",
    record: Annotated[bool, typer.Option("--record", help="make it what is expected")] = False,
) -> None:
    """Train recorded runs again, from nothing, and compare within their intervals; 1 if one fails.

    Intervals are over queries (95 %), widened by what another seed on record changes.
    """
    from vigorlib import verify as verifying

    broken = 0
    for name in recipe:
        with _one_message():
            if record:
                run = verifying.record_expected(name, profile, protocol, seed, data_root)  # type: ignore[arg-type]
                console.print(f"{run.record['name']}: recorded")
                continue
            run, checks = verifying.verify(name, profile, protocol, seed, data_root)  # type: ignore[arg-type]
        table = Table("measurement", "recorded", "interval", "fresh", "")
        table.title = f"{run.title}, {protocol}, seed {seed}, {profile}, {run.profile.precision}"
        for check in checks:
            interval = "-" if check.interval is None else "{:.4f} to {:.4f}".format(*check.interval)
            said = "the same" if check.same else "holds" if check.holds else "FAILS"
            said = said if check.interval or check.same else "differs"
            row = (f"{check.recorded:.4f}", interval, f"{check.fresh:.4f}", said)
            table.add_row(check.metric, *row)
        console.print(table)
        broken += not all(check.holds for check in checks)
    if broken:
        console.print(f"{broken} of {len(recipe)} recorded results do not hold here")
        raise typer.Exit(1)


@app.command()
def localize(
    picture: Annotated[str, typer.Argument(help="a panorama or a phone's picture")],
    heading: Annotated[
        float | None, typer.Option(help="of its centre, degrees from north; not given: all tried")
    ] = None,
    fov: Annotated[
        float | None, typer.Option(help="a phone's horizontal field of view, degrees")
    ] = None,
    tiles: Annotated[str, typer.Option(help="a folder of your own tiles, named by GPS")] = "",
    tile_m: Annotated[
        float | None, typer.Option(help="their width in metres; not given: zoom 20")
    ] = None,
    recipe: Annotated[str, typer.Option(help="a trained recipe")] = "vigor",
    profile: ProfileOption = "mini",
    protocol: str = "same-area",
    data_root: DataOption = "",
    near: Annotated[
        tuple[float, float] | None, typer.Option(help="latitude and longitude of a GPS fix")
    ] = None,
    radius: Annotated[float, typer.Option(help="metres around it")] = 200.0,
    csv: Annotated[str, typer.Option(help="write the matches to this file")] = "",
    geojson: Annotated[str, typer.Option(help="write them to this file")] = "",
) -> None:
    """Where was this picture taken? The ten best tiles of the test cities, or of your own."""
    from pathlib import Path

    from vigorlib.localize import Localizer
    from vigorlib.own_pictures import prepare
    from vigorlib.runs import find
    from vigorlib.uploads import read_picture

    with _one_message():
        own = prepare(read_picture(picture), heading, fov)
        run = find(recipe, profile, 0, protocol, data_root)  # type: ignore[arg-type]
        if run is None:
            raise ValueError(
                f"there is no run of {recipe} in {profile}, {protocol}: train it with `python -m "
                f"vigorlib train --recipe {recipe} --profile {profile} --protocol {protocol}`"
            )
        localizer = (
            Localizer.from_folder(tiles, run, tile_m=tile_m)
            if tiles
            else Localizer.from_run(run, data_root)
        )
        circle, query = (*near, radius) if near else None, Path(picture).name
        for note in own.notes:
            console.print(note)
        if own.heading_deg is None:
            turned = localizer.try_headings(own, near=circle, query=query)
            console.print(turned.sentence())
            result = turned.result
        else:
            result = localizer.locate(own, near=circle, query=query)
        if csv:
            result.to_csv(csv)
        if geojson:
            result.to_geojson(geojson)
    if localizer.skipped:
        console.print(f"{len(localizer.skipped)} images are no tiles, for instance", end=" ")
        console.print("{}: {}".format(*localizer.skipped[0]), markup=False)
    where = tiles or data_root or "the embedded city"
    console.print(_match_table(result, f"profile {profile}: {result.searched:,} tiles of {where}"))


def _match_table(result: Result, source: str) -> Table:
    """The ten best matches of an answer."""
    table = Table(
        "", "similarity", "tile centre", "city", "position found", "IOU", "metres to the GPS"
    )
    table.title = f"{result.method}, {source} searched"
    for m in result.matches[:10]:
        iou, error = ("-" if v is None else f"{v:.2f}" for v in (m.iou, m.error_m))
        place = f"{m.predicted_lat_deg:.6f} {m.predicted_lon_deg:.6f}"
        tile = f"{m.lat_deg:.6f} {m.lon_deg:.6f}"
        table.add_row(str(m.rank), f"{m.similarity:.3f}", tile, m.city, place, iou, error)
    return table


@app.command(name="app")
def serve_app(
    profile: ProfileOption = "mini",
    data_root: DataOption = "",
    tiles: Annotated[str, typer.Option(help="a folder of your own tiles, named by GPS")] = "",
    tile_m: Annotated[
        float | None, typer.Option(help="their width in metres; not given: zoom 20")
    ] = None,
    port: Annotated[int, typer.Option(help="of the page")] = 8866,
    address: Annotated[
        str, typer.Option(help="whom to serve: 127.0.0.1 is this machine only")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="open one")] = True,
) -> None:
    """The localization system as a page, to click."""
    from vigorlib.app.serve import serve

    with _one_message():
        status = serve(profile, data_root, tiles, tile_m, address, port, browser)
    raise typer.Exit(status)


def _folder_to_count(profile: str, data_root: str) -> Path | None:
    """The data root, or the embedded city of the profile if it has been made; nothing is made."""
    from vigorlib.dataset import data_folder, embedded_city

    if data_root:
        return data_folder(profile, data_root)
    made = embedded_city(profile)
    return made if made.is_dir() else None


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
        console.print(
            str(keep_run(run, wanted, tiles=name in CHAPTER_RECIPES and "short" not in profile))
        )


if __name__ == "__main__":
    app()
