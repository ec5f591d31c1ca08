"""cases_numerics.py - numbers that must not pass silently, and those that must: 102 to 110."""
import struct

import inputs
from harness import Case
from inputs import BIAS, QUERY, RECIPE, WEIGHT
from making import VERIFY, accepted, expect, merge, values_of

NAN, INF = float("nan"), float("inf")
PATTERNS = {  # dtype -> name -> bits
    "F32": {"nan": 0x7FC00000, "nan-signalling": 0x7F800001, "nan-negative": 0xFFFFFFFF,
            "inf": 0x7F800000, "inf-negative": 0xFF800000},
    "F16": {"nan": 0x7E00, "nan-signalling": 0x7C01, "inf": 0x7C00, "inf-negative": 0xFC00},
    "BF16": {"nan": 0x7FC0, "nan-signalling": 0x7F81, "inf": 0x7F80, "inf-negative": 0xFF80}}
RECIPES = {
    "linear": "merge_method: linear\nmodels: [{model: base, parameters: {weight: 1}}, "
              "{model: a, parameters: {weight: 1}}]\n",
    "ties": RECIPE.replace("task_arithmetic", "ties") + "parameters: {density: 0.5}\n",
    "lors": RECIPE.replace("task_arithmetic", "lors") + "parameters: {rank: 1, density: 0.5}\n",
    "slerp": "merge_method: slerp\nbase_model: base\nmodels: [{model: a}]\nparameters: {t: 0.5}\n"}


def plant(scene, folder, bits, dtype="F32", name=WEIGHT, index=5):
    """One element of a tensor by its bits."""
    listed = []
    for item in inputs.tensors(0 if folder == "base" else 7, dtype):
        raw = bytearray(item[3])
        if item[0] == name:
            n = inputs.ITEM_BYTES[dtype]
            raw[index * n:(index + 1) * n] = bits.to_bytes(n, "little")
        listed.append((*item[:3], bytes(raw)))
    scene.model(folder, listed)


def nonfinite():
    for dtype, patterns in PATTERNS.items():
        for name, bits in patterns.items():
            for folder in ("base", "a"):
                def build(scene, folder=folder, bits=bits, dtype=dtype):
                    scene.model("base", inputs.tensors(0, dtype))
                    scene.model("a", inputs.tensors(7, dtype))
                    plant(scene, folder, bits, dtype)
                yield Case("numerics", 102, f"{dtype.lower()}-{name}-in-{folder}", build,
                           (merge(8, "fc1", "index 5", folder + r"\b"),))
    for method, recipe in RECIPES.items():
        def build(scene, recipe=recipe):
            plant(scene, "a", 0x7FC00000)
            scene.write("recipe.yaml", recipe)
        yield Case("numerics", 102, f"nan-by-{method}", build, (merge(8, "fc1", "index 5"),))

    def all_nan(scene):
        scene.model("a", inputs.tensors(7, WEIGHT=[NAN] * 24))
    yield Case("numerics", 102, "all-nan", all_nan, (merge(8, "fc1", "24"),))

    def last(scene):
        plant(scene, "a", 0x7F800000, name=BIAS)
    yield Case("numerics", 102, "in-a-bias", last, (merge(8, "fc1.bias", "index 5"),))


def overflowing(values, dtype="F32", recipe=RECIPE, **more):
    def build(scene):
        scene.model("a", inputs.tensors(7, dtype, WEIGHT=values, **more))
        scene.write("recipe.yaml", recipe)
    return build


def overflow():
    big = [3e38] * 24
    largest = struct.unpack("<f", struct.pack("<I", 0x7F7FFFFF))[0]
    for name, values, options in (
            ("to-f16", [2e5] * 24, ("--dtype", "f16")), ("to-f16-one", [2e5] + [0] * 23,
                                                       ("--dtype", "f16")),
            ("to-bf16", [largest] * 24, ("--dtype", "bf16"))):
        recipe = RECIPE.replace("0.5", "1") if name == "to-bf16" else RECIPE
        yield Case("numerics", 103, name, overflowing(values, recipe=recipe),
                   (merge(8, "fc1", "overflow|range|infin", options=options),))
    yield Case("numerics", 109, "lambda", overflowing(
        big, recipe=RECIPE + "parameters: {lambda: 1e30}\n"), (merge(8, "fc1", "overflow"),))
    for value in ("1e31", "1e300", "-1e31"):
        yield Case("numerics", 109, f"lambda-{value}", overflowing(
            big, recipe=RECIPE + f"parameters: {{lambda: {value}}}\n"),
            (merge(3, r"recipe\.yaml:6:22: parameters\.lambda: .* out of range"),))
    yield Case("numerics", 109, "weight", overflowing(big, recipe=RECIPE.replace("0.5", "1e30")),
               (merge(8, "fc1", "overflow|range|infin"),))
    yield Case("numerics", 109, "weights-nearly-cancel", overflowing(
        big, recipe="merge_method: linear\nmodels: [{model: base, parameters: {weight: 1}}, "
        "{model: a, parameters: {weight: -0.9999999}}]\n"), (merge(8, "overflow|range|infin"),))


