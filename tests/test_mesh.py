"""Which device lies where in a mesh: as listed on CPU and GPU, along the torus on TPU, slices outermost."""

import itertools
from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax.experimental import mesh_utils
from jax.sharding import Mesh

from jaxsrl.sharding import MeshShape, arrange, make_mesh, relayout


@dataclass(frozen=True, kw_only=True)
class Chip:
    """What a mesh asks of a device; of one that is not there."""

    id: int
    coords: tuple[int, int, int]
    slice_index: int = 0
    core_on_chip: int = 0
    process_index: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"


def chips(x, y, z=1, slices=1, **more):
    """Listed as TPUs are: hosts of 2 x 2 chips one after another, x before y before z."""
    hosts = itertools.product(range(slices), range(z), range(0, y, 2), range(0, x, 2))
    places = [(s, (x + dx, y + dy, z)) for s, z, y, x in hosts for dy in (0, 1) for dx in (0, 1)]
    return [Chip(id=i, slice_index=s, coords=coords, **more) for i, (s, coords) in enumerate(places)]


def apart(devices, axis):
    """Steps on the torus between neighbours on a mesh axis, of all that there are."""
    pairs = zip(devices.take(range(devices.shape[axis] - 1), axis).flat, np.delete(devices, 0, axis).flat, strict=True)
    return [sum(abs(p - q) for p, q in zip(one.coords, other.coords, strict=True)) for one, other in pairs]


NEAR = [
    (chips(4, 4), MeshShape(fsdp=4, tensor=4)),
    (chips(4, 4), MeshShape(data=4, tensor=4)),
    (chips(4, 4), MeshShape(fsdp=16)),
    (chips(8, 8), MeshShape(data=8, fsdp=8)),
    # JAX's ring of eight, folded, would have neighbours on fsdp 5 / 3 steps apart.
    (chips(2, 4), MeshShape(fsdp=4, tensor=2)),
    (chips(2, 2), MeshShape(fsdp=2, tensor=2)),
    (chips(2, 2, 2, device_kind="TPU v5"), MeshShape(data=2, fsdp=2, tensor=2)),
]


@pytest.mark.parametrize("devices, layout", NEAR, ids=lambda x: x if isinstance(x, MeshShape) else f"of {len(x)}")
def test_neighbours_in_the_mesh_are_neighbours_on_the_torus(devices, layout):
    mesh = arrange(layout, devices)
    assert mesh.shape == layout.shape and set(mesh.flat) == set(devices)
    assert all(step == 1 for axis in range(4) for step in apart(mesh, axis))
    # A control: the listed order goes host by host.
    assert len(devices) < 16 or max(apart(np.array(devices).reshape(layout.shape), 2 if layout.fsdp > 1 else 3)) > 1


FAR = [MeshShape(data=2, fsdp=8), MeshShape(data=4, fsdp=2, tensor=2), MeshShape(tensor=8, data=2)]


@pytest.mark.parametrize("layout", FAR, ids=str)
def test_no_layout_is_worse_than_listed_or_than_jaxs(layout):
    """Where not all neighbours can be near, steps are those of the better."""
    devices = chips(4, 4)
    steps = lambda mesh: sum(sum(apart(mesh, axis)) for axis in range(4))
    theirs = mesh_utils.create_device_mesh(layout.shape, devices, allow_split_physical_axes=True)
    assert steps(arrange(layout, devices)) == min(steps(theirs), steps(np.array(devices).reshape(layout.shape)))


def test_a_slice_is_a_whole_index_of_dcn():
    devices, layout = chips(4, 4, slices=2), MeshShape(dcn=2, fsdp=4, tensor=4)
    mixed = [devices[i] for i in np.random.default_rng(0).permutation(32)]
    mesh = arrange(layout, mixed)
    assert [{chip.slice_index for chip in part.flat} for part in mesh] == [{0}, {1}]
    theirs = mesh_utils.create_hybrid_device_mesh((1, 1, 4, 4), (2, 1, 1, 1), devices, allow_split_physical_axes=True)
    np.testing.assert_array_equal(mesh, theirs)
    halves = arrange(MeshShape(dcn=4, fsdp=8), devices)  # two indices to a slice
    assert [{chip.slice_index for chip in part.flat} for part in halves] == [{0}, {0}, {1}, {1}]
    for wrong in (MeshShape(fsdp=32), MeshShape(dcn=1, data=2, fsdp=16)):
        with pytest.raises(ValueError, match="are 2 slices: mesh.dcn must be a multiple of it, got 1"):
            arrange(wrong, devices)
    with pytest.raises(ValueError, match=r"mesh of \(1, 1, 10, 1\) takes 10 TPUs of each slice, one has 16"):
        arrange(MeshShape(dcn=2, fsdp=10), devices[:20])


def test_some_of_the_devices():
    """The first ones listed are one or more hosts, blocks of the torus; what is none is refused."""
    devices = chips(4, 4)
    for layout in (MeshShape(tensor=2), MeshShape(fsdp=4), MeshShape(fsdp=4, tensor=2), MeshShape(data=2, fsdp=4)):
        assert set(arrange(layout, devices[: layout.size]).flat) == set(devices[: layout.size])
    assert {chip.coords for chip in arrange(MeshShape(fsdp=3, tensor=2), chips(2, 4)[:6]).flat} == {
        (x, y, 0) for x in range(2) for y in range(3)
    }
    with pytest.raises(ValueError, match=r"12 TPUs are no block of their torus, but some of one of \(4, 4, 1\)"):
        arrange(MeshShape(fsdp=12), devices[:12])


@pytest.mark.parametrize("platform", ["gpu", "cpu"])
def test_others_stay_as_they_are_listed(platform):
    """Processes are listed one after another, so that each index of dcn is whole processes."""
    devices = [Chip(id=i, coords=(0, 0, 0), process_index=i // 4, platform=platform, device_kind="") for i in range(8)]
    devices = devices[4:] + devices[:4]  # whichever comes first
    for layout in (
        MeshShape(dcn=2, fsdp=4),
        MeshShape(dcn=2, fsdp=2, tensor=2),
        MeshShape(data=2, tensor=4),
        MeshShape(fsdp=8),
    ):
        np.testing.assert_array_equal(arrange(layout, devices), np.array(devices).reshape(layout.shape))


def test_another_layout_has_the_devices_in_the_same_order():
    devices = jax.devices()
    learner = make_mesh(MeshShape(fsdp=2, tensor=4), [devices[i] for i in (0, 1, 3, 2, 7, 6, 4, 5)])
    sampler = relayout(learner, MeshShape(data=2, tensor=4))
    assert list(sampler.devices.flat) == list(learner.devices.flat) and sampler.shape["data"] == 2
    assert relayout(None, MeshShape()) is None


@pytest.mark.needs("libtpu")
def test_devices_of_a_topology():
    from jaxsrl.clusters.compile import describe_devices
    from jaxsrl.clusters.hardware import hardware

    two = describe_devices(hardware("2xv5e-16"))
    mesh = Mesh(arrange(MeshShape(dcn=2, fsdp=4, tensor=4), two), ("dcn", "data", "fsdp", "tensor"))
    assert all(step == 1 for part in mesh.devices for axis in range(3) for step in apart(part, axis))
    for name, layout in (
        ("v5e-8", MeshShape(fsdp=4, tensor=2)),
        ("v5p-16", MeshShape(data=2, fsdp=2, tensor=2)),
    ):
        mesh = arrange(layout, describe_devices(hardware(name)))
        assert all(step == 1 for axis in range(4) for step in apart(mesh, axis))
