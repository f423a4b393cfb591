"""Encoding and decoding time of showers, for each step and typical chains: python benchmarks/encoding.py [EVENTS] [THREADS].

Repeats the showers of the sample (504 cells) up to EVENTS (default 100,000). Encodings are fitted to 4,000 showers.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import awkward as ak
import torch

from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.io import reader
from hepgan.data.schema import Field, Schema

SHOWERS = Schema(
    {
        "layer_0": Field((3, 96), "MeV"),
        "layer_1": Field((12, 12), "MeV"),
        "layer_2": Field((12, 6), "MeV"),
    },
    {"energy": Field(unit="GeV")},
)
SUMS = {"step": "layer_sums", "incident": "energy", "threshold": 0.01}
LOG = {"step": "log", "threshold": 0.01}
FRACTIONS = [
    {"step": "threshold", "threshold": 0.01},
    {"step": "layer_fractions"},
    {"step": "total_fractions"},
    {"step": "incident_fraction", "incident": "energy"},
]
COPULA = {"step": "copula", "condition": "energy", "censored_zeros": True, "windows": 40}
CHAINS: dict[str, list[dict[str, Any]]] = {
    "scale": [{"step": "scale", "range": [0.0, 1e6]}],
    "standardize": [{"step": "standardize"}],
    "robust_standardize": [{"step": "robust_standardize"}],
    "power": [{"step": "power", "exponent": 0.5}],
    "threshold": FRACTIONS[:1],
    "dequantize": [{"step": "dequantize"}],
    "zero_noise": [{"step": "zero_noise"}],
    "log": [LOG],
    "layer_fractions": FRACTIONS[1:2],
    "layer_sums": [SUMS],
    "whiten": [{"step": "whiten"}],
    "marginals": [{"step": "marginals"}],
    "four of fractions, logit, standardize": [
        *FRACTIONS,
        {"step": "logit", "fields": ["layer_0", "layer_1", "layer_2"]},
        {"step": "standardize"},
    ],
    "layer_sums, log, standardize": [SUMS, LOG, {"step": "standardize"}],
    "log, marginals given the energy": [
        LOG,
        {"step": "marginals", "condition": "energy", "censored_zeros": True},
    ],
    "layer_sums, log, copula without sweeps": [SUMS, LOG, COPULA | {"sweeps": 0}],
    "layer_sums, log, copula": [SUMS, LOG, COPULA],
}


def timed(call: Callable[[], Any], repeat: int) -> tuple[Any, float, float]:
    """Returns the result of ``call`` and its minimum wall and CPU times [s]."""
    wall, cpu = [], []
    for _ in range(repeat):
        start, spent = time.perf_counter(), time.process_time()
        result = call()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - spent)
    return result, min(wall), min(cpu)


def main(events: str = "100000", threads: str = "2") -> None:
    """Prints the table."""
    torch.set_num_threads(int(threads))
    sample = reader.read("sample:showers.root", SHOWERS)
    number = int(events)
    many = ak.concatenate([sample] * -(-number // len(sample)))[:number]
    energy = {"energy": ConditionScale((1.0, 100.0), "log")}
    print(f"{number:,} showers, {threads} threads, torch {torch.__version__}\n")
    print(
        "| steps | encode wall [s] | CPU [s] | decode wall [s] | CPU [s] |\n|---|---|---|---|---|"
    )
    for name, steps in CHAINS.items():
        settings = EncodingSettings(tuple(steps), energy)
        encoding = Encoding.fit(sample[:4000], SHOWERS, settings, seed=1)
        repeat = 1 if name.endswith("copula") else 3
        (x, c), wall, cpu = timed(lambda e=encoding: e.encode(many, seed=1), repeat)
        _, back, spent = timed(lambda e=encoding, x=x, c=c: e.decode(x, c), repeat)
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {back:.2f} | {spent:.2f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
