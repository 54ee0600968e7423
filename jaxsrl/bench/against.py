"""Optimizer steps of this project and of its peers, turn by turn: processor seconds on one pinned core each.

A system is a process that prints a line a step. All but one are stopped, so that what they measure is alike however
busy the machine is. Every measured step is written at once: a driver that is killed loses nothing.
"""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jax
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.save import save_weights
from jaxsrl.models.transformer import init_params

PEERS = {"trl": "trl==1.16.0 'transformers==5.23.0' 'datasets==5.2.0' torch", "tunix": "google-tunix==0.1.7"}
PACKAGE = {"trl": "trl", "tunix": "tunix"}
MODEL = ModelConfig(
    vocab=512, width=128, layers=4, heads=4, kv_heads=2, head_width=32, mlp_width=512, qkv_bias=True, dtype="float32"
)
SPECIAL = ("<pad>", "<bos>", "<eos>")
LETTERS = "abcdefghijklmnopqrstuvwxyz    "
RATE = 1e-6  # of learning, everyone's: at 1e-3 a random model's completions shrink to a seventh in three steps
WARM, TURN = 2, 1  # steps before the first turn, which compile; and of a turn, behind one that spans the pause


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A step: so many demonstrations, each with a problem and actions of so many characters, which are tokens.

    Completions end at the cap or, rarely, before: every line says how long they were on average, so that equal work is
    seen to be equal. With one action it is GRPO at the problem; with more it is SRL, and the peers get each of its
    prompts by itself.
    Tunix learns from `tunix_prompts` of them at a time, which is as many as a machine of 24 GiB has memory for: it adds
    up gradients, and the rest of its step is of all prompts.
    """

    demonstrations: int
    problem: int
    actions: int
    group_size: int
    completion_tokens: int
    tunix_prompts: int


SHAPES = {
    "grpo": Shape(demonstrations=16, problem=9, actions=1, group_size=8, completion_tokens=64, tunix_prompts=16),
    "srl": Shape(demonstrations=2, problem=200, actions=8, group_size=8, completion_tokens=96, tunix_prompts=2),
}


def main(against: Sequence[str], shapes: Sequence[str], turns: int, path: Path | None) -> None:
    """Measures and prints a line a step, then medians; each step is a JSON line of `path`, too.

    Args:
      against: NAME=FOLDER of a virtual environment, for names of PEERS.
      turns: of each system and shape; a turn measures one step.
    Raises: ValueError for an unknown name or shape, or no turn; FileNotFoundError where the environment lacks the peer.
    """
    pythons = {"jaxsrl": Path(sys.executable)} | dict(_environment(said) for said in against)
    unknown = [name for name in shapes if name not in SHAPES]
    if unknown or turns < 1:
        raise ValueError(f"shapes are {', '.join(SHAPES)} and turns >= 1, got {unknown or list(shapes)} and {turns=}")
    found: dict[str, list[float]] = {}
    for shape in shapes or SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            write_material(Path(folder), SHAPES[shape])
            commands = {name: _command(name, python, Path(folder)) for name, python in pythons.items()}
            for name, line in interleaved(commands, turns):
                key, step, seconds, tokens = f"seconds/{name}/{shape}", line["step"], line["cpu"], line["tokens"]
                found.setdefault(key, []).append(seconds)
                print(f"{key:<24} step {step} {seconds:8.3f}, {tokens:.1f} tokens a completion", flush=True)
                if path is not None:
                    told = {"key": key, "step": step, "cpu_seconds": seconds, "completion_tokens": tokens}
                    with path.open("a") as file:
                        file.write(json.dumps(told) + "\n")
    print("\nmedian processor seconds of a step, one pinned core each")
    for key, values in found.items():
        print(f"{key:<24} {statistics.median(values):8.3f}  of {len(values)}")


def _environment(said: str) -> tuple[str, Path]:
    name, equals, folder = said.partition("=")
    if name not in PEERS or not equals:
        raise ValueError(f"--against takes {' or '.join(f'{peer}=FOLDER' for peer in PEERS)}, got {said!r}")
    python = Path(folder) / "bin" / "python"
    if not list(Path(folder).glob(f"lib/python3*/site-packages/{PACKAGE[name]}")):
        raise FileNotFoundError(
            f"{folder} has no {name}: python3 -m venv {folder} && {folder}/bin/pip install {PEERS[name]}"
        )
    return name, python


def _command(name: str, python: Path, folder: Path) -> list[str]:
    core = str(max(os.sched_getaffinity(0)))
    if name == "jaxsrl":
        return [str(python), "-m", "jaxsrl.bench.peers.own_step", str(folder), core]
    return [str(python), str(Path(__file__).parent / "peers" / f"{name}_step.py"), str(folder), core]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A system's process, and the lines that it has printed."""

    process: subprocess.Popen
    errors: Path
    lines: list[dict] = field(default_factory=list)

    def until(self, count: int) -> None:
        """Waits for so many lines. Raises: RuntimeError with its last words where it ends before."""
        while len(self.lines) < count:
            if self.process.poll() is not None:
                said = "\n".join(self.errors.read_text(errors="replace").splitlines()[-5:])
                raise RuntimeError(f"{' '.join(self.process.args)} ended with {self.process.returncode}:\n{said}")
            time.sleep(0.02)

    def tell(self, what: signal.Signals) -> None:
        os.killpg(self.process.pid, what)


