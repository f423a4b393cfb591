"""Complete, commented run files proposed from data: ``hepgan init``."""

import dataclasses
import os
import re
import string
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hepgan import atomic
from hepgan.config import parse_toml
from hepgan.data.cells import Cells, read_cells
from hepgan.data.convert import calochallenge
from hepgan.data.io import inspection
from hepgan.data.io.files import sources, split_tree
from hepgan.data.io.inspection import compact_toml
from hepgan.data.io.names import printable
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, HepganError, RunError
from hepgan.evaluation.metrics import classifier
from hepgan.pipeline.config import RunConfig, of_table
from hepgan.pipeline.roles import Roles, find_roles

MOST_COLUMNS = 64
"""Maximum number of columns that are described one after the other."""

MOST_COPULA_CELLS = 1000
"""Maximum number of cells of showers for which a copula is tried beside the tree."""

VALIDATION = 0.1
"""Fraction of the events of the validation split."""

LEAST_COMPARED = 2.5 * classifier.MIN_EVENTS
"""Minimum number of validation events for a choice between encodings; a classifier and its baseline need two samples."""

AXES = ("z", "x", "y")
"""Names of the axes of cells that are proposed, as in the images of the report; the last ones of fields with fewer axes."""

MOST_ROTATED = 300_000_000
"""Maximum number of cells of all events for which rotated copies, which need memory, are added."""

MOST_ARRAY_VALUES = 2000
"""Maximum number of values of arrays with negative values, whose covariance the copula inverts."""

_Polar = tuple[tuple[int, ...], calochallenge.Layer]
"""Shape of a field, and the (first) layer of the binning that it holds."""


def init(
    files: str | Sequence[str],
    output: str | os.PathLike[str],
    *,
    tree: str | None = None,
    binning: str | os.PathLike[str] | None = None,
    geometry: str | os.PathLike[str] | None = None,
    without: Sequence[str] = (),
    seed: int = 1,
    overwrite: bool = False,
) -> str:
    """Writes a complete, commented run file for ``files``, as ``propose`` returns it.

    Raises:
        RunError: ``output`` exists or cannot be written.
        HepganError: as ``propose``.
    """
    path = Path(output)
    if path.suffix != ".toml":
        raise RunError(f"{path} does not end with .toml; rename the run file")
    if path.exists() and not overwrite:
        raise RunError(
            f"{path} exists; choose another file with -o, or replace it with --overwrite"
        )
    text = propose(files, tree=tree, binning=binning, geometry=geometry, without=without, seed=seed)
    atomic.write_text(path, text)
    return text


def propose(
    files: str | Sequence[str],
    *,
    tree: str | None = None,
    binning: str | os.PathLike[str] | None = None,
    geometry: str | os.PathLike[str] | None = None,
    without: Sequence[str] = (),
    seed: int = 1,
) -> str:
    """Returns a complete run file for ``files``, with the reason for each choice as a comment.

    Args:
        files: Paths, globs, URLs or samples.
        tree: The tree, if a file has several.
        binning: Binning XML of the CaloChallenge with the edges of cells in α and r; by default the one beside the first file
            that fits, if there is only one.
        geometry: ROOT file with the positions of irregular cells, as ``read_cells`` reads it; by default the one beside the first file
            that fits, with ``cell``, ``geo`` or ``pos`` in its name, if there is only one.
        without: Branches to leave out.
        seed: Seed of the run.

    Raises:
        DataError: a file is missing or damaged, no branch can be generated, or the binning or geometry does not fit the branches.
        RunError: there is no recipe for these data.
    """
    names = [files] if isinstance(files, str) else list(files)
    for name in filter(_is_hdf5, names):
        raise DataError(
            f"'{name}' is HDF5; convert it first: hepgan convert calochallenge '{name}' BINNING.xml"
            f" '{Path(name).with_suffix('.root')}' (or calogan, lemurs), then use that file"
        )
    if binning is not None and geometry is not None:
        raise RunError("give a binning or the positions of cells, not both")
    main = None if tree else inspection.main_tree(names)
    roles = find_roles(names, tree=tree or main, without=without)
    roles, layers, files_of_cells = _with_geometry(roles, names, binning, geometry)
    blocks = [
        _head(names, roles, seed),
        _data(names, roles, layers, irregular=bool(files_of_cells), chosen=bool(main)),
        *_schema(roles, challenge=bool(layers), ordered=bool(layers or files_of_cells)),
        *_geometry(roles, layers, files_of_cells),
        *_encoding(roles),
        _recipe(roles),
    ]
    text = printable("\n\n".join(filter(None, blocks)), keep="\n") + "\n"
    parse(text)
    return text


