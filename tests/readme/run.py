#!/usr/bin/env python3
"""run.py - the C example of README.md: compiled as it stands there, and run on small models.

    run.py LORS_BINARY SOURCE_DIR

Also: every file that the README and the READMEs of the folders link to must exist.
"""
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

MODULES = ["libfyaml", "jansson", "openblas", "lapacke", "libxxhash", "libcrypto"]


def cached(build, name):
    """A value of the build's CMake cache."""
    match = re.search(rf"^{name}:\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.M)
    return match.group(1) if match else ""


def compile_example(build, source, text, folder):
    (folder / "example.c").write_text(text)
    flags = shlex.split(subprocess.run(["pkg-config", "--libs", *MODULES], check=True, text=True,
                                       capture_output=True).stdout)
    sanitize = cached(build, "LORS_SANITIZE")
    command = [cached(build, "CMAKE_C_COMPILER") or "cc", "-std=c11", "-Wall", "-Wextra", "-Werror",
               "-I", source / "include", folder / "example.c", build / "liblors.a",
               *([f"-fsanitize={sanitize}"] if sanitize else []), *flags, "-lm", "-lpthread", "-o",
               folder / "example"]
    subprocess.run(command, check=True)


def run_example(build, source, folder):
    blocks = re.findall(r"^```c\n(.*?)^```$", (source / "README.md").read_text(), re.M | re.S)
    if len(blocks) != 1:
        return [f"README.md has {len(blocks)} C examples, not one"]
    compile_example(build, source, blocks[0], folder)
    subprocess.run([build / "make-models", folder, "--size", "demo", "--models", "2"], check=True)
    paths = [folder / name for name in ("base", "model-1", "model-2", "merged")]
    subprocess.run([folder / "example", *paths], check=True)
    subprocess.run([build / "lors", "verify", folder / "merged"], check=True)
    return []


def dead_links(source):
    found = []
    for page in [source / "README.md", *source.glob("*/README.md"), *source.glob("*/*/README.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            if "build" not in page.parts and not (page.parent / link).exists():
                found.append(f"{page.relative_to(source)}: {link} does not exist")
    return found


def main():
    binary, source = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    folder = pathlib.Path("readme-work").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    complaints = [run_example(binary.parent, source, folder), dead_links(source)]
    for complaint in sum(complaints, []):
        print(complaint)
    failed = sum(bool(part) for part in complaints)
    print(f"{len(complaints) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
