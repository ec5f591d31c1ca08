#!/usr/bin/env python3
"""lint.py - the rules of the house that a compiler does not check. Standard library only.

    lint.py ROOT [--cc COMPILER]

Prints "file:line: rule: what" for every breach and exits with 1 if there is any. A line that must
break a rule says so, with the reason: /* lint-allow(RULE): why */.
"""
import argparse
import pathlib
import re
import sys

import headers
import source

MAX_COLUMNS, MAX_FILE_LINES, MAX_FUNCTION_LINES = 100, 600, 70

# Which rooms a room may include; src/CMakeLists.txt holds the same table.
ARROWS = {
    "base": {"base"},
    "io": {"io", "base"},
    "method": {"method", "backend", "base"},
    "recipe": {"recipe", "method", "backend", "base"},
    "backend": {"backend", "cpu", "base"},
    "cpu": {"cpu", "backend", "base"},
    "plan": {"plan", "recipe", "method", "backend", "io", "base"},
    "run": {"run", "plan", "recipe", "method", "backend", "io", "base"},
    "cli": {"cli"},
    "cuda": {"cuda", "backend", "base"},
}

# Libraries that only some rooms may know.
LIBRARIES = {
    "libfyaml.h": {"recipe"},
    "jansson.h": {"io", "recipe", "plan", "run", "cli"},
    "cblas.h": {"cpu", "backend"},
    "lapacke.h": {"cpu"},
    "xxhash.h": {"base"},
    "openssl/": {"base"},
    "cuda": {"cuda"},
    "cublas": {"cuda"},
    "cusolver": {"cuda"},
    "cusparse": {"cuda"},
}

PUBLIC_INCLUDES = re.compile(r"lors/\w+\.h|std(bool|def|int|arg|io)\.h")

# Calls that only one file may make (besides src/cli): (rule, names, that file, what to use).
CALLS = [
    ("no-print", "printf fprintf vprintf vfprintf dprintf vdprintf puts fputs putchar putc perror",
     None, "the library never prints"),
    ("no-exit", "exit _exit _Exit quick_exit abort raise", None, "the library never exits"),
    ("unsafe-call", "sprintf vsprintf strcpy strcat gets strtok system popen", None,
     "use a bounded call"),
    ("raw-memory", "malloc calloc realloc reallocarray free strdup strndup aligned_alloc "
     "posix_memalign asprintf vasprintf", "src/base/memory.c", "use base/memory.h"),
    ("raw-file", "open openat creat fopen freopen pread pwrite readv writev preadv pwritev "
     "rename renameat renameat2 unlink unlinkat remove mkdir mkdirat rmdir link symlink "
     "fsync fdatasync ftruncate truncate fallocate posix_fallocate mmap", "src/base/file.c",
     "use base/file.h"),
]


class Lint:
    """Collects breaches; knows where the tree is."""

    def __init__(self, root):
        self.root = pathlib.Path(root).resolve()
        self.breaches = []

    def report(self, file, line, rule, what):
        where = file.path if isinstance(file, source.File) else str(file)
        if isinstance(file, source.File) and file.allows(line, rule):
            return
        self.breaches.append((where, line, rule, what))


def check_text(lint, file):
    """Lengths, blanks, notes to oneself."""
    for number, line in enumerate(file.lines, 1):
        if len(line) > MAX_COLUMNS:
            lint.report(file, number, "line-length", f"{len(line)} columns, {MAX_COLUMNS} allowed")
        if line != line.rstrip():
            lint.report(file, number, "trailing-blank", "blank at the end of the line")
        if "\t" in line and file.is_c:
            lint.report(file, number, "tab", "tab in a C file")
        if re.search(r"\b(TO[D]O|FIX[M]E|X[X]X)\b", line):
            lint.report(file, number, "todo", "an open note: do it or write an issue")
    if len(file.lines) > MAX_FILE_LINES:
        lint.report(file, len(file.lines), "file-length",
                    f"{len(file.lines)} lines, {MAX_FILE_LINES} allowed")
    if file.text and not file.text.endswith("\n"):
        lint.report(file, len(file.lines), "last-line", "no newline at the end of the file")


def check_shape(lint, file):
    """C files: what the file is for, and functions that fit a screen."""
    opening = re.match(r"/\* ([\w./]+)(?: \(\w+\))? - \S", file.text)
    if not opening or not f"/{file.path}".endswith(f"/{opening.group(1)}"):
        lint.report(file, 1, "purpose", f'the first line must be "/* {file.name} - purpose"')
    for name, first, last in source.functions(file):
        if last - first + 1 > MAX_FUNCTION_LINES:
            lint.report(file, first, "function-length",
                        f"{name}: {last - first + 1} lines, {MAX_FUNCTION_LINES} allowed")


