#!/usr/bin/python3
# SPDX-License-Identifier: mpich2
"""For ivshmem-net.bats: what programs do on a network.

net_transfer.py serve ADDRESS    prints "ready"; sends back what comes by TCP, and prints what comes by UDP
net_transfer.py echo ADDRESS MB  sends as much and receives it at the same time; what comes back must be the same
net_transfer.py shout ADDRESS    sends a line by UDP, to a broadcast address, too
"""
import hashlib
import random
import socket
import sys
import threading

PORT = 7777
LIMIT = 300  # seconds, for each step


def send(connection, megabytes, digest):
    numbers = random.Random(megabytes)
    for _ in range(megabytes):
        block = numbers.randbytes(1 << 20)
        digest.update(block)
        connection.sendall(block)
    connection.shutdown(socket.SHUT_WR)


def return_all(connection):
    with connection:
        connection.settimeout(LIMIT)
        while data := connection.recv(1 << 16):
            connection.sendall(data)


def print_lines(udp):
    while True:
        print(udp.recv(1000).decode(), flush=True)


def serve(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind(("", PORT))
    threading.Thread(target=print_lines, args=(udp,), daemon=True).start()
    with socket.create_server((address, PORT), family=family) as server:
        print("ready", flush=True)
        while True:
            threading.Thread(target=return_all, args=(server.accept()[0],), daemon=True).start()


def echo(address, megabytes):
    sent, received = hashlib.sha256(), hashlib.sha256()
    with socket.create_connection((address, PORT), LIMIT) as connection:
        sender = threading.Thread(target=send, args=(connection, megabytes, sent))
        sender.start()
        while data := connection.recv(1 << 16):
            received.update(data)
        sender.join()
    if sent.digest() != received.digest():
        sys.exit("what came back is not what was sent")


def shout(address, line):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        udp.sendto(line.encode(), (address, PORT))


if sys.argv[1] == "serve":
    serve(sys.argv[2])
elif sys.argv[1] == "echo":
    echo(sys.argv[2], int(sys.argv[3]))
else:
    shout(sys.argv[2], sys.argv[3])
