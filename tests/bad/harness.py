"""harness.py - what a case is, how it is run, and the rules that hold for all of them.

A case writes files into a folder of its own and runs commands there. Whatever a command is given:
it ends by itself and not by a signal, with the exit code that the case states; it says what the
case wants to read on stderr, in lines that a terminal can show; no sanitizer speaks; time and
memory stay within bounds; and what lay in the folder before is there afterwards, byte by byte,
and nothing beside it. Only a command that succeeds may change OUT, and nothing else.
"""
import atexit
import dataclasses
import functools
import hashlib
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import threading
import time

import inputs

SECONDS_MAX = 5.0
MEMORY_MAX = 256 << 20
LINE_MAX, STDERR_MAX = 8192, 1 << 16
SANITIZERS = re.compile(rb"Sanitizer|runtime error:|SUMMARY: ")
# C0 but newline, DEL, C1, line and paragraph separators, marks that turn the direction around
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@dataclasses.dataclass
class Command:
    """One call of the program; {lors} may stand in a shell line instead of arguments."""
    arguments: tuple = ("merge", "recipe.yaml", "-o", "out", "--force")
    exit_code: int = 4
    says: tuple = ()           # patterns, all of them found on stderr (case as written)
    prints: tuple = ()         # the same on stdout
    shell: str = ""            # a bash line; $LORS is the program
    writes: str = "out"        # the folder that may change if the command succeeds
    changes: tuple = ()        # what else may change, whatever it ends with
    before: object = None      # before(scene): called before it runs
    meddle: object = None      # meddle(scene, process): called while it runs
    user: int = None           # run as this user
    environment: dict = dataclasses.field(default_factory=dict)
    seconds: float = SECONDS_MAX
    memory: int = MEMORY_MAX   # above that of a command that does nothing


@dataclasses.dataclass
class Case:
    """`number` is the class in the list of bad inputs; a case with only exit code 0 is a legal
    though odd input."""
    section: str
    number: int
    name: str
    build: object              # build(scene), after scene.standard()
    commands: tuple
    check: object = None       # check(scene) after the commands: raises AssertionError
    needs: object = None       # needs() -> "" or why the case cannot run here

    @property
    def is_bad(self):
        return any(command.exit_code != 0 for command in self.commands)

    @property
    def title(self):
        return f"{self.section}/{self.number:03}-{self.name}"


@dataclasses.dataclass
class Outcome:
    case: Case
    faults: list
    skipped: str = ""
    seconds: float = 0.0       # of the slowest command
    memory: int = 0            # of the largest, above the base line


@dataclasses.dataclass
class Limits:
    baseline: int = 0          # resident bytes of a command that does nothing
    memory: bool = True        # judge memory?
    slowness: float = 1.0      # factor on every bound of time


# --- A folder as it is ----------------------------------------------------------------------------

def fingerprint(path):
    info = os.lstat(path)
    kind = stat.S_IFMT(info.st_mode)
    if stat.S_ISLNK(info.st_mode):
        return (kind, os.readlink(path))
    if not stat.S_ISREG(info.st_mode):
        return (kind,)
    if info.st_size > 1 << 22:  # large ones are sparse and not worth reading
        return (kind, info.st_ino, info.st_size, info.st_mtime_ns)
    try:
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).digest()
    except PermissionError:
        content = info.st_mtime_ns
    return (kind, info.st_ino, info.st_size, content)


def snapshot(root):
    """Relative path -> what is there. Entries that cannot be looked into are themselves noted."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, root)] = fingerprint(path)
    return found


def differences(before, after, may_change):
    """Sentences on what changed, but for the entries of the case's folder that may."""
    may_change = {os.fsencode(name) for name in may_change}

    def watched(found):
        return {name: what for name, what in found.items()
                if name.split(b"/")[0] not in may_change}
    before, after = watched(before), watched(after)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            verb = ("vanished" if name not in after else
                    "was left behind" if name not in before else "was changed")
            yield f"{os.fsdecode(name)!r} {verb}"


# --- One command ----------------------------------------------------------------------------------

@dataclasses.dataclass
class Ended:
    code: int                  # negative: by this signal
    stdout: bytes
    stderr: bytes
    seconds: float
    memory: int
    timed_out: bool


@functools.cache
def copy_for_others(lors):
    """The program where every user can reach it: the folder of the sources may be closed."""
    folder = tempfile.mkdtemp(prefix="lors-bad-program-")
    atexit.register(shutil.rmtree, folder)
    os.chmod(folder, 0o755)
    return shutil.copy(lors, folder)


