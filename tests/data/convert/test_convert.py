"""Conversion to ROOT keeps the values of the sources, and bad sources leave no file."""

import functools
import gzip
import hashlib
import http.server
import math
import struct
import threading
import tracemalloc
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from hepgan import processors
from hepgan.data.convert import calogan, convert, download, fetch, mnist
from hepgan.data.convert.calochallenge import read_binning
from hepgan.data.convert.common import with_scalar_branches
from hepgan.data.convert.mnist import read_idx
from hepgan.data.io import reader
from hepgan.data.io.branches import branch_names
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

h5py = pytest.importorskip("h5py")

SHAPES = {
    "layer_0": (3, 96),
    "layer_1": (12, 12),
    "layer_2": (12, 6),
    "overflow": (3,),
    "energy": (1,),
}
RNG = np.random.default_rng(1)


def idx(array):
    codes = {"uint8": 8, "int16": 11, "float32": 13}
    head = struct.pack(f">HBB{array.ndim}I", 0, codes[array.dtype.name], array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def digits(tmp_path):
    images = RNG.integers(0, 256, (20, 8, 8), dtype="uint8")
    labels = np.arange(20, dtype="uint8") % 10
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx(images)))
    (tmp_path / "labels").write_bytes(idx(labels))
    return images, labels


def calogan_hdf5(path, events=30):
    data = {
        name: RNG.exponential(size=(events, *shape)).astype("f4") for name, shape in SHAPES.items()
    }
    with h5py.File(path, "w") as file:
        for name, values in data.items():
            file[name] = values
    return data


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_idx_files_raw_or_gzipped_are_read_back(tmp_path, dtype):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "raw").write_bytes(idx(values))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(values)))
    for name in ("raw", "packed.gz"):
        back = read_idx(tmp_path / name)
        assert back.dtype == values.dtype
        np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize("pixels", [False, True])
def test_mnist_keeps_images_and_labels(tmp_path, digits, pixels):
    out = tmp_path / "out.root"
    schema = convert(
        "mnist", [tmp_path / "labels", tmp_path / "images.gz"], out, pixel_branches=pixels
    )
    events = reader.read(out, schema)
    np.testing.assert_array_equal(events["image"], digits[0])
    np.testing.assert_array_equal(events["label"], digits[1])
    assert str(events.type) == "20 * {image: 8 * 8 * uint8, label: uint8}"
    keys = uproot.open(out)["mnist"].keys()
    assert keys == ([f"pixel{i}" for i in range(64)] if pixels else ["image"]) + ["label"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda data: data[:-1],
            r"has 1279 bytes of data, but its header declares \[20, 8, 8\], 1280 bytes",
        ),
        (lambda data: data + b"0", "has more than 1280 bytes"),
        (lambda data: data[:9], "truncated: its header declares 3 dimensions"),
        (lambda data: b"P5 28 28" + data, "is not an IDX file: it starts with b'P5 2'"),
        (lambda data: b"", "is not an IDX file"),
        (lambda data: gzip.compress(data)[:-20], "cannot be read .* copy it again"),
    ],
)
def test_idx_files_of_wrong_length_raise(tmp_path, digits, change, message):
    (tmp_path / "images.gz").write_bytes(change(idx(digits[0])))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=message):
        convert("mnist", [tmp_path / "images.gz", tmp_path / "labels"], tmp_path / "out.root")
    assert sorted(tmp_path.iterdir()) == before


def test_images_and_labels_must_match(tmp_path, digits):
    (tmp_path / "labels").write_bytes(idx(digits[1][:-1]))
    with pytest.raises(DataError, match=r"20 images but 19 labels"):
        convert("mnist", [tmp_path / "images.gz", tmp_path / "labels"], tmp_path / "out.root")
    with pytest.raises(
        DataError, match=r"MNIST needs one file of images .* but there are: '.*labels' \[19\]"
    ):
        convert("mnist", [tmp_path / "labels"], tmp_path / "out.root")


