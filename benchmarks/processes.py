"""processes.py - run a command as its own process and say what it took; name the machine."""
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import tempfile
import threading
import time

SAMPLE_SECONDS = 0.02
TAIL_BYTES = 1 << 20


def machine():
    name = platform.processor() or platform.machine()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"processor": name, "processors": os.cpu_count(), "memory_bytes": memory,
            "system": platform.platform()}


class PrivatePeak(threading.Thread):
    """The most anonymous memory a process had, looked at from time to time.

    Peak resident memory also holds the pages of mapped files, which the system may take back; this
    is what it cannot. A peak shorter than SAMPLE_SECONDS may be missed: it is a lower bound.
    """

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.path, self.bytes, self.over = f"/proc/{pid}/status", 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(SAMPLE_SECONDS):
            try:
                text = pathlib.Path(self.path).read_text()
            except OSError:
                return
            if "RssAnon:" in text:
                kilobytes = int(text.split("RssAnon:", 1)[1].split(None, 1)[0])
                self.bytes = max(self.bytes, kilobytes * 1024)

    def stop(self):
        self.over.set()
        self.join()
        return self.bytes


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run(command, environment=None, quiet=False, new=None):
    """What a command took: exit status, seconds, memory. Its output goes to `output` (the end).

    `new`: what it makes. If that is there it is removed before, which is no part of its work.
    """
    if new:
        remove(new)
    os.sync()  # no run pays for what another left to be written
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        process = subprocess.Popen([str(word) for word in command], env=environment,
                                   stdout=output, stderr=subprocess.STDOUT)
        peak = PrivatePeak(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)  # reaped here, not by Popen
        private = peak.stop()
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - TAIL_BYTES))
        text = output.read().decode(errors="replace")
    if process.returncode and not quiet:
        words = " ".join(map(str, command))
        raise SystemExit(f"{words}\nexit status {process.returncode}:\n{text}")
    return {"status": process.returncode, "seconds": seconds,
            "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024,
            "private_bytes": private, "output": text}


def summary(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values),
            "n": len(values)}
