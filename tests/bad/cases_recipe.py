"""cases_recipe.py - recipes: classes 72 to 82. A message names line and column wherever there is
a place in the text to point at."""
import json
import os
import re

import inputs
from harness import Case
from inputs import RECIPE
from making import accepted, check_standard, expect, merge, recipe_case, run, values_of

PLACE = r"recipe\.yaml:\d+:\d+: "
TIES = RECIPE.replace("task_arithmetic", "ties")
LORS = RECIPE.replace("task_arithmetic", "lors")
SLERP = "merge_method: slerp\nbase_model: base\nmodels: [{model: a}]\nparameters: {t: %s}\n"
LINEAR = "merge_method: linear\nmodels:\n  - {model: base, parameters: {weight: %s}}\n" \
         "  - {model: a, parameters: {weight: %s}}\nparameters: {normalize: %s}\n"


def at(line, column=r"\d+"):
    return rf"recipe\.yaml:{line}:{column}: "


def aliases():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]\n" for i in range(1, 10))
    yield 72, "laughs", bomb + RECIPE, ("too many aliases", PLACE)
    yield 72, "65-aliases", RECIPE + "x: &x 1\ny: [" + ", ".join(["*x"] * 65) + "]\n", (
        r"too many aliases \(allowed: 64", PLACE)
    wide = "x: &x [" + ", ".join(["1"] * 1000) + "]\n"
    yield 72, "wide-aliases", wide + "y: [" + ", ".join(["*x"] * 30) + "]\n" + RECIPE, (
        "at most 20000 values", PLACE)
    yield 72, "self", "models: &m [*m]\n" + RECIPE, ("lies inside what it stands for", at(1, 13))
    yield 72, "self-map", "models: &m {model: *m}\n", ("inside what it stands for", at(1))
    yield 72, "unknown", RECIPE.replace("model: a", "model: *b"), ("has no anchor '&b'", at(4, 12))
    yield 72, "later", "x: *later\ny: &later 1\n", ("has no anchor", at(1, 4))
    yield 72, "values", "x: [" + ", ".join(["1"] * 20_001) + "]\n", ("at most 20000 values", PLACE)
    yield 72, "2-mb", RECIPE + "# " + "x" * 2_000_000 + "\n", ("1000000|1 MB", "recipe")
    for n in (1_000_001, 1_048_577):
        yield 72, f"{n}-bytes", (RECIPE + "#" * n)[:n], (r"too many|at most", "recipe")
    for name, text in (("lists", "x: " + "[" * 65 + "]" * 65), ("maps", "x: " + "{a: " * 65 + "1" +
                                                                "}" * 65),
                       ("100000-lists", "[" * 100_000), ("100000-maps", "{a: " * 100_000),
                       ("dashes", "x:\n" + "- " * 70 + "1")):
        yield 73, name, text + "\n", (r"nested too deeply \(allowed: 64", PLACE)
    block = "".join(" " * i + "a:\n" for i in range(70))
    yield 73, "block-maps", block, ("nested too deeply", at(64) + "|" + at(65))


def twice():
    yield 74, "top", RECIPE + "base_model: a\n", ("duplicate key 'base_model'", "line 2", at(6, 1))
    yield 74, "parameters", RECIPE + "parameters: {lambda: 1, lambda: 2}\n", (
        "duplicate key 'lambda'", at(6, 25))
    yield 74, "quoted", RECIPE + '"models": []\n', ("duplicate key 'models'", at(6))
    yield 74, "by-escape", RECIPE + '"mo\\u0064els": []\n', ("duplicate key 'models'", at(6))
    yield 74, "json", json.dumps({"models": [], "merge_method": "x"})[:-1] + ', "models": []}', (
        "duplicate key", PLACE)
    yield 74, "model", RECIPE.replace("model: a", "{model: a, model: base}").replace(
        "    parameters: {weight: 0.5}\n", ""), ("duplicate key 'model'", at(4))
    yield 74, "unknown-key-twice", RECIPE + "x: 1\nx: 2\n", ("duplicate key 'x'", at(7))


