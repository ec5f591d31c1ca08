"""disk.py - how long plain loops of system calls read and write files: the floors of a merge."""
import mmap
import os
import time

BLOCK = 8 << 20


def drop(paths):
    """Out of the page cache with them: needs no rights but reading."""
    os.sync()
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def buffer():
    """Pages of its own, huge ones where there are any: disks read faster into large pieces."""
    block = mmap.mmap(-1, BLOCK)
    block.madvise(mmap.MADV_HUGEPAGE)
    block[:] = bytes(BLOCK)
    return block


def read(paths, direct=False):
    """Seconds for one thread to read the files into one buffer; direct: past the page cache."""
    block = buffer()
    start = time.monotonic()
    for path in paths:
        file = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
        at = 0
        while n := os.preadv(file, [block], at):
            at += n
            if direct and n % mmap.PAGESIZE:
                break  # the end of the file, which is no whole page
        os.close(file)
    return time.monotonic() - start


def write(path, n_bytes):
    """Seconds for one thread to write a new file in place and to sync it; it is removed again."""
    block = memoryview(buffer())
    start = time.monotonic()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.posix_fallocate(file, 0, n_bytes)
    for at in range(0, n_bytes, BLOCK):
        os.pwrite(file, block[:min(BLOCK, n_bytes - at)], at)
    os.fsync(file)
    os.close(file)
    seconds = time.monotonic() - start
    os.unlink(path)
    return seconds
