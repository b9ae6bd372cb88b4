"""What a machine has for a run: its own limits count as much as what it is built of."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from aimass.client.resources import Resources, check_gpu, check_needs, resources_here
from aimass.proto.errors import Refused
from aimass.proto.home import ChildLimits, HomeLimits, HomeSettings
from aimass.proto.plan import Needs

HERE = Resources(memory_bytes=8 << 30, disk_bytes=4 << 30)
SETTINGS = HomeSettings(name="north", server="a:1", enrol="a:2", limits=HomeLimits(min_free_bytes=0))
MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_memory_is_the_least_of_machine_container_and_the_childs_own_limit(tmp_path: Path) -> None:
    whole = resources_here(tmp_path, SETTINGS).memory_bytes
    assert 0 < whole <= MACHINE
    own = msgspec.structs.replace(SETTINGS, child=ChildLimits(memory_bytes=1 << 20))
    assert resources_here(tmp_path, own).memory_bytes == 1 << 20
    several = msgspec.structs.replace(SETTINGS, child=ChildLimits(ranks=4))
    assert resources_here(tmp_path, several).memory_bytes == whole // 4


def test_room_on_the_disk_is_what_may_be_filled(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    kept = msgspec.structs.replace(SETTINGS, limits=HomeLimits(min_free_bytes=1 << 30))
    assert abs(resources_here(tmp_path, kept).disk_bytes - (free - (1 << 30))) < 1 << 30
    all_kept = msgspec.structs.replace(SETTINGS, limits=HomeLimits(min_free_bytes=1 << 60))
    assert resources_here(tmp_path, all_kept).disk_bytes == 0
    assert resources_here(tmp_path, all_kept, held_bytes=7).disk_bytes == 7


def test_what_just_suffices_is_enough_and_a_byte_more_is_refused_by_name() -> None:
    check_needs(Needs(memory_bytes=HERE.memory_bytes, disk_bytes=HERE.disk_bytes, gpu_bytes=1 << 40), HERE)
    for needs, code in (
        (Needs(memory_bytes=HERE.memory_bytes + 1), "needs.memory"),
        (Needs(disk_bytes=HERE.disk_bytes + 1), "needs.disk"),
    ):
        with pytest.raises(Refused) as caught:
            check_needs(needs, HERE)
        assert caught.value.code == code
        assert caught.value.cure


def test_a_partner_without_a_gpu_needs_no_memory_on_one() -> None:
    check_gpu(Needs(gpu_bytes=1 << 40), 0)
    check_gpu(Needs(gpu_bytes=5), 5)
    with pytest.raises(Refused):
        check_gpu(Needs(gpu_bytes=6), 5)