def typing():
    rows = {"nan": ".nan", "NaN": "NaN", "inf": ".inf", "minus-inf": "-.inf", "infinity": "inf",
            "1e400": "1e400", "minus-1e400": "-1e400", "1e-400": "1e-400", "hex": "0x10",
            "hex-float": "0x1p3", "underscore": "1_000", "octal": "010", "octal-o": "0o10",
            "yes": "yes", "text": "half", "quoted": '"0.5"', "single-quoted": "'0.5'",
            "comma": "0,5", "percent": "50%", "two": "1 2", "plus-minus": "+-1", "point": ".",
            "exponent": "1e", "null": "null", "tilde": "~", "nothing": "", "list-of-one": "[1]",
            "empty-list": "[]", "map": "{x: 1}", "empty-map": "{}", "date": "2024-01-01",
            "sexagesimal": "1:30", "binary": "0b1", "unicode-minus": "\u22121",
            "fullwidth": "\uff11", "true": "true"}
    for name, value in rows.items():
        if value in ("0,5",):
            text = RECIPE + f"parameters:\n  lambda: {value}\n"
            yield 75, f"number-{name}", text, ("parameters.lambda", at(7, 11))
        else:
            yield 75, f"number-{name}", RECIPE + f"parameters: {{lambda: {value}}}\n", (
                "parameters.lambda", at(6))
    for name, value in (("yes", "yes"), ("no", "No"), ("on", "on"), ("two", "2"), ("half", "0.5"),
                        ("quoted", '"true"'), ("caps", "TRUE"), ("title", "False"),
                        ("null", "null"),
                        ("list", "[true]"), ("word", "maybe")):
        yield 75, f"bool-{name}", RECIPE + f"parameters: {{normalize: {value}}}\n", (
            "parameters.normalize", at(6, 25))
    for name, value in (("fraction", "1.5"), ("negative", "-1"),
                        ("percent-negative", "-1%"),
                        ("percent-large", "101%"), ("percent-text", "x%"),
                        ("energy-0", "{energy: 0}"),
                        ("energy-2", "{energy: 2}"), ("energy-nan", "{energy: .nan}"),
                        ("energy-and", "{energy: 0.5, x: 1}"), ("other-map", "{rank: 3}"),
                        ("large", "1e10"), ("quoted", '"7"'), ("hex", "0x7"), ("list", "[1, 2]")):
        yield 75, f"rank-{name}", LORS + f"parameters: {{rank: {value}}}\n", (
            "parameters.rank", at(6))
    for name, value in (("negative", "-1"), ("fraction", "1.0"), ("large", str(2**64)),
                        ("hex", "0xff"), ("octal", "07"), ("text", "x"), ("quoted", '"1"')):
        yield 75, f"seed-{name}", RECIPE + f"seed: {value}\n", ("seed", at(6, 7))
    for name, value in (("int8", "int8"), ("f64", "float64"), ("caps", "FP-16"), ("number", "16"),
                        ("list", "[f16]"), ("fp8", "float8_e4m3fn")):
        yield 75, f"dtype-{name}", RECIPE + f"dtype: {value}\n", ("dtype", at(6, 8))
    for name, text, place in (
            ("models-map", RECIPE.replace("  - model", "    model"), at(4)),
            ("models-text", "merge_method: linear\nmodels: a\n", at(2)),
            ("models-empty", "merge_method: linear\nmodels: []\n", at(2)),
            ("models-numbers", "merge_method: linear\nmodels: [1, 2]\n", at(2)),
            ("models-null", "merge_method: linear\nmodels:\n", at(2)),
            ("model-list", RECIPE.replace("model: a", "model: [a]"), at(4)),
            ("model-null", RECIPE.replace("model: a", "model: null"), at(4)),
            ("model-empty", RECIPE.replace("model: a", 'model: ""'), at(4)),
            ("model-missing", RECIPE.replace("- model: a", "- parameters: {}").replace(
                "    parameters: {weight: 0.5}\n", ""), at(4)),
            ("base-map", RECIPE.replace("base_model: base", "base_model: {folder: base}"), at(2)),
            ("base-number", RECIPE.replace("base_model: base", "base_model: [base]"), at(2)),
            ("method-list", RECIPE.replace("task_arithmetic", "[ties]"), at(1)),
            ("method-null", RECIPE.replace("task_arithmetic", "null"), at(1)),
            ("parameters-list", RECIPE + "parameters: [1]\n", at(6)),
            ("parameters-text", RECIPE + "parameters: x\n", at(6)),
            ("key-list", RECIPE + "[a]: 1\n", at(6)),
            ("key-map", RECIPE + "? {a: 1}\n: 1\n", at(6)),
            ("root-list", "- merge_method: ties\n", at(1)),
            ("root-text", "ties\n", at(1)),
            ("empty", "", at(1)), ("comment-only", "# nothing\n", at(1)), ("null", "~\n", at(1))):
        yield 75, text_name(name), text, (place,)