def check_arrows(lint, file):
    """Who may include whom."""
    for number, kind, target in file.includes():
        if file.room is None and not file.public:
            continue
        if ".." in target.split("/"):
            lint.report(file, number, "include", f'"{target}": name the room, not the way there')
        elif file.public:
            if kind != "<" or not PUBLIC_INCLUDES.fullmatch(target):
                lint.report(file, number, "include",
                            f"{target}: public headers include <lors/...> and standard headers")
        elif kind == '"' and target.startswith("lors/"):
            lint.report(file, number, "include", f'"{target}": write <{target}>')
        elif kind == '"' and "/" in target and target.split("/")[0] not in ARROWS[file.room]:
            lint.report(file, number, "arrow",
                        f'{file.room} may not include "{target}" '
                        f"(only {', '.join(sorted(ARROWS[file.room]))})")
        for library, rooms in LIBRARIES.items():
            if kind == "<" and target.startswith(library) and file.room not in rooms:
                lint.report(file, number, "library",
                            f"<{target}> belongs to {', '.join(sorted(rooms))}")


def check_calls(lint, file):
    """Calls that libraries must not make, or not there."""
    if not file.in_library:
        return
    for rule, names, home, advice in CALLS:
        if file.path == home:
            continue
        # Not a member (ops->open), not a longer name; a call or a declaration.
        pattern = re.compile(r"(?<![\w.>])(" + "|".join(names.split()) + r")\s*\(")
        for number, line in enumerate(file.code_lines, 1):
            for match in pattern.finditer(line):
                lint.report(file, number, rule, f"{match.group(1)}(): {advice}")
    for number, line in enumerate(file.code_lines, 1):
        if re.search(r"\b(stdout|stderr|stdin)\b", line):
            lint.report(file, number, "no-print", "the library has no standard streams")


def check_asserts(lint, file):
    """An assertion may be compiled out: it must not do anything."""
    for match in re.finditer(r"\b(static_)?assert\s*\(", file.code):
        condition = source.balanced(file.code, match.end() - 1)
        if re.search(r"\+\+|--|(?<![=!<>])=(?!=)", condition):
            lint.report(file, file.line_of(match.start()), "assert", "assertion with a side effect")


def check_cuda(lint, file):
    """Host code does not know the devices: no CUDA outside cuda/ but in words for people."""
    if file.room in (None, "cli", "cuda") and not file.public:
        return
    if file.path in ("src/backend/backend_registry.c", "src/backend/arithmetic.h",
                     "src/base/rng.h"):
        return
    # A method does not even speak of it; elsewhere comments and strings ("cuda:0") may.
    lines = file.lines if file.room == "method" else file.code_lines
    for number, line in enumerate(lines, 1):
        if re.search(r"cuda", line, re.IGNORECASE):
            lint.report(file, number, "cuda", "only cuda/ and backend_registry.c know CUDA")


def check_methods(lint, file):
    """Every method of the table has an example, and a test that names it."""
    if file.path != "src/method/method_registry.c":
        return
    for match in re.finditer(r"&lors_method_([a-z0-9_]+)\b", file.code):
        name = match.group(1)
        line = file.line_of(match.start())
        if not (lint.root / f"configs/{name}.yaml").exists():
            lint.report(file, line, "method", f"method {name} needs configs/{name}.yaml")
        tests = (lint.root / "tests/method").glob("test_*.c")
        if not any(re.search(rf"\blors_method_{name}\b", test.read_text()) for test in tests):
            lint.report(file, line, "method", f"method {name} needs a test in tests/method")


RULES = [check_text, check_shape, check_arrows, check_calls, check_asserts, check_cuda,
         check_methods]
C_RULES = {check_shape, check_arrows, check_calls, check_asserts, check_cuda, check_methods}


def main():
    parser = argparse.ArgumentParser(description="Check the rules of the sources.")
    parser.add_argument("root")
    parser.add_argument("--cc", default="cc", help="compiler for the headers; '' leaves them out")
    options = parser.parse_args()

    lint = Lint(options.root)
    files = source.find(lint.root)
    for file in files:
        for rule in RULES:
            if file.is_c or rule not in C_RULES:
                rule(lint, file)
    if options.cc:
        headers.check(lint, files, ARROWS, options.cc)
    for where, line, rule, what in sorted(set(lint.breaches)):
        print(f"{where}:{line}: {rule}: {what}")
    print(f"{len(files)} files, {len(set(lint.breaches))} breaches", file=sys.stderr)
    return 1 if lint.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
