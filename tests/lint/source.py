"""source.py - files of the tree, C without its comments and strings, functions and includes."""
import bisect
import os
import pathlib
import re

C_SUFFIXES = {".c", ".h", ".cu", ".cuh"}
FOLDERS = ("include", "src", "cuda", "tests", "benchmarks", "scripts")
SUFFIXES = C_SUFFIXES | {".py", ".sh", ".cmake"}
ROOT_FILES = ("CMakeLists.txt",)

_TOKEN = re.compile(
    r"""(?P<comment>/\*.*?\*/|//[^\n]*)|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""",
    re.DOTALL)


def _blank(text):
    return re.sub(r"[^\n]", " ", text)


def without_comments(text):
    """The text with comments blanked; offsets and lines stay."""
    return _TOKEN.sub(lambda m: _blank(m.group()) if m.group("comment") else m.group(), text)


def code_only(text):
    """Comments and the insides of strings blanked; offsets and lines stay."""
    def replace(match):
        whole = match.group()
        if match.group("comment"):
            return _blank(whole)
        return whole[0] + " " * (len(whole) - 2) + whole[-1]
    return _TOKEN.sub(replace, text)


def balanced(text, start):
    """What stands between the bracket at `start` and its partner."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return text[start + 1:index]
    return text[start + 1:]


class File:
    """One file: its text, and where it stands in the house."""

    def __init__(self, root, path):
        self.absolute = path
        self.path = path.relative_to(root).as_posix()
        self.name = path.name
        self.text = path.read_text(encoding="utf-8", errors="replace")
        self.lines = self.text.split("\n")[:-1] if self.text.endswith("\n") else \
            self.text.split("\n")
        self.is_c = path.suffix in C_SUFFIXES
        self.code = code_only(self.text) if self.is_c else self.text
        self.code_lines = self.code.split("\n")
        self._starts = [0] + [m.end() for m in re.finditer("\n", self.text)]
        parts = self.path.split("/")
        self.public = parts[0] == "include"
        self.room = parts[1] if parts[0] == "src" and len(parts) > 2 else None
        if parts[0] == "cuda":
            self.room = "cuda"
        self.in_library = self.room not in (None, "cli", "cuda")

    def line_of(self, offset):
        return bisect.bisect_right(self._starts, offset)

    def allows(self, line, rule):
        return 0 < line <= len(self.lines) and f"lint-allow({rule}): " in self.lines[line - 1]

    def includes(self):
        """(line, '<' or '"', target) of every include."""
        pattern = re.compile(r'^[ ]*#[ ]*include[ ]*([<"])([^>"]+)[>"]', re.MULTILINE)
        for match in pattern.finditer(without_comments(self.text)):
            yield self.line_of(match.start()), match.group(1), match.group(2)


def functions(file):
    """(name, first line, last line) of every function of a C file, by counting braces."""
    # Directives, with their continuation lines, may hold anything: blank them.
    code = re.sub(r"^[ ]*#(?:\\\n|[^\n])*", lambda m: _blank(m.group()), file.code,
                  flags=re.MULTILINE)
    code = re.sub(r'extern\s*"[^"\n]*"\s*\{|template\s*<[^>]*>', lambda m: _blank(m.group()), code)
    depth, start, head, body = 0, 0, "", 0
    for index, char in enumerate(code):
        if char == "{":
            if depth == 0:
                head, body = code[start:index], index
            depth += 1
        elif char == "}":
            depth = max(depth - 1, 0) # the brace of extern "C"
        if depth == 0 and char in ";}":
            if char == "}" and body and head.rstrip().endswith(")") and "=" not in head:
                name = re.search(r"(\w+)\s*\(", head)
                first = start + len(code[start:]) - len(code[start:].lstrip())
                yield (name.group(1) if name else "?", file.line_of(first), file.line_of(index))
            start, body = index + 1, 0


def find(root):
    """Every file that the rules are for, in order of its path."""
    found = [root / name for name in ROOT_FILES if (root / name).exists()]
    for folder in FOLDERS:
        for where, folders, names in os.walk(root / folder):
            folders[:] = [name for name in folders if not name.startswith((".", "__", "build"))]
            for name in names:
                path = pathlib.Path(where) / name
                is_script = folder == "scripts" and "." not in name
                if path.suffix in SUFFIXES or name == "CMakeLists.txt" or is_script:
                    found.append(path)
    return [File(root, path) for path in sorted(found)]
