"""cases_header.py - headers of safetensors files, and their data: classes 1 to 34.

A row is (class, name, content, patterns of the message).
"""
import json
import os

import inputs
from inputs import entry, raw_file
from harness import Case
from making import (accepted, bytes_case, check_standard, expect, merge, run, shell, values_of)

PAIR = '"dtype":"F32","shape":[2],"data_offsets":[0,8]'
ONE = '{"a":{' + PAIR + '}}'
ZEROS = bytes(8)
BYTE = r": byte \d+: "


def field(dtype='"F32"', shape="[2]", offsets="[0,8]", name='"a"'):
    """A header of one tensor with these texts as its fields."""
    return f'{{{name}:{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}'


def two(first, second, data=16):
    """Two tensors by shape and offsets."""
    header = {"a": entry(shape=first[0], begin=first[1], end=first[2]),
              "b": entry(shape=second[0], begin=second[1], end=second[2])}
    return raw_file(json.dumps(header), bytes(data))


def lengths():
    for n in range(8):
        yield 1, f"{n}-bytes", bytes(range(1, n + 1)), (r"ends before its header \(found %d" % n,)
    for n in (2**64 - 1, 2**64 - 8, 2**63, 2**63 - 1, 2**62):
        yield 2, f"length-{n:x}", raw_file(ONE, ZEROS, n), (f"header of {n} bytes", "allowed: up")
    size = len(ONE) + 8
    for n in (size + 1, size + 1000, 99_999_999, 100_000_000):
        yield 3, f"length-{n}", raw_file(ONE, ZEROS, n), ("within its header: %d bytes" %
                                                          (n - size),)
    yield 3, "cut-in-header", raw_file(ONE, ZEROS)[:30], ("within its header", "incomplete")
    for n in (100_000_001, 2**32, 2**40):
        yield 4, f"length-{n}", raw_file(ONE, ZEROS, n), (f"header of {n} bytes",)
    yield 5, "length-0", raw_file(b""), ("the header ends here", "byte 8")
    yield 5, "length-0-with-data", raw_file(b"", bytes(64)), ("the header ends here",)
    for name, text in (("array", "[]"), ("string", '"a"'), ("word", "null"), ("number", "1"),
                       ("bom", b"\xef\xbb\xbf" + ONE.encode()), ("nul", "\0" + ONE),
                       ("space-only", "        "), ("letter", "x" + ONE),
                       ("vertical-tab", "\v" + ONE)):
        yield 5, f"begins-with-{name}", raw_file(text, ZEROS), (BYTE, "expected '{'|ends here")


def utf8():
    bad = {"ff": b"\xff", "fe": b"\xfe", "overlong-nul": b"\xc0\x80", "overlong-2": b"\xc1\xbf",
           "overlong-3": b"\xe0\x80\x80", "overlong-4": b"\xf0\x80\x80\x80",
           "surrogate": b"\xed\xa0\x80", "beyond": b"\xf4\x90\x80\x80", "f5": b"\xf5\x80\x80\x80",
           "lone": b"\x80", "cut-2": b"\xc3", "cut-3": b"\xe2\x82", "cut-4": b"\xf0\x9f\x98",
           "latin-1": b"\xe9t\xe9"}
    for name, raw in bad.items():
        header = b'{"a' + raw + b'":{' + PAIR.encode() + b"}}"
        yield 6, f"name-{name}", raw_file(header, ZEROS), ("invalid UTF-8", BYTE)
    meta = b'{"__metadata__":{"k":"\xc3("},"a":{' + PAIR.encode() + b"}}"
    yield 6, "metadata", raw_file(meta, ZEROS), ("invalid UTF-8",)
    for name, escape in (("high", "\\ud800"), ("low", "\\udc00"), ("high-and-letter", "\\ud800A"),
                         ("high-and-other", "\\ud800\\u0041"), ("two-high", "\\ud83d\\ud83d"),
                         ("high-at-end", "\\udbff")):
        yield 6, f"lone-{name}", raw_file(field(name=f'"{escape}"'), ZEROS), ("surrogate",)


