"""A plan for people: tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from vigorlib.cost import Measured
from vigorlib.device import gigabytes
from vigorlib.plan import GPUS, LOADER_PROCESSES, Plan


def tables(plan: Plan, tflops: float, utilisation: float) -> Iterator[Table | str]:
    """What to print, in order. utilisation: the share of the peak ``tflops`` that is achieved."""
    yield (
        f"[bold]{plan.recipe}, {plan.protocol}, profile {plan.profile}[/]: {plan.steps:,} steps, "
        f"{plan.parameters / 1e6:,.1f} million parameters, descriptors of {plan.dimension:,} numbers"
    )
    yield (
        f"counts from {escape(plan.source)}: {plan.train.queries:,} queries and "
        f"{plan.train.tiles:,} tiles to train, {plan.test.queries:,} and {plan.test.tiles:,} to test"
    )
    yield _work(plan)
    yield _parts(plan)
    yield _hours(plan, tflops, utilisation)
    yield from (f"- {escape(sentence)}" for sentence in plan.assumptions)


def _work(plan: Plan) -> Table:
    forward = plan.forward
    title = (
        f"work (forward: {forward.panorama / 1e9:,.1f} GFLOP a panorama, "
        f"{forward.tile / 1e9:,.1f} a tile)"
    )
    table = Table("", "steps", "panoramas", "tiles", "PFLOP", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for entry in plan.work:
        counts = (f"{n:,}" if n else "-" for n in (entry.steps, entry.panoramas, entry.tiles))
        table.add_row(entry.name, *counts, _peta(entry.flops))
    table.add_section()
    images = [sum(getattr(e, kind) for e in plan.work) for kind in ("panoramas", "tiles")]
    table.add_row("together", *(f"{n:,}" for n in (plan.steps, *images)), _peta(plan.flops))
    return table


def _peta(flops: float) -> str:
    return f"{flops / 1e15:,.4g}"


def _parts(plan: Plan) -> Table:
    table = Table("where", "when", "what", "size", title=f"memory ({plan.precision}) and disk")
    table.columns[-1].justify = "right"
    keys = dict.fromkeys((part.where, part.when) for part in plan.parts)
    for where, when in sorted(keys, key=lambda key: ("device", "host", "disk").index(key[0])):
        parts = [part for part in plan.parts if (part.where, part.when) == (where, when)]
        for part in parts:
            table.add_row(where, when, part.name, gigabytes(part.bytes))
        if len(parts) > 1:
            together = gigabytes(plan.bytes(where, when))
            table.add_row("", "", "[bold]together[/]", f"[bold]{together}[/]")
        table.add_section()
    return table


def _hours(plan: Plan, tflops: float, utilisation: float) -> Table:
    table = Table(
        "GPU", "peak TFLOP/s", "precision", "hours of network", "hours with decoding",
        title=f"hours at {utilisation:.0%} of the peak",
    )  # fmt: skip
    for column in (table.columns[1], *table.columns[3:]):
        column.justify = "right"
    decoding = plan.decoding_core_hours / LOADER_PROCESSES
    for name, (peak, precision) in {"as given": (tflops, "-"), **GPUS}.items():
        hours = plan.hours(peak, utilisation)
        row = (f"{peak:g}", precision, f"{hours:,.1f}", f"{max(hours, decoding):,.1f}")
        table.add_row(name, *row)
    return table


def measured_table(plan: Plan, measured: Measured, needed: int) -> Table:
    """Steps that ran on this machine and what they mean for the whole plan."""
    table = Table("measured on this machine", "", show_header=True)
    per_step = ", ".join(f"{seconds:.2f}" for seconds in measured.seconds)
    peak = gigabytes(measured.peak_bytes) if measured.peak_bytes else "unknown"
    hours = plan.flops / (measured.tflops * 1e12) / 3600
    for name, value in {
        "device, precision": f"{measured.device}, {measured.precision}",
        "batch": f"{measured.pairs} panoramas, {measured.tiles} tiles",
        "seconds of each step": per_step,
        "loss of the last step": f"{measured.loss:.4f}",
        "achieved": f"{measured.tflops:.3f} TFLOP/s ({measured.flops / 1e12:.3f} TFLOP a step)",
        "peak memory": f"{peak} (planned for tensors: {gigabytes(needed)})",
        "the whole plan at this speed": f"{hours:,.0f} hours"
        if hours > 10
        else f"{hours:.2f} hours",
    }.items():
        table.add_row(name, escape(value))
    return table
