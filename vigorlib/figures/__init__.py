"""Data -> matplotlib Figure: every plot of the book, in one style, nothing global changed."""

from vigorlib.figures.ablation_plots import ablation, forest, share_over
from vigorlib.figures.geometry_plots import (
    balance_bars,
    coverage,
    four_tile_cover,
    iou_histograms,
    iou_surface,
    mosaic,
    offset_arrows,
    offsets_scatter,
    pair,
    query_and_tiles,
)
from vigorlib.figures.label_plots import difference_fields, jumping_dot, resolutions, strips
from vigorlib.figures.ledger_plots import effects
from vigorlib.figures.result_plots import (
    compare_curves,
    error_histogram,
    iou_loss_curve,
    metre_curves,
    network_diagram,
    photo_row,
    position_maps,
    recall_curves,
    share_bars,
    sign_slip,
    training_curves,
    triplet_curves,
)
from vigorlib.figures.search_plots import growth, trade_off
from vigorlib.figures.style import BLUE, GREEN, RED

__all__ = [
    "BLUE",
    "GREEN",
    "RED",
    "ablation",
    "balance_bars",
    "compare_curves",
    "coverage",
    "difference_fields",
    "effects",
    "error_histogram",
    "forest",
    "four_tile_cover",
    "growth",
    "iou_histograms",
    "iou_loss_curve",
    "iou_surface",
    "jumping_dot",
    "metre_curves",
    "mosaic",
    "network_diagram",
    "offset_arrows",
    "offsets_scatter",
    "pair",
    "photo_row",
    "position_maps",
    "query_and_tiles",
    "recall_curves",
    "resolutions",
    "share_bars",
    "share_over",
    "sign_slip",
    "strips",
    "trade_off",
    "training_curves",
    "triplet_curves",
]
