"""What is read from a compiled program's text: kinds, groups, bytes, and how often loops run."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxsrl.clusters.collectives import collectives
from jaxsrl.sharding import MeshShape, make_mesh

SIZE = 4 * 64 * 128  # bytes of what is sent below


WHOLE, CUT = PartitionSpec(), PartitionSpec("fsdp")


def read(body, inside=CUT, outside=CUT, turns=()):
    """The collectives of a `shard_map` over x [64 128] float32, on 2 x 4 devices."""
    mesh = make_mesh(MeshShape(data=2, fsdp=4))
    program = jax.jit(jax.shard_map(body, mesh=mesh, in_specs=inside, out_specs=outside, check_vma=False))
    x = jax.ShapeDtypeStruct((64, 128), jnp.float32, sharding=NamedSharding(mesh, inside))
    text = program.lower(x).compile().as_text()
    return [(c.kind, c.group, c.count, c.bytes) for c in collectives(text, mesh.size, turns)]


def gather(x):
    return jax.lax.all_gather(x, "fsdp", tiled=True)


def test_bytes_are_those_a_device_receives():
    assert read(gather, outside=WHOLE) == [("all-gather", 4, 1, SIZE * 3 / 4)]
    assert read(lambda x: jax.lax.psum(x, "data")) == [("all-reduce", 2, 1, SIZE / 4)]
    everywhere = lambda x: jax.lax.psum(x, ("data", "fsdp"))
    assert read(everywhere, outside=WHOLE) == [("all-reduce", 8, 1, 2 * SIZE / 4 * 7 / 8)]
    scatter = lambda x: jax.lax.psum_scatter(x, "fsdp", tiled=True)
    assert read(scatter, inside=WHOLE) == [("reduce-scatter", 4, 1, SIZE * 3 / 4)]
    turn = lambda x: jax.lax.ppermute(x, "fsdp", [(i, (i + 1) % 4) for i in range(4)])
    assert read(turn) == [("collective-permute", 0, 1, SIZE / 4)]
    exchange = lambda x: jax.lax.all_to_all(x, "fsdp", 1, 0, tiled=True)
    assert read(exchange, outside=PartitionSpec(None, "fsdp")) == [("all-to-all", 4, 1, SIZE / 4 * 3 / 4)]


def test_loops_count_as_often_as_they_run():
    def nested(x):
        inner = lambda _, x: jnp.sin(gather(x)[:16])
        return jax.lax.fori_loop(0, 5, lambda _, x: jax.lax.fori_loop(2, 9, inner, x), x)

    assert read(nested) == [("all-gather", 4, 35, 35 * SIZE * 3 / 4)]


def test_a_loop_that_does_not_say_how_often_it_runs_is_refused():
    endless = lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) < 100, lambda x: gather(x)[:16] * 2, x)
    with pytest.raises(ValueError, match="does not say how often it runs"):
        read(endless)
    assert read(endless, turns=(6,)) == [("all-gather", 4, 6, 6 * SIZE * 3 / 4)]


def test_loops_in_one_another_have_turns_of_their_own():
    """As the sampler's, whose jobs queue: blocks, and the turns of a block. What is between them counts once."""
    inner = lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) < 50, lambda x: gather(x)[:16] * 2, x)
    known = lambda x: jax.lax.fori_loop(0, 2, lambda _, x: inner(x), x)
    both = lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) < 100, lambda x: known(x) + jnp.sum(gather(x)), x)
    assert read(both, turns=(3, 5)) == [("all-gather", 4, 3 * (1 + 2 * 5), 33 * SIZE * 3 / 4)]
    with pytest.raises(ValueError, match="does not say how often it runs"):
        read(both, turns=(3,))


# Forms that a TPU's compiler writes and a CPU's does not: asynchronous starts, tuples, a loop in steps of two.
TEXT = """HloModule step, is_scheduled=true

%body.1 (p: (u32[], bf16[8,128])) -> (u32[], bf16[8,128]) {
  %p = (u32[], bf16[8,128]{1,0:T(8,128)(2,1)}) parameter(0)
  %two = u32[]{:T(128)} constant(2)
  %i = u32[]{:T(128)} get-tuple-element(%p), index=0
  %x = bf16[8,128]{1,0:T(8,128)(2,1)} get-tuple-element(%p), index=1
  %s = (bf16[8,128]{1,0:T(8,128)(2,1)}, bf16[8,128]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}
  %d = bf16[8,128]{1,0:T(8,128)(2,1)} collective-permute-done(%s)
  %next = u32[]{:T(128)} add(%i, %two)
  ROOT %t = (u32[], bf16[8,128]{1,0:T(8,128)(2,1)}) tuple(%next, %d)
}

%condition.1 (q: (u32[], bf16[8,128])) -> pred[] {
  %q = (u32[], bf16[8,128]{1,0:T(8,128)(2,1)}) parameter(0)
  %limit = u32[]{:T(128)} constant(9)
  %j = u32[]{:T(128)} get-tuple-element(%q), index=0
  ROOT %lt = pred[]{:T(512)} compare(%j, %limit), direction=LT
}

ENTRY %main (a: bf16[8,128]) -> bf16[8,128] {
  %a = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %one = u32[]{:T(128)} constant(1)
  %given = (u32[], bf16[8,128]{1,0:T(8,128)(2,1)}) tuple(%one, %a)
  %loop = (u32[], /*index=1*/bf16[8,128]{1,0:T(8,128)(2,1)}) while(%given), condition=%condition.1, body=%body.1
  %g = (bf16[8,128]{1,0}, bf16[32,128]{1,0}) all-gather-start(%a), replica_groups=mesh['axis_0'=4,'axis_1'=2], device_ids=([2,4]T(1,0)) {'axis_0'}, dimensions={0}
  %gd = bf16[32,128]{1,0} all-gather-done(%g)
  %r = (f32[4]{0}, f32[2,3]{1,0}) all-reduce(%u, %v), replica_groups=[4,2]<=[8], to_apply=%sum
  %in = (f32[5,8]{1,0}, u32[], token[]) recv(%token), channel_id=9, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}
  %host = (f32[9]{0}, u32[], token[]) recv(%token), channel_id=10, is_host_transfer=true
  ROOT %out = bf16[8,128]{1,0:T(8,128)(2,1)} get-tuple-element(%loop), index=1
}
"""  # noqa: E501


def test_a_tpu_compilers_spelling():
    """From 1 below 9 in steps of 2 are four turns; of a start, results count and not what was given."""
    found = {(c.kind, c.dtype, c.group): (c.count, c.bytes) for c in collectives(TEXT, 8)}
    assert found == {
        ("collective-permute", "bf16", 0): (4, 4 * 2048),
        ("all-gather", "bf16", 4): (1, 4 * 2048 * 3 / 4),
        ("recv", "f32", 0): (1, 4 * 5 * 8),
        ("all-reduce", "f32", 2): (1, 4 * (4 + 6)),
    }