def text_name(name):
    return f"type-{name}"


def ranges():
    for name, value in (("below", "-0.1"), ("above", "1.5"), ("far", "1e9"), ("list", "[0.5, 2]")):
        yield 76, f"density-{name}", TIES + f"parameters: {{density: {value}}}\n", (
            r"parameters\.density: .* out of range \(allowed: 0 to 1\)", at(6))
    for name, value in (("below", "-0.1"), ("above", "1.01"), (
            "filter", "[{filter: mlp, value: 2}, {value: 0}]")):
        yield 76, f"t-{name}", SLERP % value, (r"\.t: .* out of range \(allowed: 0 to 1\)", at(4))
    yield 76, "t-missing", "merge_method: slerp\nbase_model: base\nmodels: [{model: a}]\n", (
        "'t' is missing", PLACE)
    yield 76, "weight-missing", RECIPE.replace("    parameters: {weight: 0.5}\n", ""), (
        "has no 'weight'", at(4))
    yield 76, "only-filter", RECIPE + (
        "parameters: {lambda: [{filter: mlp, value: 1}, {value: 1}, {value: 2}]}\n"), (
            "never used", at(6))
    yield 76, "weight-some", RECIPE.replace("0.5", "[{filter: mlp, value: 1}]"), (
        "match no filter have no value", at(5))
    yield 76, "case-unknown", RECIPE + "parameters: {lambda: [{filtr: mlp, value: 1}]}\n", (
        "did you mean 'filter'", at(6))
    yield 76, "case-no-value", RECIPE + "parameters: {lambda: [{filter: mlp}]}\n", (
        "has no 'value'", at(6))
    yield 76, "case-mixed", RECIPE + "parameters: {lambda: [1, {value: 1}]}\n", ("not both", at(6))
    yield 76, "slerp-two", (SLERP % "0.5").replace("[{model: a}]", "[{model: a}, {model: b}]"), (
        "takes at most 1 model", PLACE)
    yield 76, "no-base", RECIPE.replace("base_model: base\n", ""), (
        "'base_model' is missing", at(1))
    yield 76, "only-base", RECIPE.replace("model: a", "model: base"), ("at least 1 model", PLACE)
    many = "".join(f"  - {{model: m{i}, parameters: {{weight: 1}}}}\n" for i in range(2000))
    yield 76, "2000-models", "merge_method: linear\nmodels:\n" + many, (
        "at most \\d+ models", PLACE)
    cancel = "weights .*(sum|add up|cancel)|sum .* 0"
    yield 77, "linear", LINEAR % ("1", "-1", "true"), (cancel, PLACE)
    yield 77, "linear-zero", LINEAR % ("0", "0", "true"), (cancel, PLACE)
    two = RECIPE + "  - model: b\n    parameters: {weight: -0.5}\nparameters: {normalize: true}\n"
    yield 77, "task-arithmetic", two, (cancel, PLACE)
    yield 77, "filtered", (LINEAR % ("1", "[{filter: mlp, value: -1}, {value: 1}]", "true")), (
        cancel, "fc1", PLACE)


