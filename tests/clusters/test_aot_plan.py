"""Programs of published shapes, compiled for TPUs that are not there. Needs libtpu; quick effort, seconds each."""

import pytest

from jaxsrl.clusters.aot_plan import GIB, DoesNotFit, Slices, plan
from jaxsrl.collect import BatchShapes
from jaxsrl.models.config import parameter_count, preset
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import MeshShape
from jaxsrl.update import AdamW

pytestmark = pytest.mark.needs("libtpu")

V5E, V5P, TWO = Slices(topology="v5e:4x4"), Slices(topology="v5p:2x2x2"), Slices(topology="v5e:4x4", count=2)
# Model, devices, layout of the learner and of the sampler.
CASES = [
    ("qwen2.5-0.5b", V5E, MeshShape(fsdp=16), MeshShape(data=16)),
    ("qwen2.5-0.5b", V5P, MeshShape(data=2, fsdp=4), MeshShape(data=8)),
    ("qwen2.5-0.5b", TWO, MeshShape(dcn=2, fsdp=16), MeshShape(dcn=2, data=16)),
    ("qwen3-8b", V5E, MeshShape(fsdp=4, tensor=4), MeshShape(data=4, tensor=4)),
    ("qwen3-8b", V5P, MeshShape(fsdp=8), MeshShape(data=2, tensor=4)),
    ("qwen3-8b", TWO, MeshShape(dcn=2, fsdp=4, tensor=4), MeshShape(dcn=2, data=4, tensor=4)),
]
NAMES = [f"{model} {slices.count}x{slices.topology}" for model, slices, *_ in CASES]


def compiled(model, slices, layout, sampler=None):
    """A row of 1,024 tokens for each group of devices, eight completions of 256 tokens to a prompt of 512."""
    rows = layout.row_parts
    shapes = BatchShapes(rows=rows, tokens=1024, prompt_rows=rows, prompt_tokens=512, slots=8)
    return plan(
        preset(model, remat="full"), layout, slices, GRPO(), rows=shapes, sampling=Sampling(max_new_tokens=256),
        settings=AdamW(), sampler_layout=sampler, effort="quick",
    )  # fmt: skip


@pytest.mark.parametrize("model, slices, layout, sampler", CASES, ids=NAMES)
def test_it_fits(model, slices, layout, sampler):
    found = compiled(model, slices, layout, sampler)
    found.check()
    assert [p.name for p in found.programs] == ["gradient", "apply", "reshard", "sample"]
    parts = layout.fsdp * layout.tensor
    state = 4 * 4 * parameter_count(preset(model)) / parts
    assert state <= found.state_bytes < 1.05 * state  # vectors lie whole on every device
    assert found.state_bytes <= found.needed_bytes <= found.hbm_bytes
    gradient, apply, reshard, sample = found.programs
    assert apply.peak_bytes < 1.05 * found.state_bytes  # in place
    assert any(c.kind in ("all-gather", "collective-permute") for c in gradient.collectives)
    sent = 2 * parameter_count(preset(model)) / sampler.tensor
    # What a device lacks of its part and no more: it holds a share of all widths.
    assert sum(c.bytes for c in reshard.collectives) == pytest.approx(sent * (1 - 1 / layout.fsdp), rel=0.01)
    # Sampling 256 tokens gathers less than the parameters once.
    assert sum(c.bytes for c in sample.collectives if c.kind != "all-reduce") < sent


def test_what_does_not_fit_is_refused_before_it_is_compiled():
    found = compiled("qwen3-8b", Slices(topology="v5e:2x2"), MeshShape(fsdp=4))
    assert not found.programs
    missing = 4 * 4 * parameter_count(preset("qwen3-8b")) / 4 / GIB - 15.75
    assert found.missing_bytes / GIB == pytest.approx(missing, abs=0.02)
    with pytest.raises(DoesNotFit, match=r"14.77 GiB are missing; 8.2 billion parameters in 4 .* into 16 or more"):
        found.check()


def test_what_the_compiler_refuses_is_refused_too():
    """The state of 0.5B fits one slice of four; rows of 64 k tokens with everything kept do not."""
    layout = MeshShape(fsdp=4)
    rows = BatchShapes(rows=16, tokens=65536, prompt_rows=4, prompt_tokens=512, slots=8)
    found = plan(
        preset("qwen2.5-0.5b", remat="none"), layout, Slices(topology="v5e:2x2"), GRPO(), rows=rows,
        sampling=Sampling(max_new_tokens=16), settings=AdamW(), effort="quick",
    )  # fmt: skip
    assert found.programs[0].refused and not found.programs[0].collectives
    advice = "set model.remat=full; lower rows.rows=16, down to 4"
    with pytest.raises(DoesNotFit, match=rf"'gradient' need.* TPU v5 lite, .* are missing; {advice}"):
        found.check()


def test_devices_and_layout_must_agree():
    with pytest.raises(ValueError, match="are 4 devices in 1 slices: the mesh .* of 16 must use them all"):
        compiled("qwen2.5-0.5b", Slices(topology="v5e:2x2"), MeshShape(fsdp=16))
