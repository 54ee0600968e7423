"""A plan: memory by part against the programs themselves, what it advises, and what it prints."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from jaxsrl.__main__ import main
from jaxsrl.clusters.advice import settings_that_help
from jaxsrl.clusters.compile import compile_program, describe_devices, device_bytes
from jaxsrl.clusters.hardware import hardware
from jaxsrl.clusters.memory import estimates
from jaxsrl.clusters.placed import place
from jaxsrl.clusters.plan import DoesNotFit, check, make_plan
from jaxsrl.clusters.programs import programs
from jaxsrl.clusters.search import search, weak_scaling
from jaxsrl.clusters.shapes import evaluation_call, stage_shapes
from jaxsrl.config import Survive
from jaxsrl.config.overrides import load, override
from jaxsrl.evals.audits.verified import Verified
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.lora import LoRA
from jaxsrl.sharding import MeshShape

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "configs" / "recipes"
SMALL = ModelConfig(
    vocab=512, width=64, layers=2, heads=4, kv_heads=2, head_width=16, mlp_width=128, dtype="bfloat16", remat="full",
    qkv_bias=True,
)  # fmt: skip


def recipe(name: str, *assignments: str):
    return override(load(RECIPES / f"{name}.py"), assignments)


def small(mesh: MeshShape, sampler: MeshShape, lora: LoRA | None = None):
    """The 8B's recipe with a model that compiles in seconds."""
    rows = [f"rows.{name}={max(8, mesh.row_parts)}" for name in ("rows", "prompt_rows", "evaluate_rows")]
    made = recipe(
        "qwen3_8b_v5p_16", *rows, "rows.tokens=256", "rows.prompt_tokens=64", "rows.slots=8",
        "rows.evaluate_slots=2", "stages.srl.sampling.max_new_tokens=16",
        "stages.srl.action_tokens=16", "stages.srl.collect.demonstrations=2", "stages.srl.collect.prompts=8",
    )  # fmt: skip
    return replace(made, model=SMALL, mesh=mesh, sampler_mesh=sampler, lora=lora)


def placed_programs(config):
    stage = config.stages[0]
    devices = jax.devices()[: config.mesh.size]
    placed = place(config, stage, stage_shapes(config, stage), devices)
    return placed, list(programs(placed))


def queueing(config):
    """Three slots of a row for its eight jobs, and steps that are replayed."""
    return replace(config, rows=replace(config.rows, at_once=3), survive=Survive(replay_every=200))


CASES = {
    "one device": small(MeshShape(), MeshShape()),
    "cut": small(MeshShape(fsdp=4, tensor=2), MeshShape(data=4, tensor=2)),
    "adapters": small(MeshShape(), MeshShape(), LoRA(rank=4)),
    "queue": queueing(small(MeshShape(fsdp=4, tensor=2), MeshShape(data=4, tensor=2))),
}


@pytest.mark.parametrize("case", CASES)
def test_parts_by_formula_are_those_of_the_programs(case):
    """Of every program, part by part. What the formula leaves out are vectors, which lie whole on every device."""
    config = CASES[case]
    stage = config.stages[0]
    _, wanted = placed_programs(config)
    guessed = estimates(config, stage, stage_shapes(config, stage))
    assert [x.phase for x in guessed] == [x.phase for x in wanted]
    assert [x.times for x in guessed] == [x.times for x in wanted]
    for one, other in zip(guessed, wanted, strict=True):
        for mine, exact in ((one.parts, other.parts), (one.beside, other.beside)):
            for part in PARTS & {name for name, size in exact.items() if size}:
                assert mine[part] == pytest.approx(exact[part], rel=PARTS_OFF), (one.phase, part)
            assert PARTS & set(mine) == PARTS & {name for name, size in exact.items() if size}, one.phase


PARTS = {
    "parameters", "optimizer", "gradient", "summed gradients", "base", "sampler's copy", "sampler's parameters",
    "prompt cache", "slots' cache", "reference", "replayed state",
}  # fmt: skip
PARTS_OFF = 0.03  # vectors, which are much of so small a model