def unknown():
    for name, text, said in (
            ("key", RECIPE + "lamda: 1\n", "unknown key 'lamda'"),
            ("key-near", RECIPE.replace("base_model", "base_mdoel"), "did you mean 'base_model'"),
            ("key-case", RECIPE.replace("models:", "Models:"), "did you mean 'models'"),
            ("method", RECIPE.replace("task_arithmetic", "task_arithmatic"),
             "did you mean 'task_arithmetic'"),
            ("method-far", RECIPE.replace("task_arithmetic", "magic"), "unknown method 'magic'"),
            ("method-evolve", RECIPE.replace("task_arithmetic", "evolve"), "lors methods"),
            ("method-long", RECIPE.replace("task_arithmetic", "x" * 5000), r"x{200}\.\.\."),
            ("parameter", RECIPE + "parameters: {densty: 1}\n", "unknown parameter 'densty'"),
            ("parameter-other", RECIPE + "parameters: {t: 1}\n", "has no parameter 't'"),
            ("model-key", RECIPE.replace("    parameters", "    parmeters"), "did you mean 'param"),
            ("misplaced", RECIPE + "lambda: 1\n", "belongs under 'parameters:'"),
            ("misplaced-top", RECIPE + "parameters: {dtype: f16}\n", "belongs at the top"),
            ("slices", RECIPE + "slices: []\n", "say the same thing"),
            ("modules", RECIPE + "modules: {}\n", "say the same thing"),
            ("tokenizer", RECIPE + "tokenizer: {source: union}\n", "'union' is not supported"),
            ("tokenizer-key", RECIPE + "tokenizer: {source: base, tokens: {}}\n",
             "'tokens' is not supported"),
            ("tokenizer-model", RECIPE + "tokenizer_source: elsewhere\n", "none of the models"),
            ("tokenizer-source", RECIPE + "tokenizer_source: union\n", "'union' is not supported"),
            ("chat-template", RECIPE + "chat_template: auto\n", "'chat_template' is not supp"),
            ("scope", RECIPE + "scope: attntion\n", "did you mean|unknown"),
            ("outside", RECIPE + "parameters: {outside: nothing}\n", "unknown word 'nothing'"),
            ("key-ansi", RECIPE + '"\\e[31m": 1\n', r"'\\x1b\[31m'"),
            ("key-csi", RECIPE + '"\\x9b2J": 1\n', r"\\xc2\\x9b"),
            ("key-rtl", RECIPE + '"\\u202e": 1\n', r"\\xe2\\x80\\xae"),
            ("revision", RECIPE.replace("model: a", "model: a@main"), "revision")):
        yield 78, name, text, (said, PLACE)
    yield 78, "no-method", RECIPE.split("\n", 1)[1], ("'merge_method' is missing", PLACE)
    yield 78, "no-models", "merge_method: linear\n", ("'models' is missing", PLACE)
    for name, scope, said in (("regex-open", "'regex:('", "regular expression"),
                              ("regex-class", "'regex:[a'", "regular expression"),
                              ("regex-back", "'regex:(a)\\\\1'", "backref|pattern"),
                              ("regex-nested", "'regex:((a{1,99}){1,99})*'", "nests or"),
                              ("regex-long", "'regex:" + "a" * 300 + "'", "256|pattern"),
                              ("layers-swapped", "'layers: 3-1'", "layers"),
                              ("layers-text", "'layers: x'", "layers"),
                              ("layers-negative", "'layers: -1'", "layers"),
                              ("layers-large", "'layers: 99999999999'", "layers"),
                              ("layers-empty", "'layers:'", "layers"),
                              ("layers-open", "'layers: 1-'", "layers")):
        number = 81 if name.startswith("layers") else 68
        yield number, name, RECIPE + f"scope: {scope}\n", (said, at(6))
    for name, scope in (("layers-beyond", "'layers: 5-9'"), ("layers-one-beyond", "'layers: 1'"),
                        ("no-such-role", "position"), ("no-such-name", "'regex:nothing'")):
        yield 81, f"scope-{name}", RECIPE + f"scope: {scope}\n", ("selects no tensor", at(6))
        yield 81, f"scope-list-{name}", RECIPE + f"scope: [mlp, {scope}]\n", (
            "selects no tensor", at(6, 14))
        yield 81, f"filter-{name}", RECIPE + (
            f"parameters: {{lambda: [{{filter: {scope}, value: 0.5}}, {{value: 1}}]}}\n"), (
                "selects no tensor", at(6))


