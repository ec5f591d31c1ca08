"""sources.py - hashes of the sources that a measurement belongs to: when they move, it is stale."""
import hashlib
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def of_files(paths):
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def of_kernels():
    """SHA-256 of all that the CUDA backend is made of."""
    files = [path for pattern in ("*.cu", "*.h") for path in (ROOT / "cuda").glob(pattern)]
    return of_files(files + [ROOT / "src/backend/backend_ops.h", ROOT / "src/backend/arithmetic.h",
                             ROOT / "src/base/rng.h"])


def of_program():
    """SHA-256 of the sources that decide a merge's speed on the CPU."""
    rooms = ("cpu", "method", "plan", "run", "io", "backend", "base")
    return of_files(path for room in rooms for path in (ROOT / "src" / room).glob("*.[ch]"))