def interleaved(commands: Mapping[str, list[str]], turns: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Systems and the lines of their measured steps, as they are made: `step`, `cpu` seconds, mean `tokens`."""
    with tempfile.TemporaryDirectory() as folder, _started(commands, Path(folder)) as running:
        for _ in range(turns):
            for name, system in running.items():
                have = len(system.lines)
                system.tell(signal.SIGCONT)
                system.until(have + 1 + TURN)
                system.tell(signal.SIGSTOP)
                for line in system.lines[have + 1 : have + 1 + TURN]:
                    yield name, line


@contextmanager
def _started(commands: Mapping[str, list[str]], folder: Path) -> Iterator[dict[str, Running]]:
    """Every system after its first steps, stopped; none is left behind."""
    running: dict[str, Running] = {}
    surroundings = os.environ | {
        "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    try:
        for name, command in commands.items():
            errors = folder / f"{name}.err"
            with errors.open("w") as file:
                process = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True, env=surroundings,
                    cwd=folder,
                )  # fmt: skip
            system = running[name] = Running(process=process, errors=errors)
            threading.Thread(target=_read, args=(system,), daemon=True).start()
            system.until(WARM)
            system.tell(signal.SIGSTOP)
        yield running
    finally:
        for system in running.values():
            if system.process.poll() is None:
                system.tell(signal.SIGKILL)
            system.process.wait()


def _read(system: Running) -> None:
    for line in system.process.stdout:
        if line.startswith('{"step"'):  # a library may print, too
            system.lines.append(json.loads(line))


def write_material(folder: Path, shape: Shape) -> None:
    """A random model and a tokenizer in the published format, demonstrations, and their prompts one by one."""
    draw = random.Random(0)
    text = lambda length: "".join(draw.choices(LETTERS, k=length)).strip().ljust(length, "x")
    count = 16 * shape.demonstrations
    long = lambda: text(draw.randint(60, 150)) if shape.actions > 1 else "a"
    made = [(text(shape.problem), [long() for _ in range(shape.actions)]) for _ in range(count)]
    points = max(shape.actions - 1, 1)
    prompts = [
        {"prompt": problem + "\n" + "".join(action + "\n" for action in actions[:k]), "expert": actions[k]}
        for problem, actions in made for k in range(points)
    ]  # fmt: skip
    sizes = {
        "demonstrations": shape.demonstrations, "prompts": shape.demonstrations * points, "steps": 10_000,
        "group_size": shape.group_size, "completion_tokens": shape.completion_tokens,
        "tunix_prompts": shape.tunix_prompts, "reward": "ratio" if shape.actions > 1 else "lower", "lr": RATE,
        "model": asdict(MODEL),
    }  # fmt: skip
    lines = lambda rows: "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "demonstrations.jsonl").write_text(lines({"problem": p, "actions": a} for p, a in made))
    (folder / "prompts.jsonl").write_text(lines(prompts))
    (folder / "sizes.json").write_text(json.dumps(sizes))
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    params = init_params(MODEL, jax.random.key(0))
    save_weights(folder / "model", MODEL, params, dtype="float32", length=4096, source=ids)
    _write_tokenizer(folder / "model")


def _write_tokenizer(folder: Path) -> None:
    """A byte a token; what fills the vocabulary up has no letter in it."""
    vocab = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocab += [f"<#{i}>" for i in range(len(vocab), MODEL.vocab)]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(vocab)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    said = names | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4096}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
