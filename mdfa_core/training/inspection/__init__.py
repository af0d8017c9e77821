"""Looks into a run for drawings: the plane, weights, filters and single examples, as plain arrays.

Inspection changes nothing in the run and draws no random number. Call it in the thread that trains, between two
events, because it reads the current weights. `snapshot` collects everything that a drawing needs at one moment.

Axes: R replica, N example or point, n unit that is shown, C channel, H W space.
"""

from mdfa_core.training.inspection.arrays import Integers, Pixels, Reals, evenly_spaced
from mdfa_core.training.inspection.error_signals import ErrorSignals, class_probabilities
from mdfa_core.training.inspection.examples import UNITS, Example, LayerSignals, example
from mdfa_core.training.inspection.plane import RESOLUTION, Points, boundary, decision, is_plane, points, unit_response
from mdfa_core.training.inspection.search import SEARCHED, DisagreeingUnit, any_sign, find_disagreeing
from mdfa_core.training.inspection.snapshots import (
    Overview,
    Snapshot,
    SnapshotRequest,
    Thumbnails,
    overview,
    snapshot,
    thumbnails,
)
from mdfa_core.training.inspection.weights import (
    BINS,
    Filters,
    Histogram,
    LayerHistograms,
    filter_of,
    filters,
    histograms,
)

__all__ = [
    "BINS",
    "RESOLUTION",
    "SEARCHED",
    "UNITS",
    "DisagreeingUnit",
    "ErrorSignals",
    "Example",
    "Filters",
    "Histogram",
    "Integers",
    "LayerHistograms",
    "LayerSignals",
    "Overview",
    "Pixels",
    "Points",
    "Reals",
    "Snapshot",
    "SnapshotRequest",
    "Thumbnails",
    "any_sign",
    "boundary",
    "class_probabilities",
    "decision",
    "evenly_spaced",
    "example",
    "filter_of",
    "filters",
    "find_disagreeing",
    "histograms",
    "is_plane",
    "overview",
    "points",
    "snapshot",
    "thumbnails",
    "unit_response",
]
