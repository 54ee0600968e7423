"""Pairs per second of every way on this machine to compute a step's similarity, side by side in one run."""

import difflib
import importlib
import importlib.util
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from jaxsrl.bench.pairs import KINDS, pairs
from jaxsrl.ops.similarity import host, matched_length

Unit = Literal["chars", "tokens"]
Pairs = Sequence[tuple[list[int], list[int]]]
PAIR_BY_PAIR = ("difflib", "cydifflib", "rapidfuzz", "gallop")
NAMES = (*PAIR_BY_PAIR, "difflib_fast", "host", "xla", "pallas_gpu", "pallas_tpu")
DISTINCT = 256  # pairs of each kind that are made, and in one call; larger batches, which fill a device, repeat them
BATCH = {"pallas_gpu": 4096, "pallas_tpu": 4096}
INSTALLED = {"cydifflib": "cydifflib", "rapidfuzz": "rapidfuzz", "difflib_fast": "'difflib-fast>=0.4,<0.5'"}
NO_AUTOJUNK = ("difflib_fast",)  # these compute without it only
CUBIC = ("difflib", "cydifflib")  # in the length of the worst pairs: asked up to SHORT elements of them only
SHORT = 512
STRAGGLERS = ("one element against half of it", "period 2 against 3")


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One cell: pairs/s over all kinds, `kinds` apart; and how many of the compared values are not difflib's."""

    name: str
    unit: Unit
    length: int
    autojunk: bool
    rate: float
    kinds: dict[str, float]
    compared: int
    mismatches: int


@dataclass(frozen=True, kw_only=True)
class Stall:
    """One pathological pair: milliseconds, alone or added to a batch's, and whether M is the one of `gallop`."""

    name: str
    case: str
    length: int
    autojunk: bool
    ms: float
    equal: bool


def bench(names: Sequence[str], chars: Sequence[int], tokens: Sequence[int], seconds: float, repeat: int, out=print):
    """Measures and prints; returns what `--json` writes.

    Args:
      names: of NAMES; empty for all that this machine has. One that is asked for and missing raises.
      chars, tokens: lengths of steps, in code points and in token ids.
      seconds: spent at least on each implementation of each cell, a quarter on each kind.
      repeat: elements of the pathological pairs, 0 for none.
    Raises: ValueError for an unknown name; RuntimeError for one that this machine cannot run.
    """
    missing = {name: why for name in names or NAMES if (why := absent(name))}
    if missing and names:
        raise RuntimeError("; ".join(f"{name}: {why}" for name, why in missing.items()))
    present = [name for name in names or NAMES if name not in missing]
    out("\n".join([machine(), *(f"left out: {name} ({why})" for name, why in missing.items())]))
    out("rapidfuzz is another metric (longest common subsequence), not the same number\n")
    rates: list[Rate] = []
    for unit, lengths in (("chars", chars), ("tokens", tokens)):
        for length in lengths:
            for autojunk in (False, True):
                rates += cell(present, unit, length, autojunk, seconds)
            out(table([r for r in rates if (r.unit, r.length) == (unit, length)]))
    stalls: list[Stall] = []
    for n in sorted({min(SHORT, repeat), repeat} - {0}):
        made = [stall for autojunk in (False, True) for stall in pathological(present, n, autojunk)]
        made += [stall for autojunk in (False, True) for stall in straggling(present, n, autojunk)]
        stalls += made
        out(stall_table(made) if made else "")
    wrong = sum(r.mismatches for r in rates) + sum(not s.equal for s in stalls)
    out(f"mismatches: {wrong} of {sum(r.compared for r in rates) + len(stalls)} values compared")
    return {"machine": machine(), "rates": [asdict(r) for r in rates], "pathological": [asdict(s) for s in stalls]}


def machine() -> str:
    device = jax.devices()[0]
    return f"{device.device_kind}, jax {jax.__version__}, Python {platform.python_version()}, {host.cpus()} CPU cores"


def absent(name: str) -> str:
    """Why this machine cannot run it; empty if it can."""
    if name not in NAMES:
        raise ValueError(f"unknown implementation {name!r}, have {', '.join(NAMES)}")
    if name in INSTALLED and importlib.util.find_spec(name) is None:
        return f"not installed; pip install {INSTALLED[name]}"
    if name == "host" and not host.is_built():
        return f"not built; {host.COMMAND}"
    platform_of = {"pallas_gpu": "gpu", "pallas_tpu": "tpu"}.get(name)
    return f"needs a {platform_of.upper()}" if platform_of and jax.default_backend() != platform_of else ""


