"""cases_files.py - the file system: classes 29 to 32, and 91 to 101."""
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time

import inputs
from harness import Case
from inputs import RECIPE
from making import VERIFY, accepted, check_standard, expect, merge, run, shell

# Whom permissions hold back: root becomes another user.
HELD = 65534 if os.geteuid() == 0 else None
OWN = (".out.lors-lock", ".out.lors-staging", ".out.lors-old")  # what a killed run may leave


def case(number, name, build, *commands, check=None, needs=None):
    return Case("files", number, name, build, commands, check, needs)


# --- Inputs that change under the reader ----------------------------------------------------------

# So large that a merge is seen while it still reads, on a busy machine, too.
BIG = 256 << 20


def big_models(scene, n_bytes=BIG):
    """Holes of zeros: they cost no disk."""
    header = json.dumps({"w": inputs.entry("F32", [n_bytes // 4], 0, n_bytes)})
    for folder in ("base", "a"):
        path = scene.write(f"{folder}/model.safetensors", inputs.raw_file(header + " " * 5))
        os.truncate(path, os.path.getsize(path) + n_bytes)


def wait_for(process, is_so):
    end = time.monotonic() + 60
    while time.monotonic() < end and is_alive(process) and not is_so():
        time.sleep(0.0002)


def has_begun(scene):
    return os.path.exists(scene.path(".out.lors-staging"))


def has_open(process, path):
    folder = f"/proc/{process.pid}/fd"
    try:
        return any(os.fsencode(os.readlink(f"{folder}/{name}")) == path
                   for name in os.listdir(folder))
    except OSError:  # closed between the two calls
        return False


def is_alive(process):
    """Without taking its end from who waits for it."""
    done = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return done is None


def while_it_runs(act):
    """Stop the program while it reads, act, and let it go on."""
    def meddle(scene, process):
        # The output is begun and the file open again: its header was read, and its data not all.
        wait_for(process, lambda: has_begun(scene) and has_open(
            process, scene.path("a/model.safetensors")))
        process.send_signal(signal.SIGSTOP)
        act(scene)
        process.send_signal(signal.SIGCONT)
    return meddle


def truncated(scene):
    os.truncate(scene.path("a/model.safetensors"), 1000)


def emptied(scene):
    os.truncate(scene.path("a/model.safetensors"), 0)


def rewritten(scene):
    with open(scene.path("a/model.safetensors"), "r+b") as file:
        file.seek(1 << 20)
        file.write(b"x")


def grown(scene):
    with open(scene.path("a/model.safetensors"), "ab") as file:
        file.write(b"x")


def replaced(scene):
    path = scene.path("a/model.safetensors")
    shutil.copyfile(scene.path("base/model.safetensors"), path + b".new")
    os.rename(path + b".new", path)


def removed(scene):
    scene.remove("a/model.safetensors")


def config_written(scene):
    scene.write("base/config.json", '{"model_type": "other"}')


def config_linked(scene):
    scene.remove("base/config.json")
    scene.link("base/config.json", "/etc/passwd")


def config_removed(scene):
    scene.remove("base/config.json")


def changing():
    for number, act, change in (
            (29, truncated, r"cut from \d+ to 1000 bytes"),
            (29, emptied, r"cut from \d+ to 0 bytes"),
            (30, rewritten, "written to"), (30, grown, r"extended from \d+ to \d+ bytes"),
            (30, replaced, "replaced by another file"), (30, removed, "removed")):
        yield case(number, act.__name__, big_models, merge(
            6, f"a/model.safetensors: was {change} while it was read", meddle=while_it_runs(act),
            changes=("a",), memory=1 << 30))
    for act in (config_written, config_linked, config_removed):  # what was noted may be kept
        yield case(30, act.__name__, big_models, merge(
            6, "base/config.json: was .* while it was read",
            meddle=while_it_runs(act), changes=("base", ".out.lors-staging"), memory=1 << 30))
    for name in ("mem", "pagemap"):
        yield case(31, f"proc-{name}", lambda scene, name=name: scene.link(
            "a/model.safetensors", f"/proc/self/{name}"),
            merge(4, "a/model.safetensors", options=("--follow-symlinks",)))


# --- Merged folders that are not what was written -------------------------------------------------

SEAL = b',\n "sha256_of_the_above": "'


def sealed(text):
    """lors.json with another body and the right hash of itself, as an attacker would write it."""
    text = text.encode()
    return text + SEAL + hashlib.sha256(text).hexdigest().encode() + b'"\n}\n'


def flip(name, at):
    def spoil(scene):
        raw = bytearray(scene.read(f"out/{name}"))
        raw[at] ^= 1
        scene.write(f"out/{name}", bytes(raw))
    return spoil


def reworded(edit):
    """Change lors.json and seal it anew."""
    def spoil(scene):
        text = scene.read("out/lors.json")
        scene.write("out/lors.json", sealed(edit(text[:text.rindex(SEAL)].decode())))
    return spoil


def spoilt():
    differs = "differs from what was written"
    for name in ("model.safetensors", "config.json", "README.md", "lors_recipe.yaml"):
        for at in (0, 20, -1):
            yield f"bit-{name}-{at}", flip(name, at), (rf"out/{name}: {differs}",)
        yield f"gone-{name}", lambda scene, name=name: scene.remove(f"out/{name}"), (
            name, "cannot be read")
        yield f"cut-{name}", lambda scene, name=name: scene.write(
            f"out/{name}", scene.read(f"out/{name}")[:-1]), (differs,)
    for at in (0, 100, -3):
        yield f"bit-lors.json-{at}", flip("lors.json", at), (r"lors\.json: " + differs,)
    yield "extra", lambda scene: scene.write("out/adapter_config.json", "{}"), (
        "adapter_config.json: not written by the merge",)
    yield "extra-odd-name", lambda scene: scene.write("out/\x1b[2J", "{}"), (r"\\x1b\[2J",)
    yield "extra-hidden", lambda scene: scene.write("out/.x", ""), (r"\.x: not written",)
    yield "report-empty", lambda scene: scene.write("out/lors.json", b""), (differs,)
    yield "report-cut", lambda scene: scene.write(
        "out/lors.json", scene.read("out/lors.json")[:-10]), (differs,)
    damaged = "`files` is damaged"
    for name, new in (("../x", "../recipe.yaml"), ("absolute", "/etc/passwd"), ("parent", ".."),
                      ("empty", ""), ("nul", "README\\u0000.md")):
        yield f"name-{name.replace('/', '')}", reworded(
            lambda body, new=new: body.replace('"README.md"', f'"{new}"')), (
                damaged + r"|lors\.json:\d+:\d+",)
    yield "file-twice", reworded(lambda body: re.sub(
        r'(\{[^{}]*"sha256"[^{}]*\})', r"\1, \1", body, count=1)), (damaged,)
    yield "huge", lambda scene: os.truncate(scene.path("out/README.md"), 1 << 40), (
        rf"out/README\.md: {differs} \(1099511627776 bytes",)
    yield "no-files", reworded(lambda body: body.replace('"files"', '"x"')), ("no list of files",)
    yield "files-text", reworded(lambda body: '{"files": "x"'), ("no list of files",)
    yield "files-empty", reworded(lambda body: '{"files": []'), ("no list of files",)
    yield "files-numbers", reworded(lambda body: '{"files": [1]'), (damaged,)
    yield "no-json", reworded(lambda body: "x" + body), (r"lors\.json:1:\d+",)
    yield "key-twice", reworded(lambda body: body + ', "files": []'), (r"lors\.json:\d+:\d+",)
    yield "deep", reworded(lambda body: '{"files": ' + "[" * 100_000), (r"lors\.json:\d+:\d+",)


def verified():
    for name, spoil, says in spoilt():
        yield case(32, name, lambda scene: None, merge(0), run(
            "verify", "out", code=4, says=says, before=spoil))
    yield case(32, "no-report", lambda scene: scene.remove("out/lors.json"),
               run("verify", "out", code=6, says=("only folders that `lors merge` wrote",)))
    yield case(32, "report-of-another", lambda scene: None,
               run("verify", "out", code=4, says=("differs from what was written",)))


# --- No room, no permission, no place -------------------------------------------------------------

def may_mount():
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "mounting is not allowed here"


def closed(*paths):
    def build(scene):
        for path in paths:
            os.chmod(scene.path(path), 0)
    return build


def room():
    def with_space(size):
        return (f"mount -t tmpfs -o size={size} none out && mkdir out/new && "
                'touch out/new/config.json && "$LORS" merge recipe.yaml -o out/new --force; '
                "code=$?; ls -A out; exit $code")
    yield case(91, "disk-full", big_models, shell(
        "unshare -m bash -c '" + with_space("1m") + "'", 6, "no room|No space", "free some space",
        prints=("^new\n$",)), needs=may_mount)
    yield case(91, "no-inode-left", lambda scene: None, shell(
        "unshare -m bash -c '" + with_space("1m,nr_inodes=4") + "'", 6, "No space",
        prints=("^new\n$",)), needs=may_mount)
    yield case(91, "file-too-large", big_models, shell(
        'ulimit -f 1000; "$LORS" merge recipe.yaml -o out --force', 6, "ulimit -f"))
    yield case(91, "no-descriptors", lambda scene: None, shell(
        'ulimit -n 5; "$LORS" merge recipe.yaml -o out --force', 6, "ulimit -n|Too many open"))
    yield case(92, "read-only", lambda scene: None, shell(
        "unshare -m bash -c 'mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\" && "
        "\"$LORS\" merge recipe.yaml -o out --force'", 6, "Read-only"), needs=may_mount)
    yield case(92, "parent-closed", lambda scene: os.chmod(scene.root, 0o555),
               merge(6, "Permission denied", "check its permissions", user=HELD))
    yield case(92, "weights-closed", closed("a/model.safetensors"),
               merge(6, "a/model.safetensors: .*Permission denied", user=HELD))
    yield case(92, "model-closed", closed("a"),
               merge(6, r"recipe\.yaml:4:12: a.*Permission denied", user=HELD))
    yield case(92, "recipe-closed", closed("recipe.yaml"),
               merge(6, "recipe.yaml: .*Permission denied", user=HELD))
    yield case(92, "config-closed", closed("base/config.json"),
               merge(6, "base/config.json: .*Permission denied", user=HELD))
    yield case(92, "output-closed", closed("out"),
               merge(6, "Permission denied", user=HELD))
    for n in (250, 256, 5000):
        yield case(92, f"name-of-{n}", lambda scene: None, merge(6, "File name too long",
                                                                 out="o" * n))
    yield case(92, "parent-missing", lambda scene: None, merge(6, "create it first", out="x/y/out"))
    yield case(92, "parent-is-file", lambda scene: None, merge(
        6, "recipe.yaml", out="recipe.yaml/x"))
    for name, out in (("dot", "."), ("dots", ".."), ("empty", "")):
        yield case(92, f"output-is-{name}", lambda scene: scene.write("o/x", ""), shell(
            f'cd o; "$LORS" merge ../recipe.yaml -o "{out}" --force', 3 if out == ".." else
            2 if out == "" else 6, "o|name"))


def occupied():
    yield case(93, "exists", lambda scene: None, merge(6, "out: exists", "--force", force=False))
    yield case(93, "is-file", lambda scene: scene.write("file", "x"), merge(
        6, "file: ", out="file"))
    yield case(93, "is-link", lambda scene: scene.link("link", "out"), merge(
        6, "link: ", out="link"))
    yield case(93, "is-dangling-link", lambda scene: scene.link("link", "none"),
               merge(6, "link: ", out="link"))
    yield case(93, "is-fifo", lambda scene: os.mkfifo(scene.path("pipe")), merge(6, "pipe: ",
                                                                                out="pipe"))
    yield case(93, "is-no-model", lambda scene: scene.write("home/notes.txt", "mine"),
               merge(6, "home: ", out="home"))
    yield case(93, "has-folders", lambda scene: scene.write("out/.git/HEAD", "x"),
               merge(6, "out: exists and has folders"))
    for name, target in (("shadow", "/etc/shadow"), ("parent", "../recipe.yaml"),
                         ("other-model", "../out/model.safetensors"), ("device", "/dev/zero")):
        said = "a link that leaves the model's folder"
        yield case(94, f"weights-to-{name}", lambda scene, target=target: scene.link(
            "a/model.safetensors", target), merge(4, "a/model.safetensors: " + said),
            run("inspect", "a", says=(said,)))
        yield case(94, f"side-file-to-{name}", lambda scene, target=target: scene.link(
            "base/tokenizer.json", target), merge(4, "base/tokenizer.json: " + said))
        for folder in ("base", "a"):
            def build(scene, target=target, folder=folder):
                scene.link(f"{folder}/config.json", target)
            yield case(94, f"config-of-{folder}-to-{name}", build,
                       merge(4, f"{folder}/config.json: " + said))
    yield case(94, "dangling", lambda scene: scene.link("a/model.safetensors", "none"),
               merge(4, "a/model.safetensors: a link to a file that is missing"))
    yield case(94, "loop", lambda scene: scene.link("a/model.safetensors", "model.safetensors"),
               merge(4, "leads back to itself"))
    yield case(94, "loop-of-folders", lambda scene: scene.link("b", "b"), run(
        "inspect", "b", code=6, says=("b: ",)))
    yield case(94, "side-file-dangling", lambda scene: scene.link("base/vocab.json", "none"),
               merge(4, "base/vocab.json: a link to a file that is missing"))


def locked(scene):
    """The lock of a run that is alive: this process holds it."""
    file = open(scene.path(".out.lors-lock"), "wb")  # kept open by the scene
    fcntl.flock(file, fcntl.LOCK_EX)
    scene.lock = file


def signalled(number):
    def meddle(scene, process):
        wait_for(process, lambda: has_begun(scene))
        process.send_signal(number)
    return meddle


def runs():
    yield case(96, "locked", locked, merge(6, "another run is writing it now"))
    yield case(98, "stdout-full", lambda scene: None, shell(
        '"$LORS" inspect a >/dev/full', 6, "standard output: No space"))
    yield case(98, "plan-full", lambda scene: None, shell(
        '"$LORS" plan recipe.yaml --json >/dev/full', 6, "standard output"))
    yield case(98, "stdout-closed", lambda scene: None, shell(
        '"$LORS" plan recipe.yaml >&-', 6, "standard output: Bad file"))
    yield case(98, "pipe-closed", lambda scene: None, shell(
        # Written when the reader has gone, on a busy machine, too.
        'set -o pipefail; trap "" PIPE; { sleep 0.5; "$LORS" inspect a; } | true', 6,
        "standard output: Broken pipe"))
    for name, number in (("interrupt", signal.SIGINT), ("terminate", signal.SIGTERM)):
        yield case(99, name, lambda scene: big_models(scene, 8 * BIG), merge(
            130, "interrupted", meddle=signalled(number), memory=1 << 30))


# --- Legal though odd -----------------------------------------------------------------------------

def hub_cache(scene):
    """snapshots/REVISION/FILE -> ../../blobs/HASH, as a hub's client keeps models."""
    for name in ("model.safetensors", "config.json"):
        scene.write(f"hub/models--x/blobs/{name}-hash", scene.read(f"a/{name}"))
        scene.link(f"hub/models--x/snapshots/abc/{name}", f"../../blobs/{name}-hash")
    scene.write("recipe.yaml", RECIPE.replace("model: a", "model: hub/models--x/snapshots/abc"))


def hard_linked(scene):
    os.link(scene.path("out/model.safetensors"), scene.path("kept"))


def stale_stage(scene):
    scene.write(".out.lors-staging/model.safetensors", b"half a model")
    scene.write(".out.lors-lock", b"")


def check_stale(scene):
    expect(sorted(os.listdir(scene.root)), [b"a", b"base", b"out", b"recipe.yaml"], "the folder")
    check_standard(scene)


def moved_aside(scene):
    """Killed between its two renames: the old output has no name."""
    os.rename(scene.path("out"), scene.path(".out.lors-old"))
    scene.write(".out.lors-staging/model.safetensors", b"half a model")


def other_names(scene):
    """Names in Latin-1, with spaces, quotes and line ends."""
    for name in ODD_FOLDERS:
        os.makedirs(scene.path(name))
        for folder in ("base", "a"):
            shutil.copytree(scene.path(folder), os.path.join(scene.path(name), folder.encode()))
        shutil.copy(scene.path("recipe.yaml"), scene.path(name))
        shutil.copytree(scene.path("out"), os.path.join(scene.path(name), b"out"))


ODD_FOLDERS = (b"\xe9t\xe9", b"a b", b"x\ny", b"'\"", b"-f", b"\x1b[2J",
               "\u202etxt".encode(), b"%s%n")


def mismatched(scene):
    scene.model("a", [inputs.tensor(name, [3]) for name in inputs.SHAPES])
    other_names(scene)


def warned(scene):
    """Whatever the plan has a word to say of."""
    scene.write("a/config.json", {**inputs.CONFIG, "d_model": 5})
    scene.model("a", inputs.tensors(7, "F16") + [inputs.tensor("ids", [2], "I64", [1, 2])],
                config={**inputs.CONFIG, "d_model": 5})
    scene.write("base/folder/x", "x")
    other_names(scene)


def bash_word(name):
    return "$'" + "".join(f"\\x{byte:02x}" for byte in name) + "'"


def elsewhere():
    for i, name in enumerate(ODD_FOLDERS):
        at = "./" + bash_word(name)
        yield case(100, f"folder-{i}", other_names, shell(
            f'"$LORS" merge {at}/recipe.yaml -o {at}/new && "$LORS" verify {at}/new && '
            f'"$LORS" inspect {at}/new && rm -r {at}/new', 0))
        yield case(100, f"folder-{i}-bad", other_names, shell(
            f'rm {at}/a/model.safetensors; "$LORS" merge -f -o {at}/out {at}/recipe.yaml', 4,
            "neither model.safetensors", changes=(name,)))
        yield case(100, f"folder-{i}-mismatch", mismatched, shell(
            f'"$LORS" merge -f -o {at}/out {at}/recipe.yaml', 5, "another shape"))
        yield case(100, f"folder-{i}-warnings", warned, shell(
            f'"$LORS" plan {at}/recipe.yaml', 0, "is not copied", "'d_model' is 5"))


def side_file_names(scene):
    """Files beside the weights, whose names are odd: copied or said not to be."""
    for name in (b"\xff.txt", b"a\nb.txt", "\u202e.txt".encode(), b"%s.txt"):
        scene.write(b"base/" + name, b"x")
    scene.write("base/folder/x", "x")


def odd_cases():
    def odd(number, name, build, *says, **more):
        return accepted("files", number, name, build, *says, **more)
    yield odd(94, "hub-cache", hub_cache)
    yield odd(94, "link-within", lambda scene: (
        os.rename(scene.path("a/model.safetensors"), scene.path("a/real")),
        scene.link("a/model.safetensors", "real")))
    yield odd(94, "followed", lambda scene: (
        scene.write("elsewhere", scene.read("a/model.safetensors")),
        scene.link("a/model.safetensors", "../elsewhere")), options=("--follow-symlinks",))
    yield odd(94, "linked-model", lambda scene: (
        scene.link("linked", "a"),
        scene.write("recipe.yaml", RECIPE.replace("model: a", "model: linked"))))
    yield odd(95, "hard-link", hard_linked, check=lambda scene: (
        check_standard(scene), expect(scene.read("kept"), b"old weights\n")))
    yield case(97, "stale-stage", stale_stage, shell(
        '"$LORS" merge recipe.yaml -o out --force', 0, writes="out", changes=OWN), VERIFY,
        check=check_stale)
    yield case(97, "moved-aside", moved_aside, shell(
        '"$LORS" merge recipe.yaml -o out --force', 0, writes="out", changes=OWN), VERIFY,
        check=check_stale)
    yield case(98, "all-closed", lambda scene: None, shell(
        '"$LORS" merge recipe.yaml -o out --force -q <&- >&- 2>&-', 0, writes="out"), VERIFY,
        check=check_standard)
    yield odd(100, "side-files", side_file_names, "'folder/' is not copied",
              r"'\\xff.txt' is not copied", check=lambda scene: (
                  check_standard(scene), expect(scene.read(b"out/a\nb.txt"), b"x")))
    for name, environment in (("no-home", {"HOME": "/nowhere", "TMPDIR": "/nowhere"}),
                              ("locale", {"LC_ALL": "tr_TR.UTF-8", "LANG": "de_DE.UTF-8"}),
                              ("epoch", {"SOURCE_DATE_EPOCH": "0", "TZ": "Nowhere/Bad"})):
        command = merge(0)
        command.environment = environment
        yield case(101, name, lambda scene: None, command, VERIFY, check=check_standard)


def cases():
    for table in (changing, verified, room, occupied, runs, elsewhere, odd_cases):
        yield from table()