def propose_schema(files: str | Sequence[str], *, tree: str | None = None) -> str:
    """Returns the tables ``[schema]`` and ``[encoding.conditions]`` of the run file for ``files``, with the reasons as comments.

    Raises:
        HepganError: as ``propose``.
    """
    names = [files] if isinstance(files, str) else list(files)
    roles, layers, files_of_cells = _with_geometry(find_roles(names, tree=tree), names, None, None)
    weight = (
        [f"# [data] weight = '`{printable(roles.weight)}`'  # by its name"] if roles.weight else []
    )
    ordered = bool(layers or files_of_cells)
    blocks = [
        *_schema(roles, challenge=bool(layers), ordered=ordered),
        *weight,
        *_scales(roles),
    ]
    text = printable("\n\n".join(blocks), keep="\n")
    Schema.from_table(parse_toml(text, where="the proposed schema")["schema"])
    return text


def parse(text: str) -> RunConfig:
    """Returns the run of a proposed run file."""
    return of_table(parse_toml(text, where="the proposed run file"))


def about_model(run: RunConfig) -> str:
    """Returns one sentence on the model of a run: the encoding alone, or a GAN and what it corrects."""
    encoding = "conditional encoding" if run.schema.conditions else "encoding"
    if run.encoding.candidates:
        encoding = f"the better one of {len(run.encoding.candidates)} {encoding}s"
    if not run.steps:
        return f"{encoding} fitted by maximum likelihood, no adversarial training; the comments in [gan] of the run file and [train] steps add a GAN"
    names = [str(step.get("step")) for step in run.encoding.every_step]
    fitted = "energy_tree" in names or "autoregressive" in names
    model = encoding if fitted else "Gaussian copula" if "copula" in names else ""
    corrected = f" that corrects the {model.removeprefix('the ')}" if model else ""
    return f"a GAN{corrected}, {run.steps:,} training steps"


def is_data(source: str) -> bool:
    """Returns whether ``source`` names files with data rather than a preset or a run file."""
    path, tree = split_tree(source)
    return (
        _is_hdf5(source)
        or source.startswith("sample:")
        or bool(tree)
        or path.partition("?")[0].endswith(".root")
    )


def _is_hdf5(path: str) -> bool:
    return Path(path).suffix.lower() in {".hdf5", ".h5", ".hdf"}


def stem(source: str) -> str:
    """Returns the name of a run: of its run file, or of the first file with its data, without folders and wildcards."""
    name = Path(split_tree(source.removeprefix("sample:"))[0].partition("?")[0]).stem
    return re.sub(r"[^\w.+-]+", "", name).strip("_-.") or "run"


def _with_geometry(
    roles: Roles,
    names: Sequence[str],
    binning: str | os.PathLike[str] | None,
    geometry: str | os.PathLike[str] | None,
) -> tuple[Roles, dict[str, _Polar], dict[str, dict[str, Any]]]:
    """Returns the roles with the shapes of a binning or of irregular cells, the layers of the binning, and the tables of the positions."""
    layers = {} if geometry is not None else _layers_of(roles, names, binning)
    if layers:
        fields = {
            name: dataclasses.replace(field, shape=shape)
            for (name, field), (shape, _) in zip(roles.fields.items(), layers.values(), strict=True)
        }
        if roles.units[0] == roles.units[1]:
            roles = dataclasses.replace(roles, units=("MeV", "MeV"))
        voxels = sum(field.size for field in fields.values())
        published = calochallenge.READOUT_THRESHOLDS.get(voxels, 0.0)
        if "MeV" in roles.units and published > roles.threshold:
            reason = f"cells of at most {published:g} are empty: the read-out threshold of the CaloChallenge"
            roles = dataclasses.replace(roles, threshold=published, threshold_reason=reason)
        roles = dataclasses.replace(
            roles, kind="showers", polar=True, fields=fields, notes={}, mirrors=()
        )
    files_of_cells = {} if layers else _files_of_cells(roles, names, geometry)
    if files_of_cells:
        in_depth = files_of_cells if len(files_of_cells) == len(roles.fields) else roles.fields
        fields = {
            name: dataclasses.replace(field, shape=(field.size,)) if name in roles.notes else field
            for name, field in ((name, roles.fields[name]) for name in in_depth)
        }
        roles = dataclasses.replace(
            roles, kind="showers", polar=False, fields=fields, notes={}, mirrors=(), rotated=False
        )
    return roles, layers, files_of_cells


