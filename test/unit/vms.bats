#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The parts of ivshmem-vms that need no guest. The tests are in Python, in vms/.

# parts FILE: runs the tests in vms/FILE.py.
parts() {
    cd "$BATS_TEST_DIRNAME/vms" || return
    PYTHONPATH=../../../tools /usr/bin/python3 -B -W error -m unittest "$1"
}

@test "ivshmem-vms refuses a folder that others can change, and creates a set only once" { parts test_folder; }

@test "ivshmem-vms reads options, and refuses wrong ones" { parts test_options; }

@test "ivshmem-vms packs programs with their libraries and the targets of links" { parts test_archive; }

@test "ivshmem-vms and QEMU's monitor: answers among events, refusals, silence" { parts test_qmp; }

@test "ivshmem-vms finds and ends a set's QEMUs, and no other process" { parts test_qemus; }

@test "ivshmem-vms builds QEMU's command line, and reports why QEMU does not start" { parts test_machine; }

@test "ivshmem-vms chooses packages for an image, and finds out what is in one" { parts test_image; }

@test "ivshmem-vms handles signals where it waits" { parts test_interrupts; }

@test "ivshmem-vms up leaves nothing behind, whenever it is interrupted" { parts test_up; }

@test "the command line of ivshmem-vms, and the output that a shell evaluates" { parts test_cli; }