def not_json():
    for n in (1, 2, 4, 5, 10, 20, len(ONE) - 2, len(ONE) - 1):
        yield 7, f"cut-at-{n}", raw_file(ONE[:n], ZEROS), (BYTE,)
    rows = {"trailing-letter": ONE + "x", "trailing-nul": ONE + "\0", "two-objects": ONE + "{}",
            "trailing-comma": ONE[:-1] + ",}", "comment": ONE[:-1] + "/* */}",
            "line-comment": ONE + "// end", "nul-inside": ONE.replace('{"a"', '{\0"a"'),
            "single-quotes": ONE.replace('"', "'"), "bare-key": ONE.replace('"a"', "a"),
            "no-colon": ONE.replace('"a":', '"a"'), "no-comma": ONE.replace(",", " ", 1),
            "two-commas": ONE.replace(",", ",,", 1), "comma-first": ONE.replace('{"d', '{,"d'),
            "nan": field(name='"x":0,"a"').replace("0,", "NaN,", 1),
            "unknown-nan": ONE.replace('{"dtype', '{"x":NaN,"dtype'),
            "unknown-big": ONE.replace('{"dtype', '{"x":1e999,"dtype'),
            "unknown-plus": ONE.replace('{"dtype', '{"x":+1,"dtype'),
            "unknown-zero": ONE.replace('{"dtype', '{"x":01,"dtype'),
            "unknown-point": ONE.replace('{"dtype', '{"x":1.,"dtype'),
            "unknown-true": ONE.replace('{"dtype', '{"x":True,"dtype'),
            "raw-newline": ONE.replace('"a"', '"a\nb"'), "raw-tab": ONE.replace('"a"', '"\t"'),
            "raw-escape": ONE.replace('"a"', '"\x1b[31m"'), "bad-escape": ONE.replace("a", "\\x41"),
            "short-escape": ONE.replace('"a"', '"\\u12"'), "open-string": '{"a',
            "tensor-is-array": '{"a":["F32",[2],[0,8]]}', "tensor-is-null": '{"a":null}',
            "tensor-is-text": '{"a":"F32"}', "tensor-is-number": '{"a":3}',
            "no-dtype": '{"a":{"shape":[2],"data_offsets":[0,8]}}',
            "no-shape": '{"a":{"dtype":"F32","data_offsets":[0,8]}}',
            "no-offsets": '{"a":{"dtype":"F32","shape":[2]}}', "empty-tensor": '{"a":{}}'}
    for name, text in rows.items():
        yield 7, name, raw_file(text, ZEROS), (BYTE,)


def nesting():
    def unknown(value):
        return ONE.replace('{"dtype', '{"x":' + value + ',"dtype')
    deep = r"nested too deeply \(allowed: \d+ levels\)"
    yield 8, "unknown-arrays", raw_file(unknown("[" * 9 + "]" * 9), ZEROS), (deep, "tensor 'a'")
    yield 8, "unknown-objects", raw_file(unknown('{"y":' * 9 + "1" + "}" * 9), ZEROS), (deep,)
    yield 8, "unknown-100000", raw_file(unknown("[" * 100_000), ZEROS), (deep,)
    yield 8, "unknown-mixed", raw_file(unknown('[{"y":' * 5 + "1" + "}]" * 5), ZEROS), (deep,)
    yield 8, "top-100000", raw_file("[" * 100_000), ("expected '{'",)
    yield 8, "tensors-100000", raw_file('{"a":' * 100_000), (BYTE,)
    yield 8, "shape", raw_file(field(shape="[[2]]"), ZEROS), ("whole number", "tensor 'a'")
    yield 8, "metadata", raw_file('{"__metadata__":{"a":{"b":"c"}}}'), ("a string",)


