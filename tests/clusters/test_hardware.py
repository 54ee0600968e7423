"""Names of accelerators, what they stand for, and which link a collective takes."""

import pytest

from jaxsrl.clusters.hardware import CHIPS, TOPOLOGIES, axis_link, gpu_description, hardware

CASES = {  # name -> devices, groups, topology, hosts, accelerator type
    "v5e-16": (16, 1, "v5e:4x4", 4, "v5litepod-16"),
    "v5litepod-8": (8, 1, "v5e:2x4", 1, "v5litepod-8"),
    "v5p-16": (8, 1, "v5p:2x2x2", 2, "v5p-16"),  # TensorCores: two on a chip
    "v6e-64": (64, 1, "v6e:8x8", 16, "v6e-64"),
    "2xv5e-16": (32, 2, "v5e:4x4", 8, "v5litepod-16"),
    "h100": (1, 1, "", 1, "h100:1"),
    "8xh200": (8, 1, "", 1, "h200:8"),
    "2x8xH200": (16, 2, "", 2, "h200:8"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_name_stands_for(name):
    found = hardware(name)
    assert (found.devices, found.groups, found.topology, found.hosts, found.accelerator_type) == CASES[name]
    assert f"{found.devices} " in found.described()


@pytest.mark.parametrize("name, said", [
    ("v5p-15", "v5p-15' is no slice of v5p; there are: v5p-8, v5p-16"),
    ("h300", "nearest is h"), ("16xh200", "nodes of at most 8"), ("h200-8", "8xh200"), ("", "there are:"),
    ("v5e", "is no slice"), ("0xv5e-16", "is no slice"), ("2x2xv5e-16", "is no slice"),
])  # fmt: skip
def test_a_wrong_name_names_the_right_ones(name, said):
    with pytest.raises(ValueError, match=said):
        hardware(name)


def test_slices_have_their_chips():
    for chip, slices in TOPOLOGIES.items():
        for chips, shape in slices.items():
            size = 1
            for side in shape.split("x"):
                size *= int(side)
            assert size == chips, (chip, shape)


def test_a_link_follows_from_where_devices_lie():
    two = {"dcn": 2, "data": 1, "fsdp": 4, "tensor": 4}
    v5e, h200 = CHIPS["v5e"], CHIPS["h200"]
    assert axis_link(v5e, 2, ("dcn",), two) == "network" and axis_link(v5e, 2, ("fsdp",), two) == "ici"
    nodes = {"dcn": 1, "data": 1, "fsdp": 16, "tensor": 1}
    assert axis_link(h200, 2, ("fsdp",), nodes) == "network" and axis_link(h200, 1, ("fsdp",), nodes) == "nvlink"
    inside = {"dcn": 1, "data": 2, "fsdp": 1, "tensor": 8}
    assert axis_link(h200, 2, ("tensor",), inside) == "nvlink" and axis_link(h200, 2, ("data",), inside) == "network"


def test_a_gpu_is_described_with_its_own_memory():
    text = gpu_description(CHIPS["h200"])
    assert f"device_memory_size: {CHIPS['h200'].hbm_bytes}" in text and text.count("{") == text.count("}")