def yaml():
    for name, text, said in (
            ("merge-key", "x: &x {a: 1}\n<<: *x\n" + RECIPE, "merge keys"),
            ("python-tag", RECIPE + "x: !!python/object/apply:os.system ['touch executed']\n",
             "tags"),
            ("str-tag", RECIPE.replace("model: a", "model: !!str a"), "tags"),
            ("own-tag", RECIPE.replace("model: a", "model: !x a"), "tags"),
            ("binary-tag", RECIPE + "x: !!binary aGk=\n", "tags"),
            ("second-document", RECIPE + "---\n" + RECIPE, "has no 'name'"),
            ("second-empty", RECIPE + "---\n", "a document of the recipe is empty"),
            ("after-end", RECIPE + "...\nx: 1\n", "unknown key 'x'"),
            ("101-documents", RECIPE + ("---\n" + RECIPE) * 100, "more than 100 documents"),
            ("directive", "%YAML 3.0\n---\n" + RECIPE, "not valid YAML|version"),
            ("tab", RECIPE.replace("    parameters", "\tparameters"), "tab"),
            ("block-text", RECIPE.replace("model: a", "model: |\n      a"), "one line"),
            ("folded", RECIPE.replace("model: a", "model: >\n      a"), "one line"),
            ("quoted-lines", RECIPE.replace("model: a", 'model: "a\n      b"'), "one line"),
            ("open-list", RECIPE + "x: [1, 2\n", "not valid YAML"),
            ("open-map", RECIPE + "x: {a: 1\n", "not valid YAML"),
            ("open-quote", RECIPE + 'x: "a\n', "not valid YAML|one line"),
            ("bad-indent", RECIPE + " x: 1\n", "not valid YAML"),
            ("colon", "merge_method: a: b\n", "not valid YAML"),
            ("at-sign", "merge_method: @x\n", "not valid YAML"),
            ("backtick", "merge_method: `x`\n", "not valid YAML"),
            ("bad-escape", 'merge_method: "\\q"\n', "not valid YAML"),
            ("anchor-only", "&a\n", "empty|not valid"),
            ("dash", "-\n", "map of keys"),
            ("json-comma", '{"merge_method": "ties" "x": 1}', "not valid YAML")):
        yield 79, name, text, (said, PLACE)
    raw = RECIPE.encode()
    for name, text, said in (
            ("utf16-le", b"\xff\xfe" + RECIPE.encode("utf-16-le"), "UTF-16"),
            ("utf16-be", b"\xfe\xff" + RECIPE.encode("utf-16-be"), "UTF-16"),
            ("utf16-no-bom", RECIPE.encode("utf-16-le"), "UTF-16"),
            ("latin-1", raw + b"name: \xe9\n", "not UTF-8"), ("ff", raw + b"\xff", "not UTF-8"),
            ("overlong", raw + b"name: \xc0\x80\n", "not UTF-8"),
            ("surrogate", raw + b"name: \xed\xa0\x80\n", "not UTF-8"),
            ("nul", raw + b"name: a\0b\n", "control character 0x00"),
            ("nul-escape", raw + b'name: "a\\0b"\n', "NUL"),
            ("escape", raw + b"name: \x1b[31m\n", "control character 0x1b"),
            ("delete", raw + b"name: \x7f\n", "control character 0x7f"),
            ("random", bytes((i * 167 + 13) % 256 for i in range(5000)), "UTF-8|control"),
            ("zip", b"PK\3\4\x14" + bytes(100), "control character"),
            ("safetensors", inputs.safetensors(inputs.tensors()), "control character|UTF-8")):
        yield 80, name, text, (said, PLACE)
    yield 80, "long-scalar", raw + b"name: [" + b"x" * 900_000 + b"]\n", ("name: ", PLACE)


