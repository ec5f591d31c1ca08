"""headers.py - every header compiles alone, twice over; the public ones also as strict C++."""
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import tempfile

WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"]
C = ["-std=c11", "-x", "c"]
CXX = ["-std=c++11", "-x", "c++"]


def _link_rooms(root, rooms, folder):
    """One include folder a room, holding a link of that name: "io/file.h" opens room io alone."""
    for room in rooms:
        target = root / ("cuda" if room == "cuda" else f"src/{room}")
        if target.is_dir():
            (folder / room).mkdir()
            (folder / room / room).symlink_to(target)


def _compile(compiler, flags, include_line):
    text = f"{include_line}\n{include_line}\ntypedef int lors_not_empty;\n"
    done = subprocess.run([compiler, *flags, *WARNINGS, "-"], input=text, text=True,
                          capture_output=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip() or "does not compile")


def _jobs(root, files, arrows, folder, compilers):
    """(file, compiler, flags, include line) for every header."""
    compiler, cxx = compilers
    include = f"-I{root / 'include'}"
    for file in files:
        if not file.name.endswith(".h"):
            continue
        if file.public:
            line = f"#include <{file.path[len('include/'):]}>"
            yield file, compiler, [*C, include], line
            if cxx:
                yield file, cxx, [*CXX, include], line
        elif file.room and file.room != "cuda":
            paths = [f"-I{folder / room}" for room in sorted(arrows[file.room])]
            line = f'#include "{file.path[len("src/"):]}"'
            yield file, compiler, [*C, "-D_GNU_SOURCE", include, *paths], line


def check(lint, files, arrows, compiler):
    if not shutil.which(compiler):
        lint.report("tests/lint", 0, "header", f"no compiler {compiler}")
        return
    cxx = shutil.which(os.environ.get("CXX", "g++"))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        _link_rooms(lint.root, arrows, folder)
        jobs = list(_jobs(lint.root, files, arrows, folder, (compiler, cxx)))
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            results = pool.map(lambda job: _compile(*job[1:]), jobs)
            for job, result in zip(jobs, results):
                if result:
                    language = "C++" if job[1] == cxx else "C"
                    first = [line for line in result.split("\n") if "error" in line] or [result]
                    lint.report(job[0], 1, "header", f"not {language} by itself: {first[0]}")