def test_what_compilers_say_is_read_and_kept(tmp_path):
    """Three small programs, compiled for simulated devices: collectives lie along the axes that cut."""
    placed, wanted = placed_programs(CASES["cut"])
    devices = hardware("8xh200")
    for phase, axes in (("reshard", {"fsdp"}), ("gradient", {"fsdp", "tensor"}), ("update", {"fsdp", "tensor"})):
        one = next(x for x in wanted if x.phase == phase)
        found = compile_program(one, devices, "quick", tmp_path)
        assert {axis for x in found.collectives for axis in x.axes} == axes
        assert found.peak_bytes >= sum(device_bytes(tree) for _, tree in one.args) and found.other_bytes >= 0
    sample = next(x for x in wanted if x.phase == "evaluation")
    there = compile_program(sample, devices, "quick")
    assert {x.axes for x in there.collectives if x.kind == "all-reduce" and x.bytes > 100} == {
        ("tensor",)
    }  # its own mesh
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 3
    for path in kept:  # the compiler is not asked again: what is kept is what is said
        path.write_text(json.dumps(json.loads(path.read_text()) | {"peak": 7}))
    assert compile_program(one, devices, "quick", tmp_path).peak_bytes == 7
    assert compile_program(one, devices, "full", tmp_path).peak_bytes != 7


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.py")), ids=lambda p: p.stem)
def test_every_recipe_fits_by_formula(path):
    from jaxsrl.commands.plan import devices_of

    head = path.read_text().split('"""')[1]
    assert all(f"{word} configs/recipes/{path.name}" in head for word in ("plan", "launch")) and "Needs: " in head
    found = make_plan(load(path), devices_of(path, None), compiled=False)
    check(found, load(path))
    assert found.name == path.stem and 0 < found.stages[0].speed.mfu < 1
    by_phase = {x.phase: x for x in found.stages[0].speed.phases}
    assert by_phase["gradient"].bound == "compute" and by_phase["sample"].bound in ("memory", "compute")


def test_what_does_not_fit_says_what_is_missing_and_what_would_mend_it():
    config = recipe("qwen3_8b_v5p_16", "model.remat=none", "rows.rows=64")
    found = make_plan(config, hardware("v5p-16"), compiled=False)
    with pytest.raises(
        DoesNotFit, match=r"program 'gradient' needs [\d.]+ GiB on each TPU v5, .* GiB are missing"
    ) as told:
        check(found, config)
    advised = settings_that_help(config, found.worst, found.missing_bytes(), "tpu")
    assert len(advised) == 3 and str(told.value).count("\n  --set ") == 3 and "model.remat=full" in str(told.value)
    for one in advised:  # each saves what it says
        mended = make_plan(override(config, one.assignments), replace_devices(one), compiled=False)
        assert found.needed_bytes - mended.needed_bytes == pytest.approx(one.saved_bytes, rel=0.01)
        assert (one.devices == 2) == ("mesh.fsdp=16" in one.assignments)
        fits = one.saved_bytes >= found.missing_bytes()
        assert (not mended.missing_bytes()) == fits