def places():
    """(class, name, build, command)"""
    def link(scene):
        scene.link("same", "a")
        scene.write("recipe.yaml", RECIPE + "  - {model: same, parameters: {weight: 1}}\n")
    yield 82, "twice", lambda scene: scene.write(
        "recipe.yaml", RECIPE + "  - {model: ./a, parameters: {weight: 1}}\n"), merge(
            3, "same|twice", at(6))
    yield 82, "twice-by-link", link, merge(3, "same|twice", PLACE)
    said = "must not be an input, in one, or around one"
    for name, out in (("input", "a"), ("base", "base"), ("slash", "a/"), ("in-input", "a/out"),
                      ("by-dots", "base/../a"), ("around", ".")):
        yield 82, f"out-is-{name}", lambda scene: None, merge(3, said, out=out)
    yield 82, "out-is-link", lambda scene: scene.link("link", "a"), merge(3, said, out="link")
    yield 82, "out-is-root", lambda scene: None, merge(3, "/: ", out="/")
    yield 82, "out-is-file-of-input", lambda scene: None, merge(
        3, said, out="a/model.safetensors")

    for name in (".o.lors-staging", ".o.lors-old", ".o.lors-lock"):
        def beside(scene, name=name):
            if name.endswith("lock"):
                scene.write(name, inputs.safetensors(inputs.tensors(3)))
            else:
                scene.model(name, inputs.tensors(3))
            scene.write("recipe.yaml", RECIPE + f"  - {{model: {name}, "
                                                "parameters: {weight: 0.5}}\n")
        for written, out in enumerate(("o", "o/", "./o//", "base/../o///")):
            yield 82, f"input-is{name}-{written}", beside, merge(3, said, out=out)

        def beside_link(scene, beside=beside):
            beside(scene)
            scene.link("o", "out")
        yield 82, f"input-is{name}-link", beside_link, merge(3, said, out="o")

    def lock(scene):
        scene.write(".o.lors-lock", "mine")
    yield 82, "lock-is-a-file", lock, merge(6, "is no lock", out="o")

    def aside(scene):
        scene.model(".o.lors-old", inputs.tensors(3))
        scene.link("o", "out")
    yield 82, "link-beside-an-old-one", aside, merge(6, "is a link", out="o")

    def recipe_beside(scene):
        text = scene.read("recipe.yaml").decode()
        scene.write(".o.lors-staging/recipe.yaml", re.sub(r"model: (?=\w)", "model: ../", text))
    yield 82, "recipe-beside", recipe_beside, merge(
        3, "must not be the recipe", out="o", recipe=".o.lors-staging/recipe.yaml")

    def store(scene):
        scene.write("store/model.safetensors", scene.read("a/model.safetensors"))
        scene.write("store/config.json", "{}")
        scene.link("a/model.safetensors", "../store/model.safetensors")
    yield 82, "out-holds-linked-file", store, merge(
        3, said, out="store", options=("--follow-symlinks",))


