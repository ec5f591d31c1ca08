#!/usr/bin/env python3
"""run.py - install into a temporary prefix; build and run a consumer by pkg-config and by CMake,
with the shared and with the static library; the shared library exports the public names alone.

    run.py BUILD SOURCE [--cmake CMAKE] [--cc COMPILER]
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

CMAKE_LISTS = """
cmake_minimum_required(VERSION 3.22)
project(consumer LANGUAGES C)
find_package(lors {version} REQUIRED CONFIG)
foreach(kind IN ITEMS lors lors_static)
    add_executable(consumer_${{kind}} {source})
    target_link_libraries(consumer_${{kind}} PRIVATE lors::${{kind}})
endforeach()
"""


def run(*command, **options):
    """The output of a command; its failure is the failure of the test."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=False, **options)
    if done.returncode != 0:
        sys.exit(f"FAILED {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def find(prefix, name):
    found = sorted(prefix.rglob(name))
    if not found:
        sys.exit(f"FAILED {name} is not installed under {prefix}")
    return found[0]


def check_files(prefix, source):
    """Everything that should be there is."""
    public = {path.name for path in (source / "include/lors").glob("*.h")}
    installed = {path.name for path in (prefix / "include/lors").glob("*.h")}
    if public != installed:
        sys.exit(f"FAILED headers differ: {public ^ installed}")
    for name in ("LICENSE", "README.md"):
        if (source / name).exists():
            find(prefix, name)
    for config in (source / "configs").glob("*.yaml"):
        find(prefix / "share/lors/configs", config.name)


def check_exports(prefix, source, nm):
    """The shared library exports what the public headers declare: no more and no less."""
    text = "".join(path.read_text() for path in (source / "include/lors").glob("*.h"))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    declared = set(re.findall(r"^LORS_API\b[^;{]*?\b(lors_\w+)\s*\(", text, re.MULTILINE))
    listing = run(nm, "-D", "--defined-only", find(prefix, "liblors.so"))
    exported = {line.split()[-1].split("@")[0] for line in listing.splitlines()}
    exported -= {"_init", "_fini", "_edata", "_end", "__bss_start"}
    if declared != exported:
        sys.exit(f"FAILED declared but not exported: {sorted(declared - exported)}\n"
                 f"exported but not declared: {sorted(exported - declared)}")


def check_pkg_config(prefix, consumer, work, compiler):
    folder = find(prefix, "lors.pc").parent
    env = dict(os.environ)
    env["PKG_CONFIG_PATH"] = f"{folder}:{env.get('PKG_CONFIG_PATH', '')}"
    library = folder.parent
    shared = run("pkg-config", "--cflags", "--libs", "lors", env=env).split()
    run(compiler, "-std=c11", consumer, "-o", work / "by_pkg", *shared)
    run(work / "by_pkg", env={**env, "LD_LIBRARY_PATH": str(library)})
    static = run("pkg-config", "--static", "--cflags", "--libs", "lors", env=env).split()
    static = [library / "liblors.a" if word == "-llors" else word for word in static]
    run(compiler, "-std=c11", consumer, "-o", work / "by_pkg_static", *static)
    run(work / "by_pkg_static")
    return run("pkg-config", "--modversion", "lors", env=env).strip()


def check_cmake(prefix, consumer, work, options, version):
    project = work / "project"
    project.mkdir()
    (project / "CMakeLists.txt").write_text(CMAKE_LISTS.format(source=consumer, version=version))
    run(options.cmake, "-S", project, "-B", work / "out", f"-DCMAKE_PREFIX_PATH={prefix}",
        f"-DCMAKE_C_COMPILER={options.cc}")
    run(options.cmake, "--build", work / "out")
    for kind in ("lors", "lors_static"):
        run(work / "out" / f"consumer_{kind}")


def main():
    parser = argparse.ArgumentParser(description="Install, and use what was installed.")
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--cmake", default="cmake")
    parser.add_argument("--cc", default="cc")
    options = parser.parse_args()

    consumer = options.source / "tests/install/consumer.c"
    with tempfile.TemporaryDirectory() as name:
        work, prefix = pathlib.Path(name), pathlib.Path(name, "prefix")
        run(options.cmake, "--install", options.build, "--prefix", prefix)
        check_files(prefix, options.source)
        check_exports(prefix, options.source, shutil.which("nm") or "nm")
        run(prefix / "bin/lors", "--help")
        version = check_pkg_config(prefix, consumer, work, options.cc)
        check_cmake(prefix, consumer, work, options, version)
    print("installed, and used by pkg-config and by CMake, shared and static")
    return 0


if __name__ == "__main__":
    sys.exit(main())