def cell(names: Sequence[str], unit: Unit, length: int, autojunk: bool, seconds: float) -> list[Rate]:
    """Every implementation on the same pairs; what difflib's share of the time does not reach is not compared."""
    names = able(names, autojunk)
    made = {kind: pairs(kind, DISTINCT, length, unit=unit) for kind in KINDS}
    found: dict[str, dict[str, tuple[float, list[int]]]] = {}
    for name in ("difflib", *(n for n in names if n != "difflib")):
        found[name] = {kind: measure(name, made[kind], length, autojunk, seconds / len(KINDS)) for kind in KINDS}
    return [_rate(name, found, unit, length, autojunk) for name in names]


def able(names: Sequence[str], autojunk: bool) -> list[str]:
    return [name for name in names if not autojunk or name not in NO_AUTOJUNK]


def _rate(name: str, found, unit: Unit, length: int, autojunk: bool) -> Rate:
    per_kind = {kind: rate for kind, (rate, _) in found[name].items()}
    same = [
        x == y
        for kind, (_, values) in found[name].items()
        for x, y in zip(values, found["difflib"][kind][1], strict=False)
        if name != "rapidfuzz"
    ]
    mixed = len(per_kind) / sum(1 / rate for rate in per_kind.values())
    return Rate(
        name=name, unit=unit, length=length, autojunk=autojunk, rate=mixed, kinds=per_kind,
        compared=len(same), mismatches=len(same) - sum(same),
    )  # fmt: skip


def measure(name: str, made: Pairs, width: int, autojunk: bool, seconds: float) -> tuple[float, list[int]]:
    """(pairs/s, values of the first pairs)."""
    if name in PAIR_BY_PAIR:
        return _one_by_one(one(name, autojunk), made, seconds)
    count = BATCH.get(name, DISTINCT)
    some = [made[n % len(made)] for n in range(count)]
    call = batched(name, some, width, autojunk)
    values = np.asarray(call()).tolist()[: len(made)]  # compiles
    return count / _median(call, seconds), values


def one(name: str, autojunk: bool) -> Callable[[list[int], list[int]], int]:
    """M of one pair; rapidfuzz's is the longest common subsequence."""
    if name == "rapidfuzz":
        return importlib.import_module("rapidfuzz.distance").LCSseq.similarity
    if name == "gallop":
        from jaxsrl.ops.similarity.gallop import matching_blocks

        return lambda a, b: sum(size for *_, size in matching_blocks(a, b, autojunk))
    matcher = {"difflib": difflib}.get(name) or importlib.import_module(name)
    blocks = lambda a, b: matcher.SequenceMatcher(None, a, b, autojunk=autojunk).get_matching_blocks()
    return lambda a, b: sum(size for *_, size in blocks(a, b))


def batched(name: str, made: Pairs, width: int, autojunk: bool) -> Callable[[], jax.Array]:
    """All pairs in one call, their arrays or texts already where they are computed on."""
    if name == "difflib_fast":
        return _rust(made)
    arrays = [x for side in (0, 1) for x in padded([pair[side] for pair in made], width)]
    if name == "host":
        return lambda: matched_length(*arrays, autojunk=autojunk, backend=name)
    arrays = jax.device_put(arrays)
    return lambda: jax.block_until_ready(_on_device(*arrays, autojunk=autojunk, backend=name))


def _rust(made: Pairs) -> Callable[[], list[int]]:
    """difflib-fast takes texts and gives ratios. One thread: a rate is one of a core."""
    ratio = importlib.import_module("difflib_fast").ratio
    text = lambda ids: "".join(chr(x if x < 0xD800 else x + 0x800) for x in ids)  # no surrogates
    texts, lengths = [(text(a), text(b)) for a, b in made], [len(a) + len(b) for a, b in made]
    return lambda: [round(r * n / 2) for r, n in zip(ratio(texts, threads=1), lengths, strict=True)]


@partial(jax.jit, static_argnames=("autojunk", "backend"))
def _on_device(*arrays, autojunk: bool, backend: str) -> jax.Array:
    return matched_length(*arrays, autojunk=autojunk, backend=backend)


