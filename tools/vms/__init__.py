# SPDX-License-Identifier: mpich2
"""The parts of ivshmem-vms. Each uses only those before it:

messages       how the program speaks, and how it ends before its time
interrupts     signals, and waiting until something happens or one comes
commands       other programs
folder         the set's folder: where it is, whether it can be trusted, what is noted in it
qemus          the set's QEMUs, as /proc shows them
regions        the files in /dev/shm that guests share
removal        ends the QEMUs, removes regions and folder
options        what `up` was told, and whether it makes sense
kernel         the guests' kernel and modules
archive        a program with all that it needs, as an archive
guestfiles     all that a guest has when it boots
qmp            QEMU's monitor
machine        a guest's QEMU: its command line, its start
access         what ssh and mpiexec on this machine need
booting        waits for guests
up             brings a set up
shell, verbs   all that is asked of a set that is there
cli            how the user asks for it

guest/ has the scripts that run in guests, host/ what mpiexec runs on this machine.

Guests are built from this machine: its kernel package, busybox, dropbear, the MPI installation,
each file at the path that it has here. They have two kinds of network, neither of which needs
root: user-mode networking to the host (this machine is 10.0.2.2, and their ssh is forwarded from
a port of 127.0.0.1), and to every other guest a link of its own over a unix socket (vmK is
10.77.0.K+1): a guest that dies or stops takes no other guest's network with it.
"""
