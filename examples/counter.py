#!/usr/bin/python3
# SPDX-License-Identifier: mpich2
"""
Adds N numbers up in a block together with other processes, in whatever virtual machine they run: counter.py N MEMBERS
[REGION]. All of the MEMBERS print the same sum.
"""
import sys

import ivshmem

MUTEX, BARRIER, SUM, SIZE = 0, 64, 576, 4096


def main() -> None:
    count, members = int(sys.argv[1]), int(sys.argv[2])
    with ivshmem.Region(sys.argv[3] if len(sys.argv) > 3 else "", guardian=True) as region:
        block = region.create("example-counter", SIZE, or_attach=True)
        total = block.data[SUM:SUM + 8].cast("Q")
        for _ in range(count):
            with block.mutex(MUTEX):
                total[0] += 1
        block.barrier_wait(BARRIER, members, timeout=60)
        print(total[0])
        block.barrier_wait(BARRIER, members, timeout=60)  # the block ends with its creator: not before all have read
        total.release()
        block.detach()


main()