def twice():
    def pair(first, second):
        return f'{{"{first}":{{{PAIR}}},"{second}":{{{PAIR}}}}}'
    said = ("given twice", "first at byte 9")
    yield 9, "same-range", raw_file(pair("a", "a"), ZEROS), said + ("'a'",)
    yield 9, "by-escape", raw_file(pair("a", "\\u0061"), ZEROS), said
    yield 9, "by-slash", raw_file(pair("a/b", "a\\/b"), ZEROS), said
    yield 9, "by-surrogates", raw_file(pair("\U0001f600", "\\ud83d\\ude00"), ZEROS), said
    yield 9, "by-accent", raw_file(pair("\u00e9", "\\u00E9"), ZEROS), said
    other = ONE[:-1] + ',"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}'
    yield 9, "other-dtype", raw_file(other, ZEROS), said
    apart = ONE[:-1] + ',"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}'
    yield 9, "other-range", raw_file(apart, bytes(16)), said
    many = ",".join(f'"{i % 5000}":{{{PAIR}}}' for i in range(5001))
    yield 9, "last-of-5001", raw_file("{" + many + "}", ZEROS), ("'0' is given twice",)
    for key, again in (("dtype", '"dtype":"F32"'), ("shape", '"shape":[2]'),
                       ("data_offsets", '"data_offsets":[0,8]'),
                       ("dtype", '"dtyp\\u0065":"F32"'), ("shape", '"sh\\u0061pe":[2]')):
        name = key + ("-by-escape" if "\\" in again else "")
        yield 10, name, raw_file('{"a":{' + PAIR + "," + again + "}}", ZEROS), (
            f"{key} is given twice", "tensor 'a'")
    yield 10, "metadata", raw_file('{"__metadata__":{},"__metadata__":{}}'), (
        "__metadata__ is given twice",)


def dtypes():
    unknown = ("f32", "F33", "float32", "", "F32 ", " F32", "BF32", "F8", "INT8", "X" * 40,
               "torch.float32", "F3\\u00322")
    for i, word in enumerate(unknown):
        yield 11, f"unknown-{i}", raw_file(field(dtype=f'"{word}"'), ZEROS), (
            "unknown dtype", "allowed: F32", "tensor 'a'")
    yield 11, "control", raw_file(field(dtype='"\\u001b[2J"'), ZEROS), (r"'\\x1b\[2J'",)
    for name, value in (("number", "32"), ("null", "null"), ("object", '{"F32":null}'),
                        ("array", '["F32"]')):
        yield 11, name, raw_file(field(dtype=value), ZEROS), ("expected a string", "tensor 'a'")
    yield 12, "half-byte", raw_file(field('"F4"', "[3]", "[0,2]"), bytes(2)), ("whole number of b",)
    yield 12, "six-bits", raw_file(field('"F6_E2M3"', "[2]", "[0,2]"), bytes(2)), ("whole number",)


def numbers():
    whole = "whole number|must not begin with 0|too large|dimension|expected"
    texts = {"negative": "-1", "fraction": "2.0", "half": "2.5", "exponent": "2e0",
             "capital": "2E0",
             "text": '"2"', "huge": str(10**30), "2-64": str(2**64), "zero-first": "02",
             "plus": "+2", "hex": "0x2", "null": "null", "true": "true", "nested": "[2]",
             "minus-zero": "-0", "empty": ""}
    for name, text in texts.items():
        yield 13, f"shape-{name}", raw_file(field(shape=f"[{text}]" if text else "[2,]"), ZEROS), (
            whole, "tensor 'a'")
        yield 13, f"end-{name}", raw_file(field(offsets=f"[0,{text}]"), ZEROS), (whole,)
    for name in ("negative", "fraction", "exponent", "text", "huge", "null", "nested"):
        yield 13, f"begin-{name}", raw_file(field(offsets=f"[{texts[name]},8]"), ZEROS), (whole,)
    yield 13, "shape-2-63", raw_file(field(shape=f"[{2**63}]"), ZEROS), ("dimension", "2\\^63 - 1")
    for name, text in (("shape", '{"0":2}'), ("shape", "2"), ("shape", "null"), ("shape", '"[2]"')):
        yield 13, f"{name}-is-{len(text)}", raw_file(field(shape=text), ZEROS), ("square brackets",)
    for name, text in (("one", "[8]"), ("three", "[0,8,8]"), ("none", "[]"), ("number", "8"),
                       ("null", "null"), ("object", '{"0":8}')):
        yield 13, f"offsets-{name}", raw_file(field(offsets=text), ZEROS), (
            "two numbers|square brackets|whole number",)