def test_calogan_hdf5_and_its_root_tree_give_the_same_showers(tmp_path):
    data = calogan_hdf5(tmp_path / "eplus.hdf5")
    flat = np.concatenate(
        [data[n].reshape(30, -1) for n in ("layer_0", "layer_1", "layer_2", "overflow")], axis=1
    )
    columns = {f"cell_{i}": flat[:, i].astype("f8") for i in range(507)}
    columns["TotalEnergy"] = data["energy"][:, 0].astype("f8")
    with uproot.recreate(tmp_path / "eplus.root") as file:
        file.mktree("fancy_tree", dict.fromkeys(columns, "f8")).extend(columns)
    for source in ("eplus.hdf5", "eplus.root"):
        schema = convert("calogan", [tmp_path / source], tmp_path / "out.root", overwrite=True)
        events = reader.read(tmp_path / "out.root", schema)
        for name, values in data.items():
            np.testing.assert_array_equal(
                events[name], values[:, 0] if name == "energy" else values
            )
    from_hdf5 = calogan.showers([tmp_path / "eplus.hdf5"] * 2)
    assert sum(map(len, from_hdf5.chunks)) == 60
    pixels = with_scalar_branches(from_hdf5).all
    assert [b for n, f in pixels.items() for b in branch_names(n, f)] == list(columns)


def calochallenge(folder, name="photon"):
    """Writes a small data set with layers 0 (one angle), 2 (three angles) and an empty layer 1."""
    (folder / "binning.xml").write_text(
        f'<Bins><Bin pid="22" name="{name}"><Layer id="0" r_edges="0,5,10" n_bin_alpha="1" />'
        '<Layer id="1" r_edges="0" n_bin_alpha="1" /><Layer id="2" r_edges="0,1,2,4,8" n_bin_alpha="3"/></Bin>'
        '<Bin pid="211" name="pion"><Layer id="0" r_edges="0,1" n_bin_alpha="1"/></Bin></Bins>'
    )
    showers, energy = RNG.exponential(size=(10, 14)), RNG.uniform(size=(10, 1))
    with h5py.File(folder / "set.hdf5", "w") as file:
        file["showers"], file["incident_energies"] = showers, energy
    return showers, energy


def test_calochallenge_voxels_are_ordered_by_layer_angle_and_radius(tmp_path):
    showers, energy = calochallenge(tmp_path)
    schema = convert(
        "calochallenge", [tmp_path / "set.hdf5", tmp_path / "binning.xml"], tmp_path / "out.root"
    )
    assert {name: field.shape for name, field in schema.fields.items()} == {
        "layer_0": (1, 2),
        "layer_2": (3, 4),
    }
    events = reader.read(tmp_path / "out.root", schema)
    np.testing.assert_array_equal(events["energy"], energy[:, 0].astype("f4"))
    for a in range(3):
        for r in range(4):
            np.testing.assert_array_equal(
                events["layer_2"][:, a, r], showers[:, 2 + 4 * a + r].astype("f4")
            )
    assert [layer.edges for layer in read_binning(tmp_path / "binning.xml")["photon"]] == [
        (0, 5, 10),
        (0, 1, 2, 4, 8),
    ]


def test_published_binnings_give_the_published_numbers_of_voxels(tmp_path):
    # Radii and angles of data set 1, photons (368 voxels), and of data sets 2 and 3 (arXiv:2410.21611).
    published = {
        368: [(0, 8, 1), (1, 16, 10), (2, 19, 10), (3, 5, 1), (12, 5, 1)],
        6480: [(i, 9, 16) for i in range(45)],
        40500: [(i, 18, 50) for i in range(45)],
    }
    for voxels, layers in published.items():
        lines = (
            f'<Layer id="{i}" r_edges="{",".join(map(str, range(r + 1)))}" n_bin_alpha="{a}"/>'
            for i, r, a in layers
        )
        (tmp_path / "b.xml").write_text(f'<Bins><Bin name="p">{"".join(lines)}</Bin></Bins>')
        assert sum(layer.size for layer in read_binning(tmp_path / "b.xml")["p"]) == voxels