# --- Legal though odd -----------------------------------------------------------------------------

def all_finite(scene):
    for name, (dtype, _, raw) in scene.result().items():
        bad = [value for value in inputs.decode(raw, dtype) if value != value or abs(value) == INF]
        expect(bad, [], name)


def odd(number, name, build, *says, check=all_finite, options=()):
    return accepted("numerics", number, name, build, *says, check=check, options=options)


def allowed():
    def build(scene):
        plant(scene, "a", 0x7FC00000)

    def check_nan(scene):
        values = values_of(scene, WEIGHT)
        expect([i for i, value in enumerate(values) if value != value], [5], "places of NaN")

    def check_zero(scene):
        base = inputs.numbers(24)[5]
        expect(values_of(scene, WEIGHT)[5] in (base, base / 2, 0.0), True, "the replaced value")
        all_finite(scene)
    yield odd(102, "propagated", build, check=check_nan, options=("--nonfinite", "propagate"))
    yield odd(102, "zeroed", build, check=check_zero, options=("--nonfinite", "zero"))


def subnormals():
    """The smallest numbers of each type come through a merge of equal models and of halves."""
    for dtype, n, least in (("F32", 4, 2**-149), ("F16", 2, 2**-24), ("BF16", 2, 2**-133)):
        def build(scene, dtype=dtype, n=n):
            raw = b"".join((2 * i + 2).to_bytes(n, "little") for i in range(24))
            zero = bytes(24 * n)
            scene.model("base", [(WEIGHT, dtype, [6, 4], zero)] + inputs.tensors()[1:])
            scene.model("a", [(WEIGHT, dtype, [6, 4], raw)] + inputs.tensors(7)[1:])

        def check(scene, dtype=dtype, least=least):
            expect(values_of(scene, WEIGHT), [(i + 1) * least for i in range(24)])
        yield odd(104, dtype.lower(), build, check=check)


def angles():
    base = inputs.numbers(24)
    rows = {"equal": base, "parallel": [2 * v for v in base], "opposite": [-v for v in base],
            "zero": [0] * 24, "nearly": [v * (1 + 1e-6) for v in base], "tiny": [v * 1e-38
                                                                               for v in base],
            "huge": [v * 1e37 for v in base]}
    for name, values in rows.items():
        def build(scene, values=values):
            scene.model("a", inputs.tensors(7, WEIGHT=values))
            scene.write("recipe.yaml", RECIPES["slerp"])
        yield odd(105, name, build)

    def both_zero(scene):
        for folder in ("base", "a"):
            scene.model(folder, inputs.tensors(WEIGHT=[0] * 24))
        scene.write("recipe.yaml", RECIPES["slerp"])
    yield odd(105, "both-zero", both_zero, check=lambda scene: expect(
        values_of(scene, WEIGHT), [0.0] * 24))