def sizes():
    over = "overflows"
    for i, shape in enumerate(([2**32, 2**32], [4194305, 4194305, 211106198978564], [2**62, 4],
                               [2**31, 2**31, 2**31], [2**63 - 1, 2], [3, 2**62],
                               [2**21] * 3 + [2], [2] * 64)):
        yield 14, f"product-{i}", raw_file(field(shape=json.dumps(shape)), ZEROS), (over, "'a'")
    for i, (dtype, dim) in enumerate((("F64", 2**61), ("F32", 2**62), ("U8", 2**62), ("I64", 2**58),
                                      ("BF16", 2**63 - 1))):
        yield 15, f"bytes-{i}", raw_file(field(f'"{dtype}"', f"[{dim}]"), ZEROS), (over, "'a'")
    for i, shape in enumerate(([0, 2**63 - 1, 2**63 - 1], [2**63 - 1, 2, 0], [2**32, 2**32, 0],
                               [0, 2**63, 2**63])):
        yield 16, f"zero-{i}", raw_file(field(shape=json.dumps(shape), offsets="[0,0]")), (
            over + "|dimension",)
    for n in (65, 100, 10_000):
        yield 17, f"rank-{n}", raw_file(field(shape=json.dumps([1] * n), offsets="[0,4]"),
                                        bytes(4)), ("more than 64 dimensions",)
    for name, offsets in (("swapped", "[8,0]"), ("by-one", "[1,0]"), ("far", f"[{2**64 - 1},0]")):
        yield 18, name, raw_file(field(offsets=offsets), ZEROS), ("before they begin", "'a'")
    for name, dtype, shape, n in (("short", "F32", [3], 8), ("long", "F32", [1], 8),
                                  ("scalar", "F32", [], 8), ("empty", "F32", [0], 8),
                                  ("none", "F32", [2], 0), ("half", "F16", [2], 8),
                                  ("wide", "F64", [2], 8), ("bytes", "U8", [2, 2], 8),
                                  ("far", "F32", [2], 2**63), ("all-bits", "F32", [2], 2**64 - 1)):
        yield 19, name, raw_file(field(f'"{dtype}"', json.dumps(shape), f"[0,{n}]"), bytes(8)), (
            "ask for \\d+ bytes", f"data_offsets hold {n}", "'a'")


def coverage():
    inside, between = "within tensor", "belong to nothing"
    yield 20, "by-one-element", two(([2], 0, 8), ([2], 4, 12), 12), (inside, "tensor 'b'")
    yield 20, "inside", two(([4], 0, 16), ([2], 4, 12)), (inside,)
    yield 20, "same-range", two(([2], 0, 8), ([2], 0, 8), 8), (inside,)
    yield 20, "same-begin", two(([4], 0, 16), ([2], 0, 8)), (inside,)
    yield 20, "later-first", two(([2], 6, 14), ([2], 0, 8), 14), (inside, "tensor 'a'")
    yield 21, "at-start", two(([1], 4, 8), ([2], 8, 16)), (between, "the 4 bytes")
    yield 21, "in-middle", two(([1], 0, 4), ([2], 8, 16)), (between, "the 4 bytes")
    yield 21, "huge", two(([1], 0, 4), ([2], 2**63, 2**63 + 8)), (between,)
    yield 21, "one-byte", two(([1], 0, 4), ([2], 5, 13), 13), ("the 1 bytes between",)
    yield 21, "empty-beyond", two(([2], 0, 8), ([0], 999, 999), 8), (between, "'b'")
    yield 23, "empty-inside", two(([2], 0, 8), ([0], 4, 4), 8), (inside,)
    whole = inputs.safetensors(inputs.tensors())
    for name, extra in (("1-byte", b"x"), ("zeros", bytes(4096)), ("zip", b"PK\5\6" + bytes(18)),
                        ("pickle", b"\x80\2cos\nsystem\nX\2\0\0\0id\x85R."), ("twice", whole)):
        yield 22, name, whole + extra, (f"{len(extra)} extra bytes after the last",)
    yield 22, "no-tensors", raw_file("{}", bytes(24)), ("24 extra bytes",)