def par04(path, z=(0, 44, 3, 3), energies=(1.0, 2.0, 4.0, 8.0), **angles):
    lists = {
        "EnergyCell": ak.Array([list(energies), [], [16.0]]),
        "zCell": ak.Array([list(z), [], [7]]),
        "phiCell": ak.Array([[0, 49, 5, 5], [], [8]]),
        "rhoCell": ak.Array([[0, 17, 2, 2], [], [9]]),
    }
    with uproot.recreate(path) as file:
        particles = {"EnergyMC": np.array([1e3, 2e3, 3e3])}
        particles |= {name: np.array(values) for name, values in angles.items()}
        file.mktree("global", dict.fromkeys(particles, "f8")).extend(particles)
        types = {name: "var * float64" if name == "EnergyCell" else "var * int64" for name in lists}
        file.mktree("virtualReadout", types).extend(lists)


def test_par04_cells_are_placed_by_index_and_repeated_cells_are_summed(tmp_path):
    par04(tmp_path / "g4.root")
    schema = convert("par04", [tmp_path / "g4.root"], tmp_path / "out.root")
    events = reader.read(tmp_path / "out.root", schema)
    cells = ak.to_numpy(events["cells"])
    assert cells.shape == (3, 45, 50, 18)
    assert cells.sum(axis=(1, 2, 3)).tolist() == [15, 0, 16]
    assert [cells[0, 0, 0, 0], cells[0, 44, 49, 17], cells[0, 3, 5, 2], cells[2, 7, 8, 9]] == [
        1,
        2,
        12,
        16,
    ]
    assert events["energy"].to_list() == [1e3, 2e3, 3e3]
    with pytest.raises(DataError, match=r"gives 40501 branches, .* omit --pixel-branches"):
        convert("par04", [tmp_path / "g4.root"], tmp_path / "no.root", pixel_branches=True)
    par04(tmp_path / "large.root", z=(0, 45, 3, 3))
    with pytest.raises(
        DataError,
        match=r"branch 'zCell' of '.*large.root' is 45 in entry 0, outside the mesh of 45",
    ):
        convert("par04", [tmp_path / "large.root"], tmp_path / "no.root")
    assert not (tmp_path / "no.root").exists()


def test_par04_keeps_the_direction_of_the_particle_if_the_file_has_it(tmp_path):
    par04(tmp_path / "old.root")
    par04(tmp_path / "new.root", ThetaMC=[0.1, 0.2, 0.3], PhiMC=[-3.0, 0.0, 3.0])
    schema = convert("par04", [tmp_path / "new.root"], tmp_path / "out.root")
    assert list(schema.conditions) == ["energy", "theta", "phi"]
    assert schema.conditions["phi"].unit == "rad"
    events = reader.read(tmp_path / "out.root", schema)
    np.testing.assert_allclose(events["theta"], [0.1, 0.2, 0.3], rtol=1e-6)
    assert events["phi"].to_list() == [-3.0, 0.0, 3.0]
    with pytest.raises(DataError, match=r"'ThetaMC'.*old.root"):
        convert("par04", [tmp_path / "new.root", tmp_path / "old.root"], tmp_path / "no.root")
    assert not (tmp_path / "no.root").exists()


