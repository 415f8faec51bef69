"""The sweep language: a table of axes, samples and conditions -> the parameter sets it stands for.

Pure: the same table gives the same sets in the same order, on every machine; only point files are read.
"""

from socm_like.sweep.faults import SweepError
from socm_like.sweep.labels import label_of, labels_of_sets, seed_of
from socm_like.sweep.language import read_space
from socm_like.sweep.ranges import MOST
from socm_like.sweep.sets import Exclusion, Sets
from socm_like.sweep.space import Space, nothing_left
from socm_like.sweep.values import Value

__all__ = [
    "MOST",
    "Exclusion",
    "Sets",
    "Space",
    "SweepError",
    "Value",
    "label_of",
    "labels_of_sets",
    "nothing_left",
    "read_space",
    "seed_of",
]