def padded(sequences: Sequence[list[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.zeros((len(sequences), width), np.int32)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows, np.array([len(s) for s in sequences], np.int32)


def clock() -> Callable[[], float]:
    """Where CPUs do the work, the seconds they spend on this process, on all its threads: other work does not count."""
    return time.process_time if jax.default_backend() == "cpu" else time.perf_counter


def _one_by_one(function, made: Pairs, seconds: float) -> tuple[float, list[int]]:
    values: list[int] = []
    now = clock()
    begin, count = now(), 0
    while (spent := now() - begin) < seconds or not count:
        values.append(function(*made[count % len(made)]))
        count += 1
    return count / max(spent, now() - begin), values[: len(made)]


def _median(call, seconds: float) -> float:
    times: list[float] = []
    now = clock()
    while sum(times) < seconds or not times:
        begin = now()
        call()
        times.append(now() - begin)
    return float(np.median(times))


def repetitive(n: int) -> dict[str, tuple[list[int], list[int]]]:
    """Pairs that have made searches quadratic or worse: loops of a policy, and repeats against repeats."""
    cycle = lambda period, count=n: np.resize(np.arange(period), count).tolist()
    bits = np.random.default_rng(0).integers(0, 2, (2, n)).tolist()
    return {
        "identical": (cycle(n), cycle(n)),
        "one element against half of it": ([1] * n, [1] * (n // 2)),
        "one element against all distinct": ([1] * n, cycle(n)),
        "period 2 against 3": (cycle(2), cycle(3)),
        "period 7 against 11": (cycle(7), cycle(11)),
        "random bits": (bits[0], bits[1]),
        "halves exchanged": ([0] * (n // 2) + [1] * (n // 2), [1] * (n // 2) + [0] * (n // 2)),
    }


def pathological(names: Sequence[str], n: int, autojunk: bool) -> list[Stall]:
    """Each pair alone, by what computes the same number and does not take minutes for it."""
    asked = [name for name in able(names, autojunk) if name != "rapidfuzz" and (n <= SHORT or name not in CUBIC)]
    stalls = []
    for case, (a, b) in repetitive(n).items():
        want = one("gallop", autojunk)(a, b)
        for name in asked:
            call = partial(one(name, autojunk), a, b) if name in PAIR_BY_PAIR else batched(name, [(a, b)], n, autojunk)
            value = int(np.asarray(call()).reshape(()))
            ms = 1e3 * _median(call, 0.0)
            stalls.append(Stall(name=name, case=case, length=n, autojunk=autojunk, ms=ms, equal=value == want))
    return stalls


def straggling(names: Sequence[str], n: int, autojunk: bool) -> list[Stall]:
    """What one pathological pair adds to the time of a batch of ordinary ones, by what takes batches."""
    stalls = []
    for name in (name for name in able(names, autojunk) if name not in PAIR_BY_PAIR):
        ordinary = pairs("half", 16, n, unit="chars")
        batch = [ordinary[k % 16] for k in range(BATCH.get(name, 64))]
        before = _best(batched(name, batch, n, autojunk))
        for case in STRAGGLERS:
            pair = repetitive(n)[case]
            call = batched(name, [*batch[:-1], pair], n, autojunk)
            equal = int(np.asarray(call())[-1]) == one("gallop", autojunk)(*pair)
            added, case = 1e3 * (_best(call) - before), f"{case}, one of {len(batch)}"
            stalls.append(Stall(name=name, case=case, length=n, autojunk=autojunk, ms=added, equal=equal))
    return stalls


def _best(call, times: int = 5) -> float:
    """Seconds of the fastest call after one that compiles."""
    call()
    return min(_median(call, 0.0) for _ in range(times))


def table(rates: Sequence[Rate]) -> str:
    """Rows are implementations; pairs/s, as multiples of difflib where it was measured."""
    lines = [f"{rates[0].unit} {rates[0].length:<12}{'autojunk':>9}{'pairs/s':>13}{'x difflib':>11}  " + "  ".join(
        f"{kind:>11}" for kind in KINDS
    )]  # fmt: skip
    slowest = {r.autojunk: r.rate for r in rates if r.name == "difflib"}
    for r in rates:
        times = f"{r.rate / slowest[r.autojunk]:11.1f}" if r.autojunk in slowest else " " * 11
        kinds = "  ".join(f"{r.kinds[kind]:11,.0f}" for kind in KINDS)
        wrong = f"  {r.mismatches} of {r.compared} WRONG" if r.mismatches else ""
        lines.append(f"{r.name:<18}{'on' if r.autojunk else 'off':>9}{r.rate:13,.0f}{times}  {kinds}{wrong}")
    return "\n".join(lines) + "\n"


def stall_table(stalls: Sequence[Stall]) -> str:
    names = list(dict.fromkeys(s.name for s in stalls))
    lines = [f"ms for one pair of {stalls[0].length:<27}{'autojunk':>9}" + "".join(f"{name:>13} " for name in names)]
    for case, autojunk in dict.fromkeys((s.case, s.autojunk) for s in stalls):
        row = {s.name: s for s in stalls if (s.case, s.autojunk) == (case, autojunk)}
        shown = lambda stall: f"{stall.ms:13,.1f}{' ' if stall.equal else '!'}" if stall else " " * 14
        cells = "".join(shown(row.get(name)) for name in names)
        lines.append(f"{case:<46}{'on' if autojunk else 'off':>9}{cells}")
    return "\n".join(lines) + "\n"


def main(names, chars, tokens, seconds: float, repeat: int, file: Path | None) -> None:
    """The command; writes `file` last."""
    result = bench(names, chars, tokens, seconds, repeat, out=lambda text: print(text, flush=True))
    if file is not None:
        file.write_text(json.dumps(result, indent=1) + "\n")
