# SPDX-License-Identifier: Apache-2.0
"""Random operations of every kind on one file, against a model in memory that another process can see. Each read, each
mapping and each size is compared at once; the file as a whole whenever the other process asks for it."""
import ctypes
import mmap
import os
import random

SIZE_MAX = 768 * 1024
PAGE = 4096
KEEP_SIZE, PUNCH, ZERO = 1, 2, 16
WEIGHTS = {"read": 15, "write": 22, "map_read": 8, "map_write": 12, "direct_read": 6, "direct_write": 8, "truncate": 8,
           "punch": 6, "zero": 6, "zero_keep": 3, "reserve": 3, "copy": 6, "append": 4, "reopen": 4, "sync": 2, "vector": 5}
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fallocate(fd, mode, offset, size):
    if libc.fallocate(fd, mode, offset, size) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Fsx:
    """`model`: shared memory of SIZE_MAX bytes; `size`: a cell of shared memory."""

    def __init__(self, path, seed, model, size):
        self.path, self.random, self.model, self.size = path, random.Random(seed), model, size
        self.buffer = mmap.mmap(-1, SIZE_MAX)  # page-aligned, for O_DIRECT
        self.kinds, self.weights = list(WEIGHTS), list(WEIGHTS.values())
        self.history = []
        self.fd = self.direct = None
        self.open(os.O_CREAT | os.O_EXCL)

    def open(self, flags=0):
        for fd in (self.fd, self.direct):
            if fd is not None:
                os.close(fd)
        self.fd = os.open(self.path, os.O_RDWR | flags, 0o600)
        self.direct = os.open(self.path, os.O_RDWR | os.O_DIRECT)

    def step(self):
        kind = self.random.choices(self.kinds, self.weights)[0]
        self.history.append([kind])
        getattr(self, "do_" + kind)()
        if os.fstat(self.fd).st_size != self.size[0]:
            self.fail(f"size {os.fstat(self.fd).st_size}, should be {self.size[0]}")

    def fail(self, what):
        raise AssertionError(f"{what}\nlast operations: {self.history[-12:]}")

    def range(self, within_file=False, align=1):
        limit = self.size[0] if within_file else SIZE_MAX
        if limit < align:
            return 0, 0
        offset = self.random.randrange(limit // align) * align
        most = min(limit - offset, self.random.choice([200, PAGE, 20_000, 200_000]))
        size = self.random.randrange(1, most + 1) if most else 0
        size -= size % align
        self.history[-1] += [offset, size]
        return offset, size

    def expect(self, offset, found):
        want = self.model[offset:offset + len(found)]
        if found != want:
            at = next(i for i in range(len(want)) if found[i] != want[i])
            self.fail(f"byte {offset + at} is {found[at]}, should be {want[at]}")

    def put(self, offset, data):
        self.model[offset:offset + len(data)] = data
        self.size[0] = max(self.size[0], offset + len(data))

    def bytes(self, size):
        return (self.random.randbytes(min(size, 251)) * (size // 251 + 1))[:size]

    # ---- operations

    def do_read(self):
        offset, size = self.range(within_file=True)
        found = os.pread(self.fd, size, offset)
        if len(found) != size:
            self.fail(f"read {len(found)} of {size} bytes")
        self.expect(offset, found)

    def do_write(self):
        offset, size = self.range()
        data = self.bytes(size)
        if os.pwrite(self.fd, data, offset) != size:
            self.fail("short write")
        self.put(offset, data)

    def do_append(self):
        size = min(self.random.randrange(1, 3000), SIZE_MAX - self.size[0])
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        data = self.bytes(size)
        os.write(fd, data)
        os.close(fd)
        self.put(self.size[0], data)

    def do_vector(self):
        offset, size = self.range()
        data = self.bytes(size)
        cut = self.random.randrange(size + 1)
        if os.pwritev(self.fd, [data[:cut], data[cut:]], offset) != size:
            self.fail("short write")
        self.put(offset, data)

    def do_map_read(self):
        offset, size = self.range(within_file=True)
        if size:
            with mmap.mmap(self.fd, self.size[0], prot=mmap.PROT_READ) as memory:
                self.expect(offset, memory[offset:offset + size])

    def do_map_write(self):
        offset, size = self.range(within_file=True)
        if size:
            data = self.bytes(size)
            with mmap.mmap(self.fd, self.size[0]) as memory:
                memory[offset:offset + size] = data
                if self.random.random() < 0.3:
                    memory.flush()
            self.put(offset, data)

    def do_direct_read(self):
        offset, size = self.range(within_file=True, align=PAGE)
        if size:
            found = os.preadv(self.direct, [memoryview(self.buffer)[:size]], offset)
            if found != size:
                self.fail(f"direct read of {found} of {size} bytes")
            self.expect(offset, self.buffer[:size])

    def do_direct_write(self):
        offset, size = self.range(align=PAGE)
        if size:
            data = self.bytes(size)
            self.buffer[:size] = data
            if os.pwritev(self.direct, [memoryview(self.buffer)[:size]], offset) != size:
                self.fail("short direct write")
            self.put(offset, data)

    def do_truncate(self):
        size = self.random.randrange(SIZE_MAX) if self.random.random() < 0.9 else 0
        self.history[-1] += [size]
        os.ftruncate(self.fd, size)
        if size < self.size[0]:
            self.model[size:self.size[0]] = bytes(self.size[0] - size)
        self.size[0] = size

    def zero(self, mode, keeps_size):
        offset, size = self.range()
        fallocate(self.fd, mode, offset, size)
        end = min(offset + size, self.size[0]) if keeps_size else offset + size
        if end > offset:
            self.model[offset:end] = bytes(end - offset)
        if not keeps_size:
            self.size[0] = max(self.size[0], end)

    def do_punch(self):
        self.zero(PUNCH | KEEP_SIZE, True)

    def do_zero(self):
        self.zero(ZERO, False)

    def do_zero_keep(self):
        self.zero(ZERO | KEEP_SIZE, True)

    def do_reserve(self):
        offset, size = self.range()
        keeps = self.random.random() < 0.5
        fallocate(self.fd, KEEP_SIZE if keeps else 0, offset, size)
        if not keeps:
            self.size[0] = max(self.size[0], offset + size)

    def do_copy(self):
        """Within the file, from one half into the other, so that nothing overlaps."""
        half = self.size[0] // 2
        if half < 2:
            return
        size = self.random.randrange(1, half)
        source = self.random.randrange(half - size + 1)
        target = half + self.random.randrange(half)
        size = min(size, SIZE_MAX - target)
        self.history[-1] += [source, target, size]
        data, done = self.model[source:source + size], 0
        while done < size:
            step = os.copy_file_range(self.fd, self.fd, size - done, source + done, target + done)
            if step == 0:
                self.fail("copy_file_range copies nothing")
            done += step
        self.put(target, data)

    def do_reopen(self):
        self.open()

    def do_sync(self):
        os.fsync(self.fd)

    def whole(self):
        """Mapped pages too must be on the other side now."""
        os.fsync(self.fd)
        found = os.pread(self.fd, SIZE_MAX, 0)
        if found != self.model[:self.size[0]]:
            self.fail("the file as a whole differs")