def test_the_samplers_queue_is_what_is_planned():
    """The program has the loop in which jobs queue, and less room for keys and values; a probe's calls count too."""
    alone, queue = (
        next(x for x in placed_programs(CASES[name])[1] if x.phase == "sample") for name in ("cut", "queue")
    )
    assert (alone.turns, queue.turns) == ((16,), (3 * 15 // 8 + 1, 8))
    assert queue.buffers["slots' cache"] == alone.buffers["slots' cache"] * (3 * 2 * 8 + 3 * 8) // (8 * 16)
    loops = [one.run.lower(*(x for _, x in one.args)).as_text().count("stablehlo.while") for one in (alone, queue)]
    assert loops[1] > loops[0]
    stage = CASES["cut"].stages[0]
    shapes = stage_shapes(CASES["cut"], stage)
    probed = replace(stage.validate.evaluation, probes=(Verified(),))
    more = replace(stage, validate=replace(stage.validate, evaluation=probed))
    assert Verified.calls[0].behind == "solution"
    assert evaluation_call(more, shapes).tokens == shapes.of.prompt_tokens + 2 * stage.solve_tokens
    assert evaluation_call(stage, shapes).tokens == shapes.of.prompt_tokens


def replace_devices(setting):
    """Twice the devices where the setting asks for them."""
    return hardware("v5p-32" if "mesh.fsdp=16" in setting.assignments else "v5p-16")


def test_a_mesh_must_take_the_devices():
    with pytest.raises(ValueError, match=r"v5p-32: 16 chips .* --set mesh.fsdp=16"):
        make_plan(recipe("qwen3_8b_v5p_16"), hardware("v5p-32"), compiled=False)
    with pytest.raises(ValueError, match="mesh.dcn=2"):
        make_plan(recipe("qwen2_5_0_5b_v5e_16"), hardware("2xv5e-8"), compiled=False)


def test_sizes_that_only_data_say_are_asked_for(tmp_path):
    config = recipe("qwen2_5_0_5b_h100", f"runs={tmp_path}", "rows.slots=none")
    with pytest.raises(ValueError, match=r"must say rows.slots, as --set rows.slots=N"):
        stage_shapes(config, config.stages[0])
    whole = recipe("qwen2_5_0_5b_h100")
    shapes = stage_shapes(whole, whole.stages[0])
    folder = tmp_path / config.name / "shapes"
    folder.mkdir(parents=True)
    (folder / "srl.json").write_text(json.dumps(vars(replace(shapes.of, slots=32))))
    assert stage_shapes(config, config.stages[0]).of.slots == 32  # what the run has chosen


def test_a_search_ranks_what_fits():
    found = search(recipe("qwen3_8b_v5p_16"), hardware("v5p-16"))
    assert len(found) > 20 and found[0].step_seconds <= found[-1].step_seconds
    best = make_plan(recipe("qwen3_8b_v5p_16", *found[0].assignments), hardware("v5p-16"), compiled=False)
    assert not best.missing_bytes() and best.stages[0].speed.step_seconds == pytest.approx(found[0].step_seconds)
    with pytest.raises(ValueError, match="no layout of .* fits v5e-4"):
        search(recipe("qwen3_8b_v5p_16"), hardware("v5e-4"))


def test_the_8b_scales_by_the_model():
    """95 % from 16 to 256 chips, even where no transfer hides behind a product."""
    found = weak_scaling(recipe("qwen3_8b_v5p_16"), "v5p", (16, 64, 256))
    for one in found:
        assert one.overlapped > 0.95 * found[0].overlapped and one.apart > 0.95 * found[0].apart
    assert found[2].link_seconds > found[0].link_seconds  # a control: more is sent
    with pytest.raises(ValueError, match="17 chips are no slice of v5p"):
        weak_scaling(recipe("qwen3_8b_v5p_16"), "v5p", (17,))


def test_the_command(tmp_path, capsys):
    name, file = str(RECIPES / "qwen3_8b_8xh200.py"), tmp_path / "plan.json"
    assert main(["plan", name, "--estimate", "--json", str(file)]) == 0
    text, said = capsys.readouterr().out, json.loads(file.read_text())
    freed = r"sample holds prompt cache \d+\.\d\d, slots' cache \d+\.\d\d, sampler's copy \d+\.\d\d: released before"
    assert re.search(freed, text)
    assert "8xh200: 8 GPUs" in text and "it fits" in text and "bound by" in text and "formula" in text
    needed = float(re.search(r"needed: ([\d.]+) GiB", text)[1])
    assert said["needed_bytes"] / 2**30 == pytest.approx(needed, abs=0.01) and not said["compiled"]
    assert main(["plan", name, "--estimate", "--set", "rows.prompt_rows=512"]) == 2
    said = capsys.readouterr().err
    assert "does not fit 8xh200" in said and "--set rows.prompt_rows=256" in said
    assert main(["plan", name, "--estimate", "--target", "v5p-9"]) == 2 and "v5p-8" in capsys.readouterr().err
    assert main(["plan", str(RECIPES), "--all", "--estimate"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 11
    assert main(["plan"]) == 2 and "--all" in capsys.readouterr().err


@pytest.mark.needs("libtpu")
@pytest.mark.parametrize("name", ["v5e-16", "v5p-16", "2xv5e-16"])
def test_compiled_for_tpus(name, tmp_path):
    """Gradient, update and reshard of a small model at quick effort, on one slice and on two."""
    devices = hardware(name)
    mesh = MeshShape(dcn=devices.groups, fsdp=devices.group_devices)
    config = small(mesh, replace(mesh, data=mesh.fsdp, fsdp=1))
    stage = config.stages[0]
    placed = place(config, stage, stage_shapes(config, stage), describe_devices(devices))
    wanted = {x.phase: x for x in programs(placed)}
    for phase in ("gradient", "update", "reshard"):
        found = compile_program(wanted[phase], devices, "quick", tmp_path)
        assert found.compiled and not found.refused and found.peak_bytes > 0
        assert {axis for x in found.collectives for axis in x.axes} <= {"dcn", "fsdp"}
        assert any("dcn" in x.axes for x in found.collectives) == (devices.groups > 1 and phase == "gradient")


@pytest.mark.needs("libtpu")
def test_what_the_compiler_refuses_is_refused_too():
    """A batch whose activations no v5e holds: its words are kept, and the plan says what is missing."""
    config = recipe("qwen2_5_0_5b_v5e_16", "model.remat=none", "rows.tokens=32768")
    stage, devices = config.stages[0], hardware("v5e-16")
    placed = place(config, stage, stage_shapes(config, stage), describe_devices(devices))
    wanted = next(x for x in programs(placed) if x.phase == "gradient")
    found = compile_program(wanted, devices, "quick")
    assert found.refused and not found.collectives and found.needed_bytes > devices.chip.hbm_bytes


@pytest.mark.needs("jax_cuda13_plugin")
def test_compiled_for_gpus():
    config = CASES["one device"]
    stage, devices = config.stages[0], hardware("h100")
    placed = place(config, stage, stage_shapes(config, stage), describe_devices(devices))
    wanted = next(x for x in programs(placed) if x.phase == "gradient")
    assert compile_program(wanted, devices).peak_bytes > 0
