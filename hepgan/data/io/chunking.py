"""Where chunks of a tree start and end: at the borders of baskets or clusters, so that nothing is unpacked twice."""

import itertools
import re
from typing import Any

import numpy as np

from hepgan.data.io.branches import Index, branches_of, is_rntuple
from hepgan.data.io.files import reading
from hepgan.data.schema import Schema
from hepgan.errors import DataError

UNITS = {"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def edges_of(
    tree: Any, index: Index, schema: Schema, path: str, step: int | str, last: int
) -> list[int]:
    """The entries from 0 to ``last`` at which chunks of about ``step`` start and end.

    Args:
        tree: The open tree.
        index: Its branches.
        schema: What is read of it, resolved.
        path: Its file, for messages.
        step: A number of entries, or a size in memory (``"50 MB"``).
        last: The entry to end at.

    Raises:
        DataError: ``step`` is no size, or the file is damaged.
    """
    size = step if isinstance(step, int) else max(1, int(_bytes(step) / _row_bytes(schema)))
    if size < 1:
        raise DataError(f"step {step} is not a number of entries; give 1 or more, or '50 MB'")
    with reading(path):
        borders = _borders(tree, index, schema, last)
    edges = [0]
    for before, border in itertools.pairwise([*borders, last]):
        if border > edges[-1] + size and before > edges[-1]:
            edges.append(before)
        # Branches without common borders, or one huge cluster of a TTree: memory is bounded at the cost
        # of unpacking the baskets at the cuts twice. Clusters of an RNTuple cannot be read in part.
        while not is_rntuple(tree) and border > edges[-1] + 2 * size:
            edges.append(edges[-1] + size)
    return [*edges, last]


def _borders(tree: Any, index: Index, schema: Schema, last: int) -> list[int]:
    """The borders that all branches of the schema have in common."""
    if is_rntuple(tree):
        found = [int(cluster.num_first_entry) for cluster in tree.ntuple.cluster_summaries]
    else:
        names = [n for name, field in schema.in_branches.items() for n in branches_of(name, field)]
        branches = {index[name].key: index[name].branch for name in names}
        offsets = (set(map(int, branch.entry_offsets)) for branch in branches.values())
        found = sorted(set.intersection(*offsets))
    return [0, *(border for border in found if 0 < border < last)]


def _row_bytes(schema: Schema) -> int:
    return sum(field.size * np.dtype(field.dtype).itemsize for field in schema.all.values())


def _bytes(size: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMG]?i?B?)", size.strip(), flags=re.IGNORECASE)
    if match is None or match[2].upper() not in UNITS or float(match[1]) == 0:
        raise DataError(f"step '{size}' is not a size; write it like '50 MB'")
    return float(match[1]) * UNITS[match[2].upper()]
