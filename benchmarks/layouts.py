"""Pictures in memory: the colours of a pixel side by side, or a plane a colour.

The convolutions of the paper's network, one pair, forward and backward.
"""

from __future__ import annotations

import dataclasses

import torch
from full_step import convolutions
from measure import Row, Work, compare, run_alone

from vigorlib.recipes import get_profile, get_recipe


def measured(quick: bool = False) -> list[Row]:
    recipe, profile = get_recipe("vigor"), get_profile("smoke" if quick else "full")
    profile = dataclasses.replace(profile, batch=1, hybrid_batch=1, pretrained=False)
    layouts = {"channels last": torch.channels_last, "a plane a channel": torch.contiguous_format}
    candidates: dict[str, Work] = {
        name: convolutions(recipe, profile, torch.float32, layout)
        for name, layout in layouts.items()
    }
    return compare("layout", f"1 pair, {profile.name}, float32", candidates, "channels last")


if __name__ == "__main__":
    run_alone(measured)
