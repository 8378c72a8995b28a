#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The parts of ivshmem-vms that need no guest; the tests are Python, in vms/.

# parts FILE: the tests in vms/FILE.py.
parts() {
    cd "$BATS_TEST_DIRNAME/vms" || return
    PYTHONPATH=../../../tools /usr/bin/python3 -B -W error -m unittest "$1"
}

@test "a folder that others can change is no folder of a set, and one set is made once" { parts test_folder; }

@test "options are read, and wrong ones refused" { parts test_options; }

@test "an archive holds what links lead to and libraries" { parts test_archive; }

@test "QEMU's monitor: answers among events, refusals, silence" { parts test_qmp; }

@test "a set's QEMUs are found and ended, and nobody else" { parts test_qemus; }

@test "QEMU's command line, and what it says when it does not start" { parts test_machine; }

@test "signals are noted, and heeded where the program waits" { parts test_interrupts; }

@test "up leaves nothing, whenever it is interrupted" { parts test_up; }

@test "the command line, and what a shell evaluates" { parts test_cli; }
