# SPDX-License-Identifier: mpich2
"""The parts of ivshmem-vms. Each uses only those before it:

messages       output, and errors that end the program
interrupts     signals, and waits that a signal ends
commands       other programs
folder         the set's folder: its path, whether it can be trusted, its records
qemus          the set's QEMUs, as /proc shows them
regions        the files in /dev/shm that guests share
servers        the ivshmem-servers of the regions
removal        ends QEMUs and servers, removes regions and folder
options        the options of `up`, checked
kernel         the guests' kernel and modules
archive        packs programs and all that they need
guestfiles     the files of a guest when it boots
image          images of disks: making one, looking into one
qmp            QEMU's monitor
machine        a guest's QEMU: its command line, its start
settings       what a guest with an image is told of its set
access         what ssh and mpiexec on this machine need
booting        waits for guests
shell, verbs   the commands for an existing set
up             brings a set up
cli            the command line

guest/ has the scripts that run in guests, host/ what mpiexec runs on this machine.

Guests are built from this machine: its kernel package, busybox, dropbear, the MPI installation,
each file at the path that it has here. Or they boot from an image, with what is
installed in it: then QEMU's fw_cfg has the settings of the set, which a unit of the image unpacks.
Both kinds have two kinds of network, neither of which needs
root: user-mode networking to the host (this machine is 10.0.2.2, and their ssh is forwarded from
a port of 127.0.0.1), and to every other guest a link of its own over a unix socket (vmK is
10.77.0.K+1): a guest that dies or stops takes no other guest's network with it.
"""