def lemurs(path, events=7, **changes):
    """Writes showers with two cells in r, three in φ and four in z."""
    data = {
        "showers": RNG.exponential(size=(events, 2, 3, 4)).astype("f4"),
        "incident_energy": RNG.uniform(1e3, 1e6, events).astype("f4"),
        "incident_theta": RNG.uniform(0.87, 2.27, events).astype("f4"),
        "incident_phi": RNG.uniform(-3.1, 3.1, events).astype("f4"),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, values in data.items():
            if values is not None:
                file.create_dataset(name, data=values, compression="gzip")
    return data


def test_lemurs_showers_have_their_direction_and_are_ordered_by_depth_azimuth_and_radius(tmp_path):
    parts = [lemurs(tmp_path / f"{i}.h5") for i in range(2)]
    schema = convert("lemurs", [tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "out.root")
    assert schema.fields["cells"].shape == (4, 3, 2)
    assert {name: field.unit for name, field in schema.all.items()} == {
        "cells": "MeV", "energy": "MeV", "theta": "rad", "phi": "rad",
    }  # fmt: skip
    assert schema.incident == "energy"
    events = reader.read(tmp_path / "out.root", schema)
    cells = ak.to_numpy(events["cells"])
    showers = np.concatenate([part["showers"] for part in parts])
    np.testing.assert_array_equal(cells[:, 3, 2, 1], showers[:, 1, 2, 3])
    np.testing.assert_array_equal(cells, showers.transpose(0, 3, 2, 1))
    for name in ("energy", "theta", "phi"):
        expected = np.concatenate([part[f"incident_{name}"] for part in parts])
        np.testing.assert_array_equal(events[name], expected)


def test_lemurs_files_without_a_direction_have_only_the_energy(tmp_path):
    lemurs(tmp_path / "par04.h5", incident_theta=None, incident_phi=None)
    schema = convert("lemurs", [tmp_path / "par04.h5"], tmp_path / "out.root")
    assert list(schema.conditions) == ["energy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"showers": None}, "no dataset 'showers' in .*bad.h5"),
        ({"showers": np.ones((7, 24))}, r"'showers' .* must be numbers \[events, any, any, any\]"),
        ({"showers": np.ones((7, 0, 3, 4))}, "have 0 cells, but a shower has 1 to"),
        ({"incident_energy": np.ones((7, 1))}, r"'incident_energy' .* must be numbers \[events\]"),
        ({"incident_phi": np.ones(6)}, "different numbers of events"),
        ({"incident_phi": np.full(7, np.nan)}, "'phi' of .*bad.h5' is nan in entry 0"),
    ],
)
def test_lemurs_files_that_do_not_fit_raise_and_write_nothing(tmp_path, changes, message):
    lemurs(tmp_path / "bad.h5", **changes)
    with pytest.raises(DataError, match=message):
        convert("lemurs", [tmp_path / "bad.h5"], tmp_path / "out.root")
    assert not (tmp_path / "out.root").exists()


def test_par04_lists_of_different_lengths_and_nan_cells_raise_with_the_entry(tmp_path):
    """Even if the total lengths agree, in which case cells would move to other events."""
    with uproot.recreate(tmp_path / "moved.root") as file:
        lists = {
            "EnergyCell": ak.Array([[1.0, 2.0], [3.0], [4.0]]),
            "zCell": ak.Array([[1, 2], [3], [4]]),
            "phiCell": ak.Array([[1, 2], [3, 4], []]),
            "rhoCell": ak.Array([[1, 2], [3], [4]]),
        }
        file.mktree("global", {"EnergyMC": "f8"}).extend({"EnergyMC": np.ones(3)})
        types = {name: "var * float64" if name == "EnergyCell" else "var * int64" for name in lists}
        file.mktree("virtualReadout", types).extend(lists)
    par04(tmp_path / "nan.root", energies=(1.0, np.nan, 4.0, 8.0))
    for name, message in (
        ("moved", r"'phiCell' of '.*' has 2 values in entry 1, but 'EnergyCell' 1"),
        ("nan", r"'EnergyCell' of '.*' is nan in entry 0"),
    ):
        with pytest.raises(DataError, match=message):
            convert("par04", [tmp_path / f"{name}.root"], tmp_path / "out.root")


def test_big_endian_datasets_are_read(tmp_path):
    data = calogan_hdf5(tmp_path / "little.hdf5")
    with h5py.File(tmp_path / "big.hdf5", "w") as file:
        for name, values in data.items():
            file[name] = values.astype(values.dtype.newbyteorder(">"))
        assert file["layer_0"].dtype == ">f4"
    schema = convert("calogan", [tmp_path / "big.hdf5"], tmp_path / "out.root")
    events = reader.read(tmp_path / "out.root", schema)
    for name in ("layer_0", "overflow"):
        np.testing.assert_array_equal(events[name], data[name])


def unwritten(file, name, shape, **options):
    file.create_dataset(name, (10**9, *shape), "f4", **options)


def external(file, name, shape):
    elsewhere = str(Path(file.filename).with_suffix(".raw"))
    file.create_dataset(name, (30, *shape), "f4", external=[(elsewhere, 0, h5py.h5f.UNLIMITED)])


def virtual(file, name, shape):
    layout = h5py.VirtualLayout((30, *shape), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.hdf5", name, (30, *shape))
    file.create_virtual_dataset(name, layout)


def large_chunk(file, name, shape):
    chunk = 2**28 // math.prod(shape)
    file.create_dataset(name, (chunk, *shape), "f4", chunks=(chunk, *shape), compression="gzip")


def link(file, name, shape):
    file[name] = h5py.ExternalLink("/dev/zero", name)


@pytest.mark.parametrize(
    ("bomb", "message"),
    [
        (unwritten, r"has 1,000,000,000 events, .* but only 0 were written"),
        (functools.partial(unwritten, chunks=(100, 3, 96)), r"in 10,000,000 chunks, but only 0 were written"),
        (external, "stores its values in other files"),
        (virtual, "stores its values in other files"),
        (large_chunk, r"has chunks of 1,0\d\d,\d+,\d+ bytes, more than"),
        (link, "'layer_0' of '.*' is a link"),
    ],
)  # fmt: skip
def test_hdf5_files_that_declare_more_than_they_store_raise(tmp_path, bomb, message):
    calogan_hdf5(tmp_path / "bomb.hdf5")
    with h5py.File(tmp_path / "bomb.hdf5", "a") as file:
        del file["layer_0"]
        bomb(file, "layer_0", SHAPES["layer_0"])
    assert (tmp_path / "bomb.hdf5").stat().st_size < 10**6
    with pytest.raises(DataError, match=message):
        convert("calogan", [tmp_path / "bomb.hdf5"], tmp_path / "out.root")


def test_names_that_are_not_utf_8_are_listed(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file[b"\xff"] = [1]
    with pytest.raises(DataError, match=r"no dataset 'layer_0' in '.*'; there are: b'.xff'"):
        convert("calogan", [tmp_path / "a.hdf5"], tmp_path / "out.root")


def test_flipped_bits_of_an_hdf5_file_raise(tmp_path):
    calogan_hdf5(tmp_path / "good.hdf5", events=2)
    good = (tmp_path / "good.hdf5").read_bytes()
    rng = np.random.default_rng(3)
    damaged = 0
    for _ in range(150):
        # Headers are at the start; with few events, most of the bytes there are headers.
        bad = bytearray(good)
        bad[rng.integers(0, 4000)] ^= 1 << rng.integers(8)
        (tmp_path / "bad.hdf5").write_bytes(bad)
        try:
            assert sum(map(len, calogan.showers([tmp_path / "bad.hdf5"]).chunks)) == 2
        except DataError:
            damaged += 1
    assert damaged > 15


@pytest.mark.parametrize("size", [2 * 10**6, 30])
def test_an_idx_bomb_raises_before_it_is_unpacked(tmp_path, monkeypatch, size):
    """With a correct header, or one that declares less than is compressed: no more is decompressed than declared."""
    monkeypatch.setattr(mnist, "LARGEST", 10**6)
    head = struct.pack(">HBB3I", 0, 8, 3, size // 2, 1, 2)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(head + bytes(5 * 10**6)))
    read = 0
    count = gzip.GzipFile.readinto

    def counted(file, view):
        nonlocal read
        read += (more := count(file, view))
        return more

    monkeypatch.setattr(gzip.GzipFile, "readinto", counted)
    message = r"maximum of 1,000,000" if size > 10**6 else "has more than 30 bytes"
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "bomb.gz")
    assert read <= 31


def test_the_header_of_a_short_idx_file_allocates_no_memory(tmp_path):
    head = struct.pack(">HBB3I", 0, 8, 3, 10**6, 28, 28)
    (tmp_path / "short").write_bytes(head + b"12")
    tracemalloc.start()
    with pytest.raises(DataError, match=r"has 2 bytes of data, but its header declares \[1000000"):
        read_idx(tmp_path / "short")
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


LAYER = '<Layer id="{}" r_edges="0,1" n_bin_alpha="{}"/>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"<a><b name='p'>{LAYER.format(3, 1) * 2}</b></a>", "two layers of id 3 for the particle 'p'"),
        (f"<a>{'<b>' + LAYER.format(3, 1) + '</b>'}{'<b/>'}</a>", "the particle '' twice"),
        (f"<a><b>{LAYER.format(3, 10**20)}</b></a>", "describes 100,000,000,000,000,000,000 voxels"),
        (f"<a><b>{LAYER.format(3, -1)}</b></a>", "n_bin_alpha of layer 3 is -1"),
        ('<!DOCTYPE a [<!ENTITY e "e"><!ENTITY f "&e;&e;">]><a>&f;</a>', "has a document type definition"),
        ('<!DOCTYPE a [<!ENTITY e SYSTEM "/etc/passwd">]><a>&e;</a>', "has a document type definition"),
        ("<a>" + " " * 2**22, "has more than 4,194,304 bytes"),
        ("<a>" * 10**5, "is not a binning XML"),
    ],
)  # fmt: skip
def test_ambiguous_or_hostile_binnings_raise(tmp_path, text, message):
    (tmp_path / "b.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_binning(tmp_path / "b.xml")


def test_wrong_sources_raise_with_their_name_and_leave_no_file(tmp_path):
    calogan_hdf5(tmp_path / "good.hdf5")
    calochallenge(tmp_path)
    (tmp_path / "text.hdf5").write_text("no HDF5")
    (tmp_path / "cut.hdf5").write_bytes((tmp_path / "good.hdf5").read_bytes()[:5000])
    for name, change in (
        ("shape", "layer_0"),
        ("long", "energy"),
        ("nan", "layer_1"),
        ("missing", "overflow"),
    ):
        data = calogan_hdf5(tmp_path / f"{name}.hdf5")
        with h5py.File(tmp_path / f"{name}.hdf5", "a") as file:
            del file[change]
            if name == "shape":
                file[change] = data[change].reshape(30, -1)
            elif name == "long":
                file[change] = np.concatenate([data[change]] * 2)
            elif name == "nan":
                file[change] = np.where(data[change] == data[change][7, 3, 4], np.nan, data[change])
    (tmp_path / "bad.xml").write_text("<Bins><Bin><Layer id='0'/></Bin></Bins>")
    before = sorted(tmp_path.iterdir())
    cases = [
        (
            "calogn",
            ["good.hdf5"],
            "cannot convert 'calogn'; the known formats are: .*; did you mean 'calogan'",
        ),
        ("calogan", [], "no source is given"),
        ("calogan", ["."], "is a folder; give the files in it"),
        ("calogan", ["none.hdf5"], "'.*none.hdf5' does not exist"),
        ("calogan", ["text.hdf5"], "is not an HDF5 file or is truncated"),
        ("calogan", ["good.hdf5", "cut.hdf5"], "cut.hdf5' is not an HDF5 file or is truncated"),
        (
            "calogan",
            ["shape.hdf5"],
            r"'layer_0' of '.*' is of float32 \[30, 288\], but must be numbers \[events, 3, 96\]",
        ),
        ("calogan", ["long.hdf5"], "different numbers of events: .*'energy' 60"),
        ("calogan", ["nan.hdf5"], "'layer_1' of '.*nan.hdf5' is nan in entry 7"),
        ("calogan", ["missing.hdf5"], "no dataset 'overflow' in '.*'; there are: energy, layer_0"),
        ("calochallenge", ["set.hdf5"], "HDF5 files and one binning XML, but there are 1 and 0"),
        ("calochallenge", ["good.hdf5", "binning.xml"], "no dataset 'showers' in"),
        ("calochallenge", ["set.hdf5", "bad.xml"], "is not a binning XML .KeyError: 'r_edges'"),
        ("par04", ["good.hdf5"], "is not a ROOT file"),
    ]
    for kind, names, message in cases:
        with pytest.raises(DataError, match=message):
            convert(kind, [tmp_path / name for name in names], tmp_path / "out.root")
    with pytest.raises(DataError, match=r"good.hdf5' does not end with .root"):
        convert("calogan", [tmp_path / "good.hdf5"], tmp_path / "good.hdf5")
    assert sorted(tmp_path.iterdir()) == before


def test_voxels_that_do_not_match_the_binning_raise_with_both_numbers(tmp_path):
    calochallenge(tmp_path)
    with h5py.File(tmp_path / "set.hdf5", "a") as file:
        del file["showers"]
        file["showers"] = np.ones((10, 15))
    with pytest.raises(
        DataError, match=r"have 15 voxels, but '.*binning.xml' describes: photon 14, pion 1"
    ):
        convert(
            "calochallenge",
            [tmp_path / "set.hdf5", tmp_path / "binning.xml"],
            tmp_path / "out.root",
        )


def test_fetching_offline_raises_with_instructions(tmp_path, monkeypatch):
    pytest.importorskip("pooch")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(
        DataError,
        match=r"cannot be downloaded .* hepgan convert mnist IMAGES.gz LABELS.gz OUT.root",
    ):
        fetch("mnist", tmp_path, mirrors=["http://127.0.0.1:9/"])
    with pytest.raises(
        DataError,
        match=r"cannot fetch 'mnits'; the known data sets are: mnist; did you mean 'mnist'",
    ):
        fetch("mnits", tmp_path)


def test_fetched_files_are_checked_kept_and_converted(tmp_path, monkeypatch, digits):
    pytest.importorskip("pooch")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    served = {name: (tmp_path / name).read_bytes() for name in ("images.gz", "labels")}
    hashes = {
        name: hashlib.md5(data, usedforsecurity=False).hexdigest() for name, data in served.items()
    }
    monkeypatch.setitem(download.FILES, "mnist", {"mnist_train.root": hashes})

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path))
    ) as server:
        threading.Thread(target=server.serve_forever).start()
        mirror = f"http://127.0.0.1:{server.server_port}/"
        try:
            (tmp_path / "labels").write_bytes(b"spoilt")
            with pytest.raises(DataError, match=r"'labels' cannot be downloaded .*hash"):
                fetch("mnist", tmp_path, mirrors=[mirror])
            (tmp_path / "labels").write_bytes(served["labels"])
            (out,) = fetch("mnist", tmp_path, mirrors=["http://127.0.0.1:9/", mirror])
        finally:
            server.shutdown()
    events = reader.read(out, Schema({"image": Field((8, 8))}, {"label": Field()}))
    np.testing.assert_array_equal(events["image"], digits[0])
    # Cached files need no server.
    assert fetch("mnist", tmp_path, mirrors=["http://127.0.0.1:9/"], overwrite=True) == [out]