def names():
    wanted = "a string in double quotes|an object of strings"
    for name, value in (("number", '{"k":1}'), ("null", '{"k":null}'), ("bool", '{"k":true}'),
                        ("array", '{"k":["v"]}'), ("object", '{"k":{}}'), ("is-array", "[]"),
                        ("is-text", '"pt"'), ("is-number", "1"), ("is-true", "true"),
                        ("is-tensor", "{" + PAIR + "}")):
        text = '{"__metadata__":' + value + ',"a":{' + PAIR + "}}"
        yield 25, name, raw_file(text, ZEROS), (wanted,)
    long = raw_file(field(name='"' + "n" * 4097 + '"'), ZEROS)
    yield 26, "4097-bytes", long, (r"a name of 4097 bytes \(allowed: up to 4096\)",)
    yield 26, "900000-bytes", raw_file(field(name='"' + "n" * 900_000 + '"'), ZEROS), (
        "a name of 900000 bytes",)
    yield 26, "long-escapes", raw_file(field(name='"' + "\\u00e9" * 2049 + '"'), ZEROS), (
        "a name of 4098 bytes",)
    yield 26, "nul", raw_file(field(name='"a\\u0000b"'), ZEROS), ("NUL", r"'a\\x00b'")
    yield 26, "nul-first", raw_file(field(name='"\\u0000"'), ZEROS), ("NUL",)
    for name, text, shown in (("newline", "a\\nb", r"'a\\x0ab'"), ("ansi", "\\u001b[31m", r"\\x1b"),
                              ("bell", "\\u0007", r"\\x07"),
                              ("delete", "\\u007f", r"\\x7f"),
                              ("csi", "\\u009b2J", r"\\xc2\\x9b"),
                              ("rtl", "\\u202e", r"\\xe2\\x80"),
                              ("quote", "x\\\"'", r"\\x22\\x27"), ("cr", "ok\\rno", r"ok\\x0dno"),
                              ("format", "%s%n%d", "%s%n%d"),
                              ("cut", "w" * 300, "w{200}\\.\\.\\.'"),
                              ("path", "../../etc/passwd", "passwd")):
        yield 26, f"shown-{name}", raw_file(field(name=f'"{text}"', shape="[3]"), ZEROS), (
            shown, "ask for 12 bytes")


