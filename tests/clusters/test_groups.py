"""Along which axes a collective's devices differ: of compiled programs, and of the forms that other compilers write."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxsrl.clusters.collectives import collectives
from jaxsrl.clusters.groups import axes_of
from jaxsrl.sharding import MeshShape, make_mesh

MESH = {"dcn": 1, "data": 2, "fsdp": 4, "tensor": 1}


@pytest.mark.parametrize("axes", [("data",), ("fsdp",), ("data", "fsdp")])
def test_axes_of_a_compiled_sum(axes):
    mesh = make_mesh(MeshShape(data=2, fsdp=4))
    run = jax.shard_map(
        lambda x: jax.lax.psum(x, axes), mesh=mesh, in_specs=PartitionSpec("fsdp"), out_specs=PartitionSpec(),
        check_vma=False,
    )  # fmt: skip
    x = jax.ShapeDtypeStruct((64, 128), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("fsdp")))
    (found,) = collectives(jax.jit(run).lower(x).compile().as_text(), mesh.size, mesh=MESH)
    assert found.axes == axes


@pytest.mark.parametrize("rest, axes", [
    ("replica_groups={{0,1,2,3},{4,5,6,7}}", ("fsdp",)),
    ("replica_groups={{0,4},{1,5},{2,6},{3,7}}", ("data",)),
    ("replica_groups=[2,4]<=[8]", ("fsdp",)),
    ("replica_groups=[4,2]<=[2,4]T(1,0)", ("data",)),
    ("replica_groups=mesh['a'=2,'b'=4] {'b'}", ("fsdp",)),
    ("replica_groups=mesh['axis_0'=4,'axis_1'=2], device_ids=([2,4]T(1,0)) {'axis_0'}", ("fsdp",)),
    ("replica_groups={}", ("data", "fsdp")),
    ("source_target_pairs={{0,1},{1,2},{2,3},{3,0}}", ("fsdp",)),
    ("source_target_pairs={{0,4},{4,0}}", ("data",)),
])  # fmt: skip
def test_every_form_is_read(rest, axes):
    assert axes_of(rest, "all-gather", MESH) == axes


def test_what_comes_from_another_slice():
    assert axes_of("", "recv", MESH) == ("dcn",)