def _head(names: Sequence[str], roles: Roles, seed: int) -> str:
    given = f", given {', '.join(roles.conditions)}" if roles.conditions else ""
    cells = _values(roles)
    plural = "s" if len(roles.fields) > 1 else ""
    what = {
        "columns": f"a table of {cells} column{'s' if cells > 1 else ''}",
        "image": f"images of {cells} pixels",
        "showers": f"showers of {cells:,} cells in {len(roles.fields)} field{plural}",
        "arrays": f"arrays of {cells:,} values",
    }[roles.kind]
    lines = [
        f"# Proposed by hepgan init from {roles.entries:,} entries of the tree {roles.tree}. Edit it, then: hepgan run THIS.toml",
        "# The reasons for its choices follow the number signs.",
        compact_toml({"description": f"{what}{given}", "seed": seed, "threads": 0}),
    ]
    return "\n".join(lines)


def _data(
    names: Sequence[str],
    roles: Roles,
    layers: Mapping[str, _Polar],
    *,
    irregular: bool,
    chosen: bool,
) -> str:
    table: dict[str, Any] = {"files": list(names), "tree": roles.tree}
    if roles.cut:
        table["cut"] = roles.cut
    reason = f"  # {printable(roles.cut_reason)}" if roles.cut_reason else ""
    weight = {"weight": f"`{roles.weight}`"} if roles.weight else {}
    lines = [
        compact_toml({"data": table})
        + reason
        + f"\nvalidation = {VALIDATION}  # each event is in this split with this probability: for the choice of weights and encodings"
        + "\ntest = 0.2  # likewise: compared with generated events, never trained on"
        + "".join(f"\n{compact_toml({name: value})}" for name, value in weight.items())
        + ("  # by its name; generated events have weight 1" if weight else "")
        + ("\n# the other trees of the file have far fewer entries" if chosen else "")
        + "\n# stream = true  # read the events again in every epoch; by default if they do not fit into memory"
    ]
    if roles.rotated and layers and roles.entries * _values(roles) < MOST_ROTATED:
        lines[0] += (
            "\n# Mean energies do not depend on α: rotated showers are as probable, and trained on too."
            "\nrotate = { copies = 1 }"
        )
    elif roles.kind == "showers" and roles.polar:
        lines += [
            "# If a rotated shower is as probable (normal incidence, or azimuths that turn with it), train on rotated copies too:",
            "# rotate = { copies = 3, azimuth = [] }",
        ]
    elif roles.mirrors:
        changing = any(len(mirror) > 1 for mirror in roles.mirrors)
        lines[0] += (
            "\n# Mean showers equal their mirror images, which are trained on too"
            f"{', with the conditions that change' if changing else ''}."
            f"\nreflect = {_listed(roles.mirrors)}"
        )
    elif roles.kind == "showers" and not irregular:
        lines.append(f"# Mirror images are not trained on: {printable(roles.no_mirrors)}.")
        if all(len(field.shape) > 1 for field in roles.fields.values()):
            lines += [
                "# If they are as probable nevertheless, name the axes in [geometry], and list here the conditions that change sign or turn:",
                '# reflect = [{ axis = "x", negate = [], azimuth = [] }]',
            ]
    return "\n".join(lines)