def foreign():
    pointer = ("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 +
               "\nsize 151000000\n")
    page = "page saved as a model"
    rows = (("lfs", pointer, "git lfs pull"),
            ("lfs-crlf", pointer.replace("\n", "\r\n"), "git lfs"),
            ("html", "<!DOCTYPE html><html><title>Log in</title></html>", page),
            ("html-spaces", "\n\n   <html></html>", page),
            ("html-short", "<html>", page),
            ("xml", '<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', page),
            ("entry", "Entry not found", "no such file"),
            ("zip", b"PK\3\4\x14" + bytes(60), "PyTorch zip"),
            ("pickle", b"\x80\2}q\0." + b"x" * 20,
                                                            "pickle"),
            ("gguf", b"GGUF" + bytes(4) + b"\xff" * 9, "GGUF"), ("ggml", b"lmgg" + b"\xff" * 60,
                                                               "whisper.cpp"),
            ("hdf5", b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
            ("gzip", b"\x1f\x8b\x08\0" + b"\xff" * 40, "gzip"),
            ("json", '{"error":"Repository not found"}', "no safetensors file|header of"),
            ("text", "Access to this model is restricted.\n", "no safetensors file|header of"))
    for name, content, said in rows:
        content = content.encode() if isinstance(content, str) else content
        yield 27, name, content, (said,)


def cut_data():
    whole = inputs.safetensors(inputs.tensors(7))
    n_data = sum(len(item[3]) for item in inputs.tensors())
    for n in (1, 3, 4, 100, n_data - 1, n_data):
        yield 28, f"cut-{n}", whole[:-n], (f"{n} bytes are missing", "incomplete")
    big = raw_file(field(shape="[1000000000]", offsets="[0,4000000000]"), bytes(100))
    yield 28, "cut-3999999900", big, ("3999999900 bytes are missing",)


TABLES = (lengths, utf8, not_json, nesting, twice, dtypes, numbers, sizes, coverage, names, foreign,
          cut_data)


# --- Legal though odd -----------------------------------------------------------------------------

def with_header(edit, pad=True):
    """The standard second model with its header's object edited."""
    def build(scene):
        listed = inputs.tensors(7)
        header = inputs.header_of(listed, {"format": "pt"})
        text = edit(header)
        text = text if isinstance(text, str) else json.dumps(header)
        text += " " * (-len(text) % 8) if pad else ""
        scene.write("a/model.safetensors", raw_file(text, b"".join(item[3] for item in listed)))
    return build


def dumps_with(**fields):
    def edit(header):
        header.update(fields)
        return json.dumps(header)
    return edit


def reorder(header):
    return json.dumps(dict(reversed(header.items())))


def without_metadata(header):
    del header["__metadata__"]


def misaligned(n):
    """The data begin at n bytes beyond a multiple of 8."""
    def edit(header):
        text = json.dumps(header)
        return text + " " * ((n - len(text)) % 8)
    return with_header(edit, pad=False)


def odd_names(scene):
    """Names that are no paths, whatever they look like."""
    listed = [(name, "F32", [2]) for name in ODD_NAMES]
    for folder, seed in (("base", 0), ("a", 7)):
        scene.model(folder, [inputs.tensor(name, shape, dtype, seed=seed)
                             for name, dtype, shape in listed])


ODD_NAMES = ("", " ", "/", "/etc/passwd", "../../x", "a\nb", "\x1b[31mred", "\u202eabc",
             "\U0001f600",
             "x" * 400, "%s%n", "tab\there", "'\"\\", "a/../b", ".", "\x7f")


def check_odd_names(scene):
    expect(sorted(scene.result()), sorted(ODD_NAMES), "names")
    expect(values_of(scene, "/etc/passwd"), inputs.numbers(2, 0)[:0] + [
        b + 0.5 * (t - b) for b, t in zip(inputs.numbers(2, 0), inputs.numbers(2, 7))])


def empty_tensors(scene):
    """Tensors without elements at the first, a middle and the last byte, and one of rank 64."""
    for folder, seed in (("base", 0), ("a", 7)):
        listed = inputs.tensors(seed)
        none = [("empty.first", "F32", [0, 2**31, 2**31], b"")]
        more = [("empty.last", "F16", [3, 0], b""), inputs.tensor("many.axes", [1] * 64),
                inputs.tensor("scalar", [])]
        scene.model(folder, none + listed[:2] + [("empty.middle", "I64", [0], b"")] + listed[2:] +
                    more)


def check_empty(scene):
    check_standard(scene)
    found = scene.result()
    expect(found["empty.first"], ("F32", [0, 2**31, 2**31], b""))
    expect(found["empty.middle"], ("I64", [0], b""))
    expect(found["many.axes"][1], [1] * 64)
    expect(found["scalar"][1], [])


def passed_through(scene):
    """Types that cannot be merged, outside the scope: copied byte by byte."""
    for folder, seed in (("base", 0), ("a", 7)):
        scene.model(folder, inputs.tensors(seed) + PASSED)
    scene.write("recipe.yaml", inputs.RECIPE + "parameters: {scope: [attention, mlp, embedding], "
                                               "outside: base}\n")


PASSED = [(f"buffer.{dtype.lower()}", dtype, [4], bytes(range(1, 1 + n))) for dtype, n in (
    ("F4", 2), ("F6_E2M3", 3), ("F6_E3M2", 3), ("F8_E8M0", 4), ("F8_E4M3", 4), ("F8_E5M2", 4),
    ("F8_E4M3FNUZ", 4), ("F8_E5M2FNUZ", 4), ("C64", 32), ("F64", 32), ("I8", 4), ("U16", 8),
    ("U32", 16), ("U64", 32), ("BOOL", 4))]


def check_passed(scene):
    found = scene.result()
    for name, dtype, shape, raw in PASSED:
        expect(found[name], (dtype, shape, raw), name)
    check_standard(scene)


def sparse_zeros(scene):
    """Weights that are one hole in the file."""
    listed = [(name, "F32", shape, bytes(4 * inputs.count(shape)))
              for name, shape in inputs.SHAPES.items()]
    path = scene.write("a/model.safetensors", inputs.safetensors(listed))
    size = os.path.getsize(path)
    n_data = sum(len(item[3]) for item in listed)
    os.truncate(path, size - n_data)
    os.truncate(path, size)


def check_zeros(scene):
    for i, (name, shape) in enumerate(inputs.SHAPES.items()):
        expect(values_of(scene, name), [v / 2 for v in inputs.numbers(inputs.count(shape), i)])


def odd_cases():
    def odd(number, name, build, *says, **more):
        return accepted("header", number, name, build, *says, **more)
    yield odd(7, "spaces", with_header(lambda header: json.dumps(header, indent=3) + "\n\t "))
    yield odd(5, "leading-spaces", with_header(lambda header: " \n" + json.dumps(header)),
              "leading spaces")
    yield odd(7, "order", with_header(reorder))
    yield odd(8, "eight-levels", with_header(lambda header: header[inputs.WEIGHT].update(
        x=json.loads("[" * 8 + "]" * 8)) or json.dumps(header)), "unknown fields")
    yield odd(25, "metadata-null", with_header(dumps_with(__metadata__=None)))
    yield odd(25, "metadata-empty", with_header(dumps_with(__metadata__={})))
    yield odd(25, "metadata-none", with_header(without_metadata))
    yield odd(25, "metadata-by-escape", with_header(
        lambda header: json.dumps(header).replace("__metadata__", "\\u005f_metadata__")))
    yield odd(25, "metadata-key-twice", with_header(
        lambda header: json.dumps(header).replace('{"format": "pt"}', '{"a":"b","a":"c"}')))
    yield odd(25, "metadata-large", with_header(dumps_with(__metadata__={"k": "v" * 500_000})))
    yield odd(26, "odd-names", odd_names, check=check_odd_names,
              more=(run("inspect", "out", code=0, says=("warning",)),
                    run("plan", "recipe.yaml", code=0, prints=(r"x1b\[31mred",)),
                    run("compare", "base", "a", code=1, prints=(r"a\\x0ab",)),
                    shell('for call in "inspect a" "plan recipe.yaml" '
                          '"merge recipe.yaml -o out -f"; '
                          'do "$LORS" $call --json | python3 -m json.tool >/dev/null; done', 0,
                          writes="out")))
    yield odd(23, "empty-tensors", empty_tensors, check=check_empty)
    yield odd(12, "passed-through", passed_through, check=check_passed)
    for n in (1, 2, 3, 5):
        yield odd(33, f"data-at-{n}", misaligned(n), "not aligned")
    yield odd(34, "sparse", sparse_zeros, check=check_zeros)


# --- Types that cannot be merged ------------------------------------------------------------------

def narrow_types():
    for dtype, n in (("F4", 12), ("F6_E2M3", 18), ("F6_E3M2", 18), ("F8_E8M0", 24),
                     ("F8_E4M3", 24), ("F8_E5M2", 24), ("F8_E4M3FNUZ", 24), ("F8_E5M2FNUZ", 24),
                     ("C64", 192), ("F64", 192)):
        def build(scene, dtype=dtype, n=n):
            for folder in ("base", "a"):
                listed = [(inputs.WEIGHT, dtype, [6, 4], bytes(n))] + inputs.tensors()[1:]
                scene.model(folder, listed)
        yield Case("header", 12, f"operand-{dtype.lower()}", build,
                   (merge(5, dtype + r"\b", "fc1", "cannot be merged"),))


def long_name(scene):
    """Readable, but longer than a name that can be matched."""
    for folder in ("base", "a"):
        scene.model(folder, inputs.tensors() + [inputs.tensor("x" * 505, [2])])


def small_stack(scene):
    text = ONE.replace('{"dtype', '{"x":' + "[" * 100_000 + ',"dtype')
    scene.write("a/model.safetensors", raw_file(text, ZEROS))


def cases():
    for table in TABLES:
        for number, name, content, says in table():
            yield bytes_case("header", number, name, content, *says)
    yield from narrow_types()
    yield from odd_cases()
    yield Case("header", 26, "505-bytes-merged", long_name,
               (merge(7, r"'x{200}\.\.\.'", "more than 504 bytes"),))
    yield Case("header", 8, "stack-of-256-kb", small_stack,
               (shell('ulimit -s 256; "$LORS" inspect a', 4, "nested too deeply"),))
