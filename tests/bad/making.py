"""making.py - short words for the commands and cases that the modules cases_*.py are made of."""
import json

import inputs
from harness import Case, Command


def merge(code=4, *says, options=(), recipe="recipe.yaml", out="out", force=True, **more):
    """`lors merge` over the output of an earlier merge."""
    arguments = ("merge", recipe, "-o", out) + (("--force",) if force else ()) + tuple(options)
    return Command(arguments, code, says, **more)


def run(*arguments, code=4, says=(), **more):
    """Another command, which writes nothing."""
    return Command(tuple(arguments), code, tuple(says), writes="", **more)


def shell(line, code, *says, writes="", **more):
    return Command((), code, says, shell=line, writes=writes, **more)


VERIFY = run("verify", "out", code=0)


def bytes_case(section, number, name, content, *says, file="a/model.safetensors"):
    """A weight file that is bad in itself: every command refuses it with the same sentence."""
    says = (file.replace(".", r"\."),) + says
    return Case(section, number, name, lambda scene: scene.write(file, content),
                (merge(4, *says), run("inspect", "a", says=says),
                 run("compare", "base", "a", says=says)))


def recipe_case(number, name, text, *says, code=3, section="recipe"):
    """A recipe that is bad in itself."""
    return Case(section, number, name, lambda scene: scene.write("recipe.yaml", text),
                (merge(code, *says), run("plan", "recipe.yaml", code=code, says=says)))


def values_of(scene, name, folder="out"):
    dtype, _, raw = scene.result(folder)[name]
    return inputs.decode(raw, dtype)


def expect(actual, wanted, what="values"):
    assert actual == wanted, f"{what}: {str(actual)[:200]}, expected {str(wanted)[:200]}"


def halfway(base, tuned, weight=0.5):
    """What the standard recipe makes of one tensor."""
    return [b + weight * (t - b) for b, t in zip(base, tuned)]


def check_standard(scene):
    """The output is what the standard recipe makes of the standard models."""
    for i, name in enumerate(inputs.SHAPES):
        n = inputs.count(inputs.SHAPES[name])
        expect(values_of(scene, name), halfway(inputs.numbers(n, i), inputs.numbers(n, 7 + i)),
               name)
    expect(json.loads(scene.read("out/config.json")), inputs.CONFIG, "config.json")


def accepted(section, number, name, build, *says, check=check_standard, options=(), more=()):
    """An odd but legal input: merged, with the right result, and verified."""
    return Case(section, number, name, build, (merge(0, *says, options=options), VERIFY, *more),
                check)