def run_command(lors, command, scene, slowness=1.0):
    """Run it in the case's folder, and measure it."""
    if command.user is not None:
        lors = copy_for_others(lors)
    line = ["bash", "-c", command.shell] if command.shell else [lors, *command.arguments]
    environment = {**os.environ, "LORS": lors, "LC_ALL": "C", "TERM": "dumb",
                   **command.environment}
    environment.pop("NO_COLOR", None)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        process = subprocess.Popen(line, cwd=scene.root, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=err, env=environment, user=command.user)
        late = threading.Event()

        def kill():
            late.set()
            process.send_signal(signal.SIGKILL)
        timer = threading.Timer(6 * command.seconds * slowness, kill)
        timer.start()
        if command.meddle:
            command.meddle(scene, process)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # Popen need not wait again
        timer.cancel()
        seconds = time.monotonic() - start
        out.seek(0)
        err.seek(0)
        return Ended(process.returncode, out.read(), err.read(), seconds, usage.ru_maxrss << 10,
                     late.is_set())


def printable_faults(name, raw):
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return [f"{name} is not UTF-8 at byte {error.start}"]
    found = CONTROLS.search(text)
    return [f"{name} holds the control character {found.group()!r}"] if found else []


def stderr_faults(command, ended):
    text = ended.stderr.decode("utf-8", "backslashreplace")
    faults = printable_faults("stderr", ended.stderr)
    if SANITIZERS.search(ended.stderr):
        faults.append("a sanitizer spoke")
    if len(text) > STDERR_MAX or any(len(line) > LINE_MAX for line in text.split("\n")):
        faults.append("stderr is too long")
    fails = command.exit_code not in (0, 1)  # 1: compare found differences
    if fails != ("error: " in text):
        faults.append("stderr has no error" if fails else "stderr has an error")
    for line in text.splitlines():
        if not line.startswith("lors: ") and not command.shell:
            faults.append(f"stderr has a line of its own: {line[:80]!r}")
            break
    faults += [f"stderr does not say {pattern!r}" for pattern in command.says
               if not re.search(pattern, text)]
    return faults


def stdout_faults(command, ended):
    text = ended.stdout.decode("utf-8", "backslashreplace")
    faults = printable_faults("stdout", ended.stdout)
    if command.exit_code not in (0, 1) and not command.prints and text and not command.shell:
        faults.append("a command that fails printed to stdout")
    faults += [f"stdout does not say {pattern!r}" for pattern in command.prints
               if not re.search(pattern, text)]
    return faults


def bound_faults(command, ended, limits):
    faults = []
    most = command.seconds * limits.slowness
    if ended.timed_out:
        faults.append("it did not end by itself")
    elif ended.seconds > most:
        faults.append(f"it took {ended.seconds:.1f} s (allowed: {most:.0f} s)")
    above = ended.memory - limits.baseline
    if limits.memory and above > command.memory:
        faults.append(f"it took {above >> 20} MiB (allowed: {command.memory >> 20} MiB)")
    return faults


def judge(command, ended, before, after, limits):
    faults = []
    if ended.code < 0 or ended.code in (128 + 6, 128 + 7, 128 + 9, 128 + 11):
        faults.append(f"it was ended by signal {ended.code}")
    elif ended.code != command.exit_code:
        faults.append(f"exit code {ended.code}, expected {command.exit_code}")
    faults += stderr_faults(command, ended) + stdout_faults(command, ended)
    faults += bound_faults(command, ended, limits)
    writes = (command.writes,) if command.exit_code == 0 and command.writes else ()
    faults += list(differences(before, after, command.changes + writes))
    return faults


# --- One case -------------------------------------------------------------------------------------

def show(command, ended):
    shown = command.shell or " ".join(("lors",) + command.arguments)
    lines = [f"  $ {shown}", f"  exit code {ended.code}, {ended.seconds:.2f} s"]
    for name, raw in (("stdout", ended.stdout), ("stderr", ended.stderr)):
        lines += [f"  {name}: {line[:500]}"
                  for line in raw.decode("utf-8", "backslashreplace").splitlines()[:12]]
    return lines


def run_case(case, lors, limits, verbose=False):
    """Returns the outcome; with faults, its last lines show what the command did."""
    outcome = Outcome(case, [])
    outcome.skipped = case.needs() if case.needs else ""
    if outcome.skipped:
        return outcome
    root = tempfile.mkdtemp(prefix="lors-bad-")
    try:
        os.chmod(root, 0o755)
        scene = inputs.Scene(root)
        scene.standard()
        case.build(scene)
        for command in case.commands:
            if command.before:
                command.before(scene)
            before = snapshot(scene.root)
            ended = run_command(lors, command, scene, limits.slowness)
            faults = judge(command, ended, before, snapshot(scene.root), limits)
            outcome.seconds = max(outcome.seconds, ended.seconds)
            outcome.memory = max(outcome.memory, ended.memory - limits.baseline)
            if faults or verbose:
                outcome.faults += faults + show(command, ended) if faults else []
                if verbose:
                    print("\n".join([case.title] + show(command, ended)))
        if case.check and not outcome.faults:
            case.check(scene)
    except (AssertionError, LookupError, ValueError, OSError, struct.error) as error:
        outcome.faults.append(f"wrong result: {type(error).__name__}: {error}")
    finally:
        remove(root)
    return outcome


def remove(root):
    os.chmod(root, 0o700)
    for folder, folders, _ in os.walk(root):
        for name in folders:  # before it is gone into
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(root)
