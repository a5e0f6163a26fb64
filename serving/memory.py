"""Images in memory that who asks for them has made ready, rather than on the wire, where both are on one host.

A request names a memfd of its own: the process, the descriptor, and 128 random bits that are the memfd's name. It has
no place in a file system, and goes with the last process that holds it. The model opens it below /proc, which the
kernel lets processes of the same user do alone; what has not that name is somebody else's file, and stays as it is. An
answer of no images says that they are there. Where the model cannot write there (another host, container or user), the
images come by the wire.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import re
import secrets
import threading
import weakref

import numpy as np

MEMORY = "memory"  # the parameter of a request
LARGE = 1 << 19  # bytes of images, from which on it pays
MOST, KEPT = 1 << 30, 1 << 27  # of one request, and of those that wait for another
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
SAID = re.compile(r"([0-9]{1,10}) ([0-9]{1,10}) (genzoo-[0-9a-f]{32})")


class Memory:
    """So many bytes for the images of a request; `said` is what the request says of them. It goes with the object."""

    def __init__(self, size: int) -> None:
        name = f"genzoo-{secrets.token_hex(16)}"
        file = os.memfd_create(name)
        weakref.finalize(self, os.close, file)
        os.ftruncate(file, size)
        self.size, self.said = size, f"{os.getpid()} {file} {name}"
        self._content = mmap.mmap(file, size)

    def images(self, shape: tuple[int, ...]) -> np.ndarray:
        """A copy of what was written, uint8 (B, H, W, C). Raises ValueError for more than there is room for."""
        if math.prod(shape) > self.size:
            raise ValueError(f"images of the shape {shape} are more than the {self.size} bytes that were asked for")
        return np.ndarray(shape, np.uint8, self._content).copy()


class Memories:
    """Those that wait for their next request, for new memory costs more than what is written there."""

    def __init__(self, most: int = KEPT) -> None:
        self.most, self._idle = most, list[Memory]()
        self._lock = threading.Lock()

    def take(self, size: int) -> Memory:
        with self._lock:
            for each in self._idle:
                if size <= each.size <= 4 * size:
                    self._idle.remove(each)
                    return each
        return Memory(size)

    def give_back(self, memory: Memory) -> None:
        """One to which nobody will write any more; what was longest here goes where there is too much."""
        with self._lock:
            self._idle.append(memory)
            while sum(each.size for each in self._idle) > self.most:
                self._idle.pop(0)


def is_near(urls: str) -> bool:
    """Whether all of some addresses, with commas between them, are of this host."""
    hosts = {url.rpartition(":")[0] for url in urls.split(",")}
    return hasattr(os, "memfd_create") and hosts <= set(LOOPBACK)


def hand_over(said: object, images: np.ndarray) -> bool:
    """Whether images, (B, ...) uint8, are in the memory that a request has named, from its beginning."""
    if not (found := SAID.fullmatch(str(said))):
        return False
    place, content = f"/proc/{found[1]}/fd/{found[2]}", np.ascontiguousarray(images).data.cast("B")
    with contextlib.suppress(OSError):
        if not _is(place, found[3]):  # before it is opened, which does something to some files
            return False
        file = os.open(place, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if _is(f"/proc/self/fd/{file}", found[3]) and os.fstat(file).st_size >= len(content):
                # Not mapped: a file that is shortened meanwhile would end this process.
                return os.pwrite(file, content, 0) == len(content)
        finally:
            os.close(file)
    return False


def _is(place: str, name: str) -> bool:
    return os.readlink(place) == f"/memfd:{name} (deleted)"