def _schema(roles: Roles, *, challenge: bool, ordered: bool) -> list[str]:
    blocks = []
    if roles.incident:
        blocks.append(compact_toml({"schema": {"incident": roles.incident}}))
    if roles.kind == "showers" and len(roles.fields) > 1 and not ordered:
        blocks.append("# Are these fields in order of depth? Otherwise change their order.")
    for name, field in roles.fields.items():
        table = _field(field, roles.units[0])
        remark = f"# {roles.notes[name]}\n" if name in roles.notes else ""
        blocks.append(remark + compact_toml({"schema": {"fields": {name: table}}}))
    for name, role in roles.conditions.items():
        unit = roles.units[1] if name == roles.incident else ""
        table = {"unit": unit} if unit else {}
        remark = f"# condition: {printable(role.reason)}"
        blocks.append(f"{remark}\n{compact_toml({'schema': {'conditions': {name: table}}})}")
    if roles.incident and roles.units[0] != roles.units[1]:
        blocks.append(
            f"# The units {roles.units[0]} and {roles.units[1]} are a guess from the ratio of the cells to {printable(roles.incident)}; correct them if they are wrong."
        )
    elif roles.incident:
        reason = "that of the CaloChallenge, like the binning" if challenge else "a guess"
        blocks.append(
            f"# The unit {roles.units[0]} is {reason}; correct it everywhere if it is wrong."
        )
    elif roles.kind == "showers":
        blocks.append(
            "# Is there an energy of the incident particle? Declare it: [schema] incident = …, [schema.conditions.…], [encoding.conditions.…]"
        )
    if roles.left_out:
        blocks.append(
            "\n".join(
                f"# {printable(f'{name}: {reason}')}"
                for name, reason in sorted(roles.left_out.items())
            )
        )
    return blocks


def _field(field: Field, unit: str) -> dict[str, Any]:
    table: dict[str, Any] = {"shape": list(field.shape)} if field.shape else {}
    if unit:
        table["unit"] = unit
    if field.branches:
        table["branches"] = list(field.branches)
    if field.fill is not None:
        table |= {"fill": field.fill, "count": field.count}
    return table


