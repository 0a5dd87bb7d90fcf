"""Memory that this process shares with the agent: files without a name, mapped by both."""

import contextlib
import fcntl
import mmap
import os
import tempfile
import threading
import weakref
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

import numpy as np
import numpy.typing as npt

from ._errors import AgentDied

Array = npt.NDArray[Any]

_PIECE = 1 << 20  # blocks are multiples of it
_LARGE = 64 << 20  # of blocks from here on, two are kept for the next call, else eight
_MOST_RESULTS = 64  # blocks that results may hold: each has a file descriptor


class Block:
    """One mapped file. It is the agent's buffer ``number``."""

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size = number, size
        self.loose = True  # whether it may be used for something else when nobody has it any more
        fd = _file(size)
        try:
            self.map = mmap.mmap(fd, size)
        except BaseException:
            os.close(fd)
            raise
        self.fd = fd
        self.bytes = np.frombuffer(self.map, dtype=np.uint8)
        self.address = int(self.bytes.ctypes.data)

    def handed_over(self) -> None:
        """Closes the descriptor, once the agent has it. The mapping keeps one of its own."""
        os.close(self.fd)


def _file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("mfac", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            # The agent maps what can't be cut short any more.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        except BaseException:
            os.close(fd)
            raise
        return fd
    with tempfile.TemporaryFile() as f:
        f.truncate(size)
        return os.dup(f.fileno())


class Piece:
    """Who has it has a block: numpy arrays over it keep it as their base, calls in progress too."""

    def __init__(self, block: Block, shape: Tuple[int, ...], dtype: "np.dtype[Any]") -> None:
        self.block = block
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.newbyteorder("<").str,
            "data": (block.address, False),
        }


def _ended(_: Block) -> None:
    raise AgentDied("the agent has gone")


def _nothing(_: int) -> None:
    return None


_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()


class Pool:
    """The blocks of one connection."""

    def __init__(self, hand_over: Callable[[Block], None], release: Callable[[int], None]) -> None:
        self._hand_over, self._release = hand_over, release
        self._lock = threading.Lock()
        self._free: List[Block] = []
        self._out: Dict[int, Block] = {}
        self._back: Deque[Block] = deque()  # finalizers run anywhere: they only append
        self._last = 0
        _pools.add(self)

    def array(self, shape: Tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
        """A new array over shared memory. Its numbers are any."""
        size = max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        block = self._take((size + _PIECE - 1) // _PIECE * _PIECE)
        piece = Piece(block, shape, dtype)
        weakref.finalize(piece, self._back.append, block).atexit = False
        return np.asarray(piece)

    def find(self, a: Array) -> Optional[Tuple[Block, int]]:
        """The block that a lies in, and its offset there."""
        if not a.flags.c_contiguous or a.dtype.str[0] == ">" or a.size == 0:
            return None
        address = int(a.ctypes.data)
        with self._lock:
            for block in self._out.values():
                if block.address <= address and address + a.nbytes <= block.address + block.size:
                    return block, address - block.address
        return None

    def many(self) -> bool:
        """Whether so many blocks are out that results had better be copied."""
        self._collect()
        return len(self._out) > _MOST_RESULTS

    def close(self) -> None:
        """The connection has ended: the agent has let go of all, and here the memory goes when its last array does."""
        self._hand_over, self._release = _ended, _nothing
        with self._lock:
            self._free.clear()
            self._out.clear()
        self._back.clear()

    def forking(self) -> None:
        """Before a fork: the child will have what is out as well, so it is not used again here."""
        for block in list(self._out.values()):
            block.loose = False

    def _take(self, size: int) -> Block:
        self._collect()
        with self._lock:
            fitting = [b for b in self._free if size <= b.size <= 4 * size]
            if fitting:
                block = min(fitting, key=lambda b: b.size)
                self._free.remove(block)
                block.loose = True
                self._out[block.number] = block
                return block
            self._last += 1
            number = self._last
        block = Block(number, size)
        try:
            self._hand_over(block)
        finally:
            block.handed_over()
        with self._lock:
            self._out[number] = block
        return block

    def _collect(self) -> None:
        """Takes back what nobody has any more, and lets go what is too much of it."""
        gone: List[Block] = []
        with self._lock:
            while self._back:
                block = self._back.popleft()
                self._out.pop(block.number, None)
                if block.loose:
                    self._free.append(block)
                else:
                    gone.append(block)
            for most, mine in ((2, [b for b in self._free if b.size >= _LARGE]), (8, [b for b in self._free if b.size < _LARGE])):
                for block in mine[: max(0, len(mine) - most)]:
                    self._free.remove(block)
                    gone.append(block)
        for block in gone:
            self._release(block.number)


def _before_fork() -> None:
    for pool in list(_pools):
        with contextlib.suppress(RuntimeError):  # another thread has just changed it: rather keep too much
            pool.forking()


os.register_at_fork(before=_before_fork)