def missing():
    """(class, name, build, command)"""
    for name, path in (("model", "nowhere"), ("file", "a/none.safetensors"), ("long", "x" * 300),
                       ("hub-name", "openai/whisper-base"), ("ansi", "\\e[31m"), ("csi", "\\x9b1m"),
                       ("rtl", "\\u202eabc"), ("10000", "y/" * 5000)):
        yield 78, f"missing-{name}", lambda scene, path=path: scene.write(
            "recipe.yaml", RECIPE.replace("model: a", f'model: "{path}"')), merge(6, at(4))
    yield 78, "missing-base", lambda scene: scene.write(
        "recipe.yaml", RECIPE.replace("model: base", "model: none")), merge(
            6, at(2), "no such file")
    yield 80, "recipe-missing", lambda scene: None, merge(6, "none.yaml", recipe="none.yaml")
    yield 80, "recipe-is-folder", lambda scene: None, merge(6, "base: is a folder", recipe="base")
    yield 80, "recipe-is-fifo", lambda scene: os.mkfifo(scene.path("pipe")), merge(
        6, "pipe: is a pipe", recipe="pipe")
    yield 80, "recipe-is-device", lambda scene: None, merge(6, "device", recipe="/dev/zero")


# --- Legal though odd -----------------------------------------------------------------------------

def odd_cases():
    def odd(number, name, text, *says, check=check_standard):
        return accepted("recipe", number, name, lambda scene: scene.write("recipe.yaml", text),
                        *says, check=check)
    yield odd(72, "64-aliases", "scope: &x ['*']\nparameters: {lambda: &one 1}\n" +
              RECIPE)
    yield odd(72, "aliased-models", RECIPE.replace("base_model: base", "base_model: &b base")
              .replace("    parameters: {weight: 0.5}", "    parameters: &p {weight: 0.5}"))
    yield odd(80, "bom", "\ufeff" + RECIPE)
    yield odd(80, "crlf", RECIPE.replace("\n", "\r\n"))
    yield odd(80, "json", json.dumps({
        "merge_method": "task_arithmetic", "base_model": "base",
        "models": [{"model": "a", "parameters": {"weight": 0.5}}]}))
    yield odd(80, "900-kb-of-comment", RECIPE + "# " + "x" * 900_000 + "\n")
    yield odd(79, "document-marks", "---\n" + RECIPE + "...\n")
    yield odd(79, "json-with-tabs", json.dumps({
        "merge_method": "task_arithmetic", "base_model": "base",
        "models": [{"model": "a", "parameters": {"weight": 0.5}}]}, indent="\t"))
    yield odd(75, "numbers", RECIPE.replace("0.5", "+5.0e-1").replace("{weight", "{'weight'"))
    yield odd(76, "density-0", TIES + "parameters: {density: 0}\n", check=check_base)
    yield odd(76, "t-0", SLERP % "0", check=check_base)
    yield odd(77, "cancel-not-normalized", LINEAR % ("1", "-1", "false"), check=check_cancelled)


def check_base(scene):
    for i, (name, shape) in enumerate(inputs.SHAPES.items()):
        expect(values_of(scene, name), inputs.numbers(inputs.count(shape), i), name)


def check_cancelled(scene):
    for i, (name, shape) in enumerate(inputs.SHAPES.items()):
        n = inputs.count(shape)
        expect(values_of(scene, name), [b - t for b, t in zip(
            inputs.numbers(n, i), inputs.numbers(n, 7 + i))], name)


def cases():
    for table in (aliases, twice, typing, ranges, unknown, yaml):
        for number, name, text, says in table():
            case = recipe_case(number, name, text, *says)
            if "model: b\n" in str(text):
                case.build = with_third(case.build)
            yield case
    for table in (places, missing):
        for number, name, build, command in table():
            yield Case("recipe", number, name, build, (command,))
    yield from odd_cases()


def with_third(build):
    """A third model, "b"."""
    def both(scene):
        scene.model("b", seed=3)
        build(scene)
    return both