def test_an_empty_source_among_full_ones_contributes_no_events(tmp_path):
    calogan_hdf5(tmp_path / "full.hdf5")
    empty = calogan_hdf5(tmp_path / "none.hdf5")
    with h5py.File(tmp_path / "none.hdf5", "w") as file:
        for name, values in empty.items():
            file[name] = values[:0]
    pixels = [f"cell_{i}" for i in range(507)]
    with uproot.recreate(tmp_path / "none.root") as file:
        file.mktree("fancy_tree", dict.fromkeys([*pixels, "TotalEnergy"], "f4"))
    sources = [tmp_path / name for name in ("none.hdf5", "none.root", "full.hdf5")]
    convert("calogan", sources, tmp_path / "out.root")
    assert sum(reader.num_entries(tmp_path / "out.root").values()) == 30
    with pytest.raises(DataError, match="no events to write"):
        convert("calogan", sources[:2], tmp_path / "no.root")
    with processors.open_mapper() as mapper:
        assert processors.convert("calogan", sources, tmp_path / "one.root", mapper) == 1
        with pytest.raises(DataError, match="the sources hold no events"):
            processors.convert("calogan", sources[:2], tmp_path / "no.root", mapper)
    assert sum(reader.num_entries(tmp_path / "one.root").values()) == 30
    assert not list(tmp_path.glob("*no.root*"))
