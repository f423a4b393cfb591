"""Histograms to ROOT files: one TH1D per source and observable."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uproot
import uproot.writing.identify

from hepgan.atomic import replace_on_success
from hepgan.data.io.names import file_names, printable

if TYPE_CHECKING:
    from hist import Hist


def write_histograms(path: Path, histograms: "Mapping[str, Hist[Any]]") -> None:
    """Writes ``Hist(source, observable)`` by name as ``<source>/<name>``, with weights squared and flow bins.

    Characters with a special meaning in ROOT paths are replaced by ``_``; the title of a histogram is the full name.

    Args:
        path: Path of the ROOT file; an existing file is replaced.
        histograms: Histograms with ``Weight`` storage. The label of the value axis becomes the title of the ROOT axis.

    Raises:
        RunError: the system cannot write the file.
    """
    keys = file_names(histograms)
    with replace_on_success(path) as part, uproot.recreate(part) as file:
        for name, histogram in histograms.items():
            sources = list(histogram.axes["source"])
            folders = file_names(sources)
            for source in sources:
                key = f"{folders[source]}/{keys[name]}"
                file[key] = _th1(histogram, source, printable(name))


def _th1(histogram: "Hist[Any]", source: str, title: str) -> Any:
    # Not uproot's `file[key] = histogram[source, :]`: its fTsumw2 is the sum of weights instead of squared weights (uproot 5.7), which
    # makes ROOT's effective entries and error of the mean wrong for weighted events; and it writes labels with control characters.
    axis = histogram.axes[1]
    view: Any = histogram.view(flow=True)[histogram.axes["source"].index(source)]
    values, variances = view["value"], view["variance"]
    inside, centers = values[1:-1], axis.centers
    return uproot.writing.identify.to_TH1x(
        fName=None,
        fTitle=title,
        data=values,
        fEntries=float(values.sum()),
        fTsumw=float(inside.sum()),
        fTsumw2=float(variances[1:-1].sum()),
        fTsumwx=float(inside @ centers),
        fTsumwx2=float(inside @ centers**2),
        fSumw2=variances,
        fXaxis=uproot.writing.identify.to_TAxis(
            fName="xaxis",
            fTitle=printable(axis.label),
            fNbins=axis.size,
            fXmin=float(axis.edges[0]),
            fXmax=float(axis.edges[-1]),
            fXbins=axis.edges,
        ),
    )
