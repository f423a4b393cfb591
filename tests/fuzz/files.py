"""Reads thousands of damaged files: python tests/fuzz/files.py [--count 10000] [--seed 1] [--jobs 2] [--kinds ttree hdf5 ...].

Damages small valid files of each kind (TTree, RNTuple, HDF5, IDX, XML, safetensors, JSON, TOML): flips bits, overwrites
blocks and counts, cuts off the end, or replaces single values and tensors. Then passes them to the functions that users call.
Only a ``HepganError`` may be raised, within 10 s and 2 GB per file. Prints a table; if a file fails, keeps it in ``--keep``
(default: fuzz-failures/) and exits with 1.
"""

import argparse
import collections
import json
import multiprocessing
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

TIME_LIMIT = 10
"""Time limit for reading one file [s]."""

MEMORY_LIMIT = 2 * 2**30
"""Limit on the growth of the peak memory while reading one file [bytes]."""

STARTUP_LIMIT = 120
"""Time limit for a worker to import torch and write the valid files [s]."""

TEXT_KINDS = {"json", "history", "run.toml", "xml"}

COUNTS = (0, 10**9, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
"""Counts and lengths that overwrite eight bytes of a binary file."""

JSON_VALUES = (
    None, True, -1, 2, 10**9, 2**63, 10**30, 1e308, "", "x", "\x00", [], {}, [10**9] * 4, {"a": 1},
)  # fmt: skip
"""Replacements for a value of a JSON file."""


class FileTimeoutError(Exception):
    """Reading a file exceeded the time limit."""


HOSTILE_TOKENS = (
    b"-1", b"0", b"1e308", b"-0.0", b"NaN", b"Infinity", b"1e-320", b"1" + b"0" * 30, b"3.5", b'"text"', b"[]", b"{}", b"null",
    b"true", b"[1, [2, [3]]]", b"[" * 200 + b"]" * 200, b'""', b'"\\u0000"', b"nan", b"inf", b"9223372036854775808", b"''",
)  # fmt: skip
"""Replacements for a number or a string in a text file."""


def damage(content: bytes, kind: str, rng: random.Random) -> bytes:
    """Returns ``content`` with one kind of damage; half of the time one that keeps a structured file well-formed."""
    if kind == "json" and rng.random() < 0.3:
        return _replace_json_value(content, rng)
    if kind in TEXT_KINDS and rng.random() < 0.5:
        return _replace_token(content, rng)
    if kind in ("safetensors", "checkpoint") and rng.random() < 0.5:
        return _replace_tensor(content, rng)
    return _corrupt_bytes(content, rng)


def _replace_json_value(content: bytes, rng: random.Random) -> bytes:
    document = json.loads(content)
    container, key = rng.choice(list(_json_items(document)))
    if rng.random() < 0.1:
        del container[key]
    else:
        container[key] = rng.choice(JSON_VALUES)
    return json.dumps(document).encode()


def _json_items(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yields (container, key or index) of every value below ``value``."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _json_items(value[key])


def _replace_token(content: bytes, rng: random.Random) -> bytes:
    tokens = list(re.finditer(rb'-?\d[\d.eE+-]*|"[^"\n]*"|true|false|null', content))
    for token in sorted(
        rng.sample(tokens, min(len(tokens), rng.choice([1, 1, 2]))), key=lambda m: -m.start()
    ):
        other = rng.choice([rng.choice(HOSTILE_TOKENS), rng.choice(tokens)[0]])
        content = content[: token.start()] + other + content[token.end() :]
    return content


def _replace_tensor(content: bytes, rng: random.Random) -> bytes:
    size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + size]).get("__metadata__")
    tensors = safetensors.numpy.load(content)
    name = rng.choice(sorted(tensors))
    old = tensors.pop(name)
    match rng.randrange(7):
        case 0:
            pass
        case 1:
            tensors[name + "x"] = old
        case 2:
            tensors[name] = np.full_like(old, np.nan if old.dtype.kind == "f" else 0)
        case 3:
            tensors[name] = old.astype(rng.choice(["float64", "int32", "uint8", "bool", "float16"]))
        case 4:
            tensors[name] = old.reshape(-1)[: old.size // 2]
        case 5:
            tensors[name] = np.zeros(rng.choice([(0,), (1,), (7, 3), ()]), old.dtype)
        case 6:
            tensors[name] = np.asarray(old + rng.choice([1, 100, 3])).astype(old.dtype)
    plain = {
        key: np.ascontiguousarray(tensor).reshape(np.shape(tensor))
        for key, tensor in tensors.items()
    }
    return safetensors.numpy.save(plain, metadata)


def _corrupt_bytes(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    size = len(data)
    # Headers matter most, so half of the offsets are near the start or the end.
    offset = lambda: rng.choice(
        [rng.randrange(size), rng.randrange(size), rng.randrange(min(size, 512)), size - 1 - rng.randrange(min(size, 512))]
    )  # fmt: skip
    match rng.randrange(6):
        case 0 | 1:
            for _ in range(rng.choice([1, 1, 2, 8, 64])):
                data[offset()] ^= 1 << rng.randrange(8)
        case 2:
            del data[rng.randrange(size) :]
        case 3:
            start = offset()
            length = rng.choice([1, 2, 4, 8, 64, 4096])
            filler = rng.choice([b"\x00", b"\xff", b"\x7f", rng.randbytes(1)])
            data[start : start + length] = (filler * length)[: size - start]
        case 4:
            start, source, length = offset(), offset(), rng.choice([4, 16, 256])
            data[start : start + length] = data[source : source + length]
        case 5:
            start = offset()
            count = struct.pack(rng.choice("<>") + "Q", rng.choice(COUNTS))
            data[start : start + 8] = count[: size - start]
    return bytes(data)


def work(
    connection: Connection, kinds: list[str], indices: list[int], seed: int, keep: Path
) -> None:
    """Reads the damaged files ``indices`` and sends (index, kind, outcome, seconds, traceback) for each."""
    sys.path.insert(0, str(Path(__file__).parent))
    warnings.simplefilter("ignore")
    from corpus import write_cases

    from hepgan.errors import HepganError

    def on_alarm(number: int, frame: object) -> None:
        raise FileTimeoutError(f"took more than {TIME_LIMIT} s")

    signal.signal(signal.SIGALRM, on_alarm)
    with tempfile.TemporaryDirectory() as name:
        corpus = write_cases(Path(name), kinds)
        connection.send("ready")
        before = _peak()
        for index in indices:
            rng = random.Random(f"{seed}:{index}")
            case, folder = corpus[index % len(corpus)]
            copy = Path(name) / "copy"
            shutil.copytree(folder, copy)
            target = copy / case.file
            target.write_bytes(damage(target.read_bytes(), case.kind, rng))
            connection.send(("start", index, f"{case.kind}:{case.file}"))
            started, text = time.perf_counter(), ""
            signal.alarm(TIME_LIMIT)
            try:
                case.read(copy)
                outcome = "read"
            except HepganError:
                outcome = "rejected"
            except FileTimeoutError:
                outcome, text = "hang", traceback.format_exc(limit=-12)
            except BaseException:  # noqa: BLE001  an unexpected exception is what this looks for
                outcome, text = "raised", traceback.format_exc(limit=-12)
            finally:
                signal.alarm(0)
            if _peak() - before > MEMORY_LIMIT:
                outcome, text, before = (
                    "memory",
                    f"{(_peak() - before) / 2**30:.1f} GB more",
                    _peak(),
                )
            if text:
                shutil.copytree(copy, keep / str(index), dirs_exist_ok=True)
            shutil.rmtree(copy)
            connection.send(
                ("done", index, case.kind, outcome, time.perf_counter() - started, text)
            )
    connection.send("end")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(
    kinds: list[str], indices: list[int], seed: int, keep: Path, jobs: int
) -> list[tuple[str, str, float, str]]:
    """Returns (kind, outcome, seconds, traceback) of each damaged file; restarts workers that die or hang in native code."""
    context = multiprocessing.get_context("spawn")
    todo = [indices[i::jobs] for i in range(jobs)]
    results: list[tuple[str, str, float, str]] = []
    workers: dict[int, tuple[Connection, object, float, tuple[int, str] | None]] = {}

    def start(i: int) -> None:
        if not todo[i]:
            return
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=work, args=(sender, kinds, todo[i], seed, keep), daemon=True
        )
        process.start()
        sender.close()
        workers[i] = receiver, process, time.monotonic() + STARTUP_LIMIT, None

    for i in range(jobs):
        start(i)
    while workers:
        for i, (pipe, process, limit, current) in list(workers.items()):
            try:
                message = pipe.recv() if pipe.poll(0.05) else None
            except EOFError:
                message = "end" if current is None and not todo[i] else "died"
            if message is None and time.monotonic() > limit:
                message = "timed out"
            match message:
                case ("start", index, name):
                    workers[i] = pipe, process, time.monotonic() + 3 * TIME_LIMIT, (index, name)
                case ("done", index, kind, outcome, seconds, text):
                    results.append((kind, outcome, seconds, f"{index}: {text}" if text else ""))
                    todo[i].remove(index)
                    workers[i] = pipe, process, time.monotonic() + 3 * TIME_LIMIT, None
                    if text:
                        print(f"--- {kind} {index} {outcome} ({current}):\n{text}", flush=True)
                    elif len(results) % 500 == 0:
                        print(f"{len(results)} of {len(indices)}", flush=True)
                case "ready":
                    workers[i] = pipe, process, time.monotonic() + 3 * TIME_LIMIT, None
                case "end":
                    del workers[i]
                case "died" | "timed out":
                    process.kill()
                    process.join()
                    del workers[i]
                    if current is None:
                        raise SystemExit(f"a worker {message} before it read a file")
                    index, name = current
                    outcome = "crash" if message == "died" else "hang"
                    print(f"--- {name} {index}: {outcome} in native code", flush=True)
                    results.append((name.partition(":")[0], outcome, 0.0, f"{index}: native"))
                    todo[i].remove(index)
                    start(i)
    return results


def main() -> None:
    """Runs the workers, prints a table and exits with 1 if a file failed."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--count", type=int, default=10_000)
    options.add_argument("--first", type=int, default=0, help="number of the first file")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--kinds", nargs="*", default=[])
    options.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    chosen = options.parse_args()
    chosen.keep.mkdir(exist_ok=True)
    indices = list(range(chosen.first, chosen.first + chosen.count))
    started = time.perf_counter()
    results = run(chosen.kinds, indices, chosen.seed, chosen.keep, chosen.jobs)
    outcomes = ("read", "rejected", "raised", "hang", "memory", "crash")
    table = collections.Counter((kind, outcome) for kind, outcome, _, _ in results)
    print(f"{'kind':14}" + "".join(f"{o:>9}" for o in outcomes) + f"{'slowest':>10}")
    for kind in sorted({kind for kind, *_ in results}):
        slowest = max(seconds for k, _, seconds, _ in results if k == kind)
        print(
            f"{kind:14}" + "".join(f"{table[kind, o]:9,}" for o in outcomes) + f"{slowest:8.1f} s"
        )
    failures = sum(table[kind, o] for kind, o in table if o not in ("read", "rejected"))
    print(f"{len(results):,} files in {time.perf_counter() - started:.0f} s, {failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
