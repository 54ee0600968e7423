"""A thousand damaged checkpoints: each is read or refused with a reason, in little memory, inside its folder."""

import json
import random
import resource
from pathlib import Path

from jaxsrl.models import load
from jaxsrl.models.families import WeightsError, read_config
from jaxsrl.models.load import INDEX, load_weights
from tests.models.checkpoints import checkpoint

FILES = 1000
VALUES = (None, -1, 0, 2**63, 1e308, True, "", "x", [], {}, [[]] * 50, {"a": {"b": 1}}, "../x", 0.5)


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """One of: cut, grown, bytes changed near the front or anywhere, the header's length set, its JSON edited."""
    kind = rng.randrange(6)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    if kind == 1:
        return data + rng.randbytes(rng.randrange(1, 100))
    if kind in (2, 3):
        out, most = bytearray(data), 2000 if kind == 2 else len(data)
        for _ in range(rng.randrange(1, 8)):
            out[rng.randrange(min(most, len(out)))] = rng.randrange(256)
        return bytes(out)
    size = int.from_bytes(data[:8], "little")
    if kind == 4:
        return rng.choice([0, 1, size - 1, size + 1, 2**31, 2**40, 2**63, 2**64 - 1]).to_bytes(8, "little") + data[8:]
    header = json.loads(data[8 : 8 + size])
    entry = rng.choice([name for name in header if name != "__metadata__"])
    key = rng.choice(["dtype", "shape", "data_offsets", None])
    if key is None:
        header[rng.choice(["x", "model.norm.weight", entry + "2"])] = header.pop(entry)
    else:
        wrong = ("F4", "BF16", "BOOL", [2**62, 4], [-1], [0, 2**63], [8, 0], [0, 4, 8], None, "x", 1e300)
        header[entry][key] = rng.choice(wrong)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def damaged_json(rng: random.Random, text: str) -> str:
    found = json.loads(text)
    inner = found.get("weight_map", found)
    kind = rng.randrange(4)
    if kind == 0:
        return text[: rng.randrange(len(text))]
    if kind == 1:
        return "[" * rng.choice([10, 100_000]) + text
    key = rng.choice(list(inner))
    if kind == 2:
        inner.pop(key)
    else:
        inner[key] = rng.choice(VALUES)
    return json.dumps(found)


def test_damaged_checkpoints_are_read_or_refused(tmp_path, monkeypatch):
    folder, rng, opened = checkpoint(tmp_path / "in", "qwen2", files=2), random.Random(0), []
    real = load.safe_open
    monkeypatch.setattr(load, "safe_open", lambda path, kind: (opened.append(Path(path)), real(path, kind))[1])
    targets = ["config.json", INDEX, *sorted(path.name for path in folder.glob("*.safetensors"))]
    before, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for _ in range(FILES):
        path = folder / rng.choice(targets)
        data = path.read_bytes()
        if path.suffix == ".json":
            path.write_text(damaged_json(rng, data.decode()))
        else:
            path.write_bytes(damaged_bytes(rng, data))
        try:
            load_weights(folder, read_config(folder))
        except WeightsError as error:
            refused += 1
            assert str(folder) in str(error) and len(str(error)) < 10_000
        path.write_bytes(data)
    load_weights(folder, read_config(folder))
    assert refused > FILES / 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB
    assert {path.parent for path in opened} == {folder}
