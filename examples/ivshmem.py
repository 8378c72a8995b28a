# SPDX-License-Identifier: mpich2
"""libivshmem for Python, by ctypes: blocks as memoryviews, mutexes and barriers as objects. See ivshmem(3).

    with ivshmem.Region() as region:
        block = region.create("name", 4096, or_attach=True)
        with block.mutex(0):
            block.data[64] += 1
"""
import ctypes
import os

GUARDIAN = OR_ATTACH = READ_ONLY = 1
EOWNERDEAD = 130

_lib = ctypes.CDLL(os.environ.get("LIBIVSHMEM", "libivshmem.so.0"))
_lib.ivshmem_error.restype = ctypes.c_char_p
_lib.ivshmem_data.restype = ctypes.c_void_p
_lib.ivshmem_size.restype = ctypes.c_size_t


class OwnerDied(Exception):
    """The lock is held now, and a process has died that held it: check the data, then call consistent()."""


def _check(err: int) -> None:
    if err == -EOWNERDEAD:
        raise OwnerDied(_lib.ivshmem_error().decode(errors="replace"))
    if err:
        raise OSError(-err, _lib.ivshmem_error().decode(errors="replace"))  # FileNotFoundError, TimeoutError, ...


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


class Mutex:
    """A mutex of 64 bytes in a block. `with` waits for it for ten seconds."""

    def __init__(self, region: "Region", address: int) -> None:
        self._handle, self._address = region._handle, ctypes.c_void_p(address)

    def lock(self, timeout: float = 10) -> None:
        _check(_lib.ivshmem_mutex_lock(self._handle, self._address, _ms(timeout)))

    def unlock(self) -> None:
        _check(_lib.ivshmem_mutex_unlock(self._handle, self._address))

    def consistent(self) -> None:
        _check(_lib.ivshmem_mutex_consistent(self._handle, self._address))

    def __enter__(self) -> "Mutex":
        try:
            self.lock()
        except OwnerDied:
            self.unlock()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.unlock()


class Block:
    """Memory with a name: `data` is a memoryview of its bytes, which is not used after detach()."""

    def __init__(self, region: "Region", block: ctypes.c_void_p, read_only: bool) -> None:
        self._region, self._block = region, block
        self._address = _lib.ivshmem_data(block)
        size = _lib.ivshmem_size(block)
        data = memoryview((ctypes.c_char * size).from_address(self._address)).cast("B")
        self.data = data.toreadonly() if read_only else data

    def mutex(self, offset: int) -> Mutex:
        return Mutex(self._region, self._address + offset)

    def barrier_wait(self, offset: int, members: int, timeout: float = 10) -> None:
        _check(_lib.ivshmem_barrier_wait(self._region._handle, ctypes.c_void_p(self._address + offset), members,
                                         _ms(timeout)))

    def is_found(self) -> bool:
        return bool(_lib.ivshmem_is_found(self._block))

    def detach(self) -> None:
        self.data.release()
        _lib.ivshmem_detach(self._block)


class Region:
    """A process on a region, by name, or the one that is found. One thread at a time."""

    def __init__(self, name: str = "", guardian: bool = False) -> None:
        self._handle = ctypes.c_void_p()
        _check(_lib.ivshmem_open(name.encode(), GUARDIAN if guardian else 0, ctypes.byref(self._handle)))

    def create(self, name: str, size: int, or_attach: bool = False) -> Block:
        block = ctypes.c_void_p()
        _check(_lib.ivshmem_create(self._handle, name.encode(), ctypes.c_size_t(size),
                                   OR_ATTACH if or_attach else 0, ctypes.byref(block)))
        return Block(self, block, False)

    def attach(self, name: str, size: int = 0, read_only: bool = False, timeout: float = 0) -> Block:
        block = ctypes.c_void_p()
        _check(_lib.ivshmem_attach(self._handle, name.encode(), ctypes.c_size_t(size),
                                   READ_ONLY if read_only else 0, _ms(timeout), ctypes.byref(block)))
        return Block(self, block, read_only)

    def remove(self, name: str) -> None:
        _check(_lib.ivshmem_remove(self._handle, name.encode()))

    def close(self) -> None:
        _lib.ivshmem_close(self._handle)
        self._handle = ctypes.c_void_p()

    def __enter__(self) -> "Region":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