def _geometry(
    roles: Roles, layers: Mapping[str, _Polar], files: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    if roles.kind != "showers":
        return []
    blocks = []
    for name in roles.fields:
        table: dict[str, Any] = {"threshold": roles.threshold}
        if roles.mirrors:
            axes = [mirror["axis"] for mirror in roles.mirrors]
            table = {"axes": ["z"] * (len(roles.fields[name].shape) - 2) + axes} | table
        if name in layers:
            layer = layers[name][1]
            table = {"r_edges": list(layer.edges), "number": float(layer.number)} | table
        table = {**files.get(name, {}), **table}
        blocks.append(compact_toml({"geometry": {name: table}}))
    if files:
        blocks[0] = (
            f"# The file fits the numbers of cells; are they in the same order?\n{blocks[0]}"
        )
    if not layers and not files:
        number = len(next(iter(roles.fields.values())).shape)
        names = ", ".join(f'"{name}"' for name in AXES[-number:])
        question = (
            "# The last two axes look like α and r. Their edges [mm]? r_edges = [0.0, …], or hepgan init --binning XML"
            if roles.polar
            else f"# Set the pitch of the cells along each axis to get lengths in mm, for example: cell = {[40.0] * number}"
            + (
                ""
                if roles.mirrors or number == 1
                else f"; and the names of the axes: axes = [{names}]"
            )
            + "\n# For cells in α and r: r_edges = [0.0, …], and polar = true in energy_tree."
            "\n# For irregular cells: hepgan init --geometry CELLS.root, with x, y, z, layer and size [mm] of each cell."
        )
        blocks[0] += f"\n{question}\n# Without it, lengths are in units of cells."
    return blocks


def _encoding(roles: Roles) -> list[str]:
    candidates: dict[str, list[dict[str, Any]]] = {}
    if roles.kind == "showers":
        tree = {"step": "energy_tree", "threshold": roles.threshold, "incident": roles.incident}
        tree = {k: v for k, v in tree.items() if v} | ({"polar": True} if roles.polar else {})
        correlation: dict[str, Any] = {"step": "correlation"}
        steps = [tree, correlation]
        remark = f"# {roles.threshold_reason}; the step correlation describes what the tree leaves"
        compared = VALIDATION * roles.entries >= LEAST_COMPARED
        one = roles.incident and len(roles.conditions) == 1
        if one and compared and _values(roles) <= MOST_COPULA_CELLS:
            candidates = {"tree": steps, "copula": _shower_copula(roles)}
    elif roles.kind == "columns":
        steps, remark = _columns_steps(roles)
    elif roles.kind == "image":
        steps, remark = [{"step": "scale", "range": [0.0, roles.largest]}], "# pixels to −1 … 1"
    else:
        steps, remark = _copula_steps(roles)
    if candidates:
        lists = "\n".join(f"{name} = {_listed(each)}" for name, each in candidates.items())
        blocks = [
            f"{remark}\n[encoding.candidates]  # all are tried on validation events; the best is used\n{lists}"
        ]
    else:
        blocks = [f"[encoding]  {remark}\nsteps = {_listed(steps)}"]
    return [*blocks, *_scales(roles)]


def _scales(roles: Roles) -> list[str]:
    blocks = []
    for name, role in roles.conditions.items():
        scale = role.scale.table()
        if role.scale.scale in ("angle", "degrees", "classes"):
            del scale["range"]
        if role.scale.scale == "linear":
            del scale["scale"]
        blocks.append(compact_toml({"encoding": {"conditions": {name: scale}}}))
    return blocks


def _shower_copula(roles: Roles) -> list[dict[str, Any]]:
    """Returns the steps of the preset ``copula``, which describe cells at one angle well."""
    return [
        {"step": "layer_sums", "incident": roles.incident, "threshold": roles.threshold},
        {"step": "log", "threshold": roles.threshold},
        {"step": "copula", "condition": roles.incident, "censored_zeros": True, "condition_on_first": ["appended"]},
        {"step": "regress", "condition": roles.incident},
    ]  # fmt: skip


def _listed(steps: Sequence[Mapping[str, Any]]) -> str:
    return "[\n" + "".join(f"  {_inline(step)},\n" for step in steps) + "]"


def _values(roles: Roles) -> int:
    """Returns the number of values of an event."""
    return sum(field.size for field in roles.fields.values())


def _columns_steps(roles: Roles) -> tuple[list[dict[str, Any]], str]:
    if _values(roles) > MOST_COLUMNS:
        return _copula_steps(roles)
    steps: list[dict[str, Any]] = [{"step": "autoregressive"}]
    if roles.integers:
        steps.insert(0, {"step": "dequantize", "fields": list(roles.integers)})
    return (
        steps,
        "# each column given the conditions and the columns before it",
    )


def _copula_steps(roles: Roles) -> tuple[list[dict[str, Any]], str]:
    values = _values(roles)
    if values > MOST_ARRAY_VALUES:
        raise RunError(
            f"{', '.join(list(roles.fields)[:3])} have {values:,} values per event, but there is no recipe for more than"
            f" {MOST_ARRAY_VALUES:,} columns or values below zero; sum lists of hits to arrays of cells, or set noise below zero to zero"
        )
    scalar = [
        n for n, r in roles.conditions.items() if r.scale.scale in ("linear", "log", "fraction")
    ]
    step: dict[str, Any] = {"step": "copula"}
    if scalar:
        step["condition"] = roles.incident or scalar[0]
    return [step], "# a Gaussian copula"


def _inline(table: Mapping[str, Any]) -> str:
    """Returns an inline table."""
    lines = compact_toml(dict(table)).splitlines()
    return f"{{ {', '.join(lines)} }}"


def _recipe(roles: Roles) -> str:
    name, values = str(roles.kind), {}
    if roles.kind == "image":
        (shape,) = (field.shape for field in roles.fields.values())
        channels, height, width = (1, *shape)[-3:]
        fits = channels <= 4 and height % 4 == 0 and width % 4 == 0
        name = "image" if fits else "image-dense"
        values = {
            "channels": channels, "height": height, "width": width,
            "rows": height // 4, "columns": width // 4,
        }  # fmt: skip
    elif roles.kind == "columns" and _values(roles) > MOST_COLUMNS:
        name = "arrays"
    file = resources.files("hepgan.presets").joinpath("recipes", f"{name}.toml")
    text = string.Template(file.read_text(encoding="utf-8")).substitute(values).strip()
    if not roles.conditions:
        text = text.replace("COND, ", "")
    if roles.kind == "image" and _like_digits(roles):
        text += "\n\n[evaluate]  # images like MNIST's are scored with its digit classifier\ndigits = true"
    return text


def _like_digits(roles: Roles) -> bool:
    """Returns whether the images are 28 × 28 pixels from 0 to 255 of ten classes 0 … 9."""
    (shape,) = (field.shape for field in roles.fields.values())
    classes = [set(role.scale.values) for role in roles.conditions.values()]
    return shape == (28, 28) and roles.largest == 255 and classes == [set(range(10))]


def _layers_of(
    roles: Roles, names: Sequence[str], binning: str | os.PathLike[str] | None
) -> dict[str, _Polar]:
    """Returns shape and layer of each field with cells in α and r, in the order of the fields; empty without a binning."""
    if binning is not None:
        if layers := _matching(roles, Path(binning)):
            return layers
        shapes = ", ".join(f"{n} {list(f.shape)}" for n, f in roles.fields.items())
        raise DataError(
            f"no particle of '{binning}' has the layers of the branches, {shapes}; give the XML of this data set"
        )
    folder = Path(sources(list(names))[0].path).parent
    found = []
    for path in sorted(folder.glob("*.xml")):
        try:
            found.append(_matching(roles, path))
        except DataError:  # another kind of XML
            continue
    found = [layers for layers in found if layers]
    return found[0] if len(found) == 1 else {}


_CELLS = re.compile(r".*(cell|geo|pos).*\.root", re.IGNORECASE)


def _files_of_cells(
    roles: Roles, names: Sequence[str], geometry: str | os.PathLike[str] | None
) -> dict[str, dict[str, Any]]:
    """Returns the entries ``file`` and ``number`` of the geometry of each field with irregular cells; empty without positions."""
    if geometry is not None:
        cells = read_cells(geometry)
        if found := _fields_of_cells(roles, cells, os.fspath(geometry)):
            return found
        shapes = ", ".join(f"{n} {list(f.shape)}" for n, f in roles.fields.items())
        sizes = ", ".join(f"{len(layer.cells):,}" for layer in cells.layers())
        raise DataError(
            f"'{geometry}' has the positions of {len(cells):,} cells, {sizes} by layer, which do not fit the branches, {shapes}; give the"
            " positions of this detector"
        )
    given = {Path(source.path).absolute() for source in sources(list(names))}
    folder = Path(sources(list(names))[0].path).parent
    every = []
    for path in sorted(folder.glob("*.root")):
        if (
            roles.kind in ("columns", "image")
            or not _CELLS.fullmatch(path.name)
            or path.absolute() in given
        ):
            continue
        try:
            every.append(_fields_of_cells(roles, read_cells(path), os.fspath(path)))
        except HepganError:  # other data
            continue
    every = [found for found in every if found]
    return every[0] if len(every) == 1 else {}


def _fields_of_cells(roles: Roles, cells: Cells, file: str) -> dict[str, dict[str, Any]]:
    """Returns the geometry of the only field with as many cells, or of the fields that are the layers of the file, in order of depth."""
    fields = {name: field.size for name, field in roles.fields.items()}
    single = [name for name, size in fields.items() if size == len(cells)]
    if len(single) == 1:
        return {single[0]: {"file": file}}
    layers = cells.layers()
    sizes = [len(layer.cells) for layer in layers]
    by_size = {size: name for name, size in fields.items()}
    if list(fields.values()) == sizes:
        names = list(fields)
    elif len(by_size) == len(fields) and sorted(fields.values()) == sorted(sizes):
        names = [by_size[size] for size in sizes]
    else:
        return {}
    return {
        name: {"file": file, "number": layer.number}
        for name, layer in zip(names, layers, strict=True)
    }


def _matching(roles: Roles, binning: Path) -> dict[str, _Polar]:
    """Returns the layers of the particle of ``binning`` that has the fields of ``roles``, or all layers in one field."""
    for layers in calochallenge.read_binning(binning).values():
        sizes = {layer.field: layer.size for layer in layers}
        if sizes == {name: field.size for name, field in roles.fields.items()}:
            by_name = {layer.field: layer for layer in layers}
            return {name: (by_name[name].shape, by_name[name]) for name in roles.fields}
        same = len({layer[1:] for layer in layers}) == 1
        if same and [sum(sizes.values())] == [field.size for field in roles.fields.values()]:
            return {name: ((len(layers), *layers[0].shape), layers[0]) for name in roles.fields}
    return {}
