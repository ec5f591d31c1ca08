#!/usr/bin/env python3
"""test_lint.py - the lint must find every planted mistake, and nothing in a clean tree."""
import pathlib
import subprocess
import sys
import tempfile

LINT = pathlib.Path(__file__).with_name("lint.py")
LONG_FUNCTION = "void lors_long(void)\n{\n" + "    ;\n" * 70 + "}\n"

# A clean tree: what looks like a mistake to a careless reader but is none.
CLEAN = {
    "include/lors/ok.h": "/* ok.h - fine. */\n#ifndef A\n#define A\n#include <stdint.h>\n#endif\n",
    "src/base/error.h": "/* error.h - fine. */\n#ifndef B\n#define B\n#include <lors/ok.h>\n"
                        "#endif\n",
    "src/base/memory.c": "/* memory.c - may allocate. */\nvoid *p(void) { return malloc(1); }\n",
    "src/io/fine.c": '/* fine.c - printf() in a comment. */\n#include "base/error.h"\n'
                     'const char *text = "exit(1); /* } */ malloc(2)"; // abort()\n'
                     "int f(const struct ops *ops) { return ops->open(1) + my_open(2); }\n"
                     "char brace(void) { return '{'; }\n"
                     "#define LOOP { \\\n    {\n"
                     "int g(void)\n{\n    assert(a == b && c <= d);\n    return 0;\n}\n"
                     "void h(void) { free(0); } /* lint-allow(raw-memory): for the test */\n",
    "src/cli/main.c": '/* main.c - may print. */\nint main(void) { printf("cuda"); exit(0); }\n',
    "src/method/method_registry.c": "/* method_registry.c - all. */\n"
                                    "x *y[] = {&lors_method_foo};\n",
    "configs/foo.yaml": "",
    "tests/method/test_all.c": "/* test_all.c - fine. */\nint *p = &lors_method_foo;\n",
}

# (rule, path, text): each must be found in an otherwise clean tree.
MISTAKES = [
    ("line-length", "src/io/bad.c", "/* bad.c - x. */\n/* " + "x" * 100 + " */\n"),
    ("file-length", "src/io/bad.c", "/* bad.c - x. */\n" + "\n" * 600),
    ("function-length", "src/io/bad.c", "/* bad.c - x. */\n" + LONG_FUNCTION),
    ("function-length", "cuda/bad.cu", "/* bad.cu - x. */\ntemplate <int N = 1>\n" + LONG_FUNCTION),
    ("trailing-blank", "src/io/bad.c", "/* bad.c - x. */ \n"),
    ("tab", "src/io/bad.c", "/* bad.c - x. */\n\tint x;\n"),
    ("todo", "src/io/bad.c", "/* bad.c - x. */\n/* TO" + "DO: later */\n"),
    ("last-line", "src/io/bad.c", "/* bad.c - x. */\nint x;"),
    ("purpose", "src/io/bad.c", "int x;\n"),
    ("arrow", "src/io/bad.c", '/* bad.c - x. */\n#include "plan/plan.h"\n'),
    ("arrow", "src/cli/bad.c", '/* bad.c - x. */\n#include "base/error.h"\n'),
    ("arrow", "src/run/bad.c", '/* bad.c - x. */\n#include "cpu/cpu_internal.h"\n'),
    ("include", "src/io/bad.c", '/* bad.c - x. */\n#include "../plan/plan.h"\n'),
    ("include", "src/io/bad.c", '/* bad.c - x. */\n#include "lors/ok.h"\n'),
    ("include", "include/lors/bad.h", '/* bad.h - x. */\n#include "base/error.h"\n'),
    ("library", "src/plan/bad.c", "/* bad.c - x. */\n#include <libfyaml.h>\n"),
    ("library", "src/cpu/bad.c", "/* bad.c - x. */\n#include <cuda_runtime.h>\n"),
    ("no-print", "src/io/bad.c", '/* bad.c - x. */\nvoid f(void) { printf("x"); }\n'),
    ("no-print", "src/io/bad.c", "/* bad.c - x. */\nvoid *f(void) { return stderr; }\n"),
    ("no-exit", "src/io/bad.c", "/* bad.c - x. */\nvoid f(void) { exit (1); }\n"),
    ("unsafe-call", "src/io/bad.c", "/* bad.c - x. */\nvoid f(void) { strcpy(a, b); }\n"),
    ("raw-memory", "src/io/bad.c", "/* bad.c - x. */\nvoid f(void) { free(p); }\n"),
    ("raw-file", "src/io/bad.c", "/* bad.c - x. */\nint f(void) { return open(a, 0); }\n"),
    ("assert", "src/io/bad.c", "/* bad.c - x. */\nvoid f(void) { assert(n++ < (m)); }\n"),
    ("assert", "src/io/bad.c", "/* bad.c - x. */\nvoid f(void) { assert((a = b)); }\n"),
    ("cuda", "src/plan/bad.c", "/* bad.c - x. */\nint cuda_count;\n"),
    ("cuda", "src/method/bad.c", "/* bad.c - fast with CUDA. */\n"),
    ("method", "src/method/method_registry.c",
     "/* method_registry.c - all. */\nx *y[] = {&lors_method_bar};\n"),
    ("header", "src/io/bad.h", "/* bad.h - x. */\n#ifndef C\n#define C\nsize_t f(void);\n#endif\n"),
    ("header", "src/io/bad.h", "/* bad.h - twice. */\nstruct twice { int x; };\n"),
    ("header", "include/lors/bad.h", "/* bad.h - not C++. */\n#ifndef C\n#define C\nint new;\n"
                                     "#endif\n"),
]


def lint(files):
    """The (rule, path) that the lint reports for a tree of these files, and how it ended."""
    with tempfile.TemporaryDirectory() as name:
        for path, text in files.items():
            target = pathlib.Path(name, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        needs_compiler = any("bad.h" in path for path in files) or files is CLEAN
        done = subprocess.run(
            [sys.executable, str(LINT), name, "--cc", "cc" if needs_compiler else ""],
            capture_output=True, text=True, check=False)
    found = {(line.split(": ")[1], line.split(":")[0]) for line in done.stdout.splitlines()}
    return found, done


def main():
    failures = 0
    found, done = lint(CLEAN)
    if done.returncode != 0:
        print(f"the clean tree is not clean:\n{done.stdout}{done.stderr}")
        failures += 1
    for rule, path, text in MISTAKES:
        found, done = lint({**CLEAN, path: text})
        if (rule, path) not in found or done.returncode != 1:
            print(f"not found: {rule} in {path}:\n{text[:200]}\n--> {done.stdout}{done.stderr}")
            failures += 1
    print(f"{len(MISTAKES) + 1} trees, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