def matrices():
    """Task vectors for the singular value decomposition: zero, of one rank, all values the same,
    far from 1, with no or one row."""
    rows = {"zero": ([6, 4], [0] * 24), "rank-1": ([6, 4], [(i // 4 + 1) * (i % 4 + 1)
                                                           for i in range(24)]),
            "identity": ([4, 4], [1.0 * (i % 5 == 0) for i in range(16)]),
            "same": ([6, 4], [1] * 24), "tiny": ([6, 4], [v * 1e-38 for v in inputs.numbers(24)]),
            "huge": ([6, 4], [v * 1e37 for v in inputs.numbers(24)]),
            "subnormal": ([6, 4], [2**-149] * 24), "one-entry": ([6, 4], [1] + [0] * 23),
            "no-rows": ([0, 4], []), "no-columns": ([4, 0], []), "one-row": ([1, 4], [1, 2, 3, 4]),
            "one-column": ([4, 1], [1, 2, 3, 4]), "one-element": ([1, 1], [3]),
            "graded": ([8, 8], [10.0**(-5 * (i % 8)) * ((i * 7 + i // 8) % 5 - 2)
                                for i in range(64)])}
    for name, (shape, delta) in rows.items():
        for how in ("", "exact"):
            def build(scene, shape=shape, delta=delta):
                scene.model("base", [inputs.tensor(WEIGHT, shape, values=[0] * len(delta))])
                scene.model("a", [inputs.tensor(WEIGHT, shape, values=delta)])
                scene.write("recipe.yaml", "merge_method: lors\nbase_model: base\nmodels: "
                                           "[{model: a}]\nparameters: {rank: 2, density: 0, "
                                           "lambda: 1}\n")
            yield odd(106, f"{name}{'-' if how else ''}{how}", build,
                      options=("--exact",) if how else ())


def elections():
    def build_zero(scene):
        scene.model("a")
        scene.write("recipe.yaml", RECIPES["ties"])

    def build_equal(scene):
        base = inputs.numbers(24)
        scene.model("a", inputs.tensors(0, WEIGHT=[v + (-1)**i for i, v in enumerate(base)]))
        scene.write("recipe.yaml", RECIPES["ties"])

    def check_equal(scene):
        base = inputs.numbers(24)
        # normalized: the weight cancels; of equal entries the first half is kept
        expect(values_of(scene, WEIGHT), [v + (-1)**i * (i < 12) for i, v in enumerate(base)])

    def build_opposite(scene):
        base = inputs.numbers(24)
        for folder, sign in (("a", 1), ("b", -1)):
            scene.model(folder, inputs.tensors(0, WEIGHT=[v + sign for v in base]))
        scene.write("recipe.yaml", RECIPES["ties"].replace("parameters: {density", "  - {model: b, "
                                                           "parameters: {weight: 0.5}}\n"
                                                           "parameters: {density"))
    yield odd(108, "zero", build_zero)
    yield odd(108, "all-equal", build_equal, check=check_equal)
    yield odd(108, "opposite", build_opposite)


def passed_bits():
    """Bits that arithmetic would change, in tensors that are copied."""
    def build(scene):
        for folder, seed in (("base", 0), ("a", 7)):
            listed = inputs.tensors(seed)
            listed[1] = (QUERY, "F32", [4, 4], ODD_BITS)
            scene.model(folder, listed)
        scene.write("recipe.yaml", RECIPE + "parameters: {scope: mlp, outside: base}\n")

    def check(scene):
        expect(scene.result()[QUERY][2], ODD_BITS)
    yield odd(110, "copied", build, check=check, options=("--nonfinite", "propagate"))

    def negative_zero(scene):
        scene.model("base", inputs.tensors(0, WEIGHT=[-0.0] * 24))
        scene.model("a", inputs.tensors(7, WEIGHT=[-0.0] * 24))
    yield odd(110, "negative-zero", negative_zero, check=lambda scene: expect(
        scene.result()[WEIGHT][2], struct.pack("<24f", *[-0.0] * 24)))


def copied():
    """What is only copied is looked at, too."""
    outside = RECIPE + "parameters: {scope: mlp, outside: base}\n"
    for dtype, bits in (("F32", 0x7FC00000), ("F16", 0xFC00), ("BF16", 0x7F81)):
        def build(scene, dtype=dtype, bits=bits):
            scene.model("a", inputs.tensors(7, dtype))
            plant(scene, "base", bits, dtype, name=QUERY)
            scene.write("recipe.yaml", outside)
        yield Case("numerics", 102, f"{dtype.lower()}-copied", build,
                   (merge(8, "q_proj", "1 values", "index 5", r"base\b"),))

    for dtype, code in (("F8_E4M3", b"\xff"), ("F8_E5M2", b"\x7c"), ("F8_E8M0", b"\xff"),
                        ("F8_E4M3FNUZ", b"\x80"), ("C64", struct.pack("<2I", 0, 0x7F800000))):
        def spoil(scene, dtype=dtype, code=code):
            for folder, seed in (("base", 0), ("a", 7)):
                listed = inputs.tensors(seed)
                listed[1] = (QUERY, dtype, [4, 4], bytes(5 * len(code)) + code
                             + bytes(10 * len(code)))
                scene.model(folder, listed)
            scene.write("recipe.yaml", outside)
        yield Case("numerics", 102, f"{dtype.lower()}-copied", spoil,
                   (merge(8, "q_proj", "1 values", "index 5", r"base\b"),))

    def passed_through(scene):
        plant(scene, "a", 0x7F800000, name=BIAS)
        scene.write("recipe.yaml", "merge_method: passthrough\nmodels: [{model: a}]\n")
    yield Case("numerics", 102, "passed-through", passed_through,
               (merge(8, "fc1.bias", "index 5", r"a\b"),))

    def check(scene):
        values = inputs.numbers(16, 1)
        expect(values_of(scene, QUERY), values[:5] + [0.0] + values[6:])

    def zeroed(scene):
        plant(scene, "base", 0x7FC00000, name=QUERY)
        scene.write("recipe.yaml", outside)
    yield odd(102, "copied-zero", zeroed, check=check, options=("--nonfinite", "zero"))


ODD_BITS = struct.pack("<16I", *(0x80000000, 0x7F800001, 0xFF800001, 0x7FFFFFFF, 1, 0x80000001,
                                 0x007FFFFF, 0x7F7FFFFF) * 2)


def cases():
    for table in (nonfinite, overflow, allowed, subnormals, angles, matrices, elections,
                  passed_bits, copied):
        yield from table()
