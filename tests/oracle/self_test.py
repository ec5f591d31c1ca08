"""self_test.py - the oracle's own arithmetic, and that the judge finds planted errors.

A judge that accepts everything is worse than none: each check here plants the smallest error that
must be found.
"""
import numpy as np

import judge
from lors_oracle import LowRank, Part, Values, added, top
from names import Subject, canonical, value_for
from tensors import bits_of, decode, encode, round_to, tensor_of


def all_bits_survive():
    for dtype in ("F16", "BF16"):
        bits = np.arange(1 << 16, dtype="<u2")
        values = decode(bits.tobytes(), dtype)
        back = np.frombuffer(encode(values, dtype), "<u2")
        number = ~np.isnan(values)
        assert (back[number] == bits[number]).all()
        quiet = {"F16": 0x7e00, "BF16": 0x7fc0}[dtype]
        assert (back[~number] == quiet).all()


def midpoints_go_to_even():
    for dtype in ("F16", "BF16"):
        bits = np.arange(0, {"F16": 0x7bff, "BF16": 0x7f7f}[dtype], dtype="<u2")
        low, high = decode(bits.tobytes(), dtype), decode((bits + 1).astype("<u2").tobytes(), dtype)
        middle = (low + high) / 2
        assert (bits_of(round_to(middle, dtype), dtype) == bits + (bits & 1)).all()
        above = round_to(np.nextafter(middle, np.inf), dtype)
        assert (above == high).all()


def single_agrees_with_hardware():
    draw = np.random.RandomState(1)
    values = draw.randn(100000) * np.exp(draw.uniform(-110, 88, 100000))
    with np.errstate(over="ignore"):
        assert (round_to(values, "F32") == values.astype(np.float32)).all()


def limits_overflow():
    assert np.isinf(round_to(65520.0, "F16")) and round_to(65519.996, "F16") == 65504
    widest = float(np.array([0x7f7fffff], "<u4").view("<f4")[0])
    assert np.isinf(round_to(widest, "BF16")) and round_to(widest, "F32") == widest


def names_meet():
    assert canonical("decoder.blocks.3.cross_attn.value.bias") == \
        "model.decoder.layers.3.encoder_attn.v_proj.bias"
    assert canonical("module.proj_out.weight") == "proj_out.weight"
    subject = Subject("encoder.blocks.1.mlp.0.weight", [8, 2])
    assert subject.matches("mlp & encoder & !layers: 0") and not subject.matches("attention")
    assert value_for([0, 1], subject, {"encoder": 3}) == 0.5


def judged(values, error, stored, dtype="F32"):
    expected = Values(dtype, [len(values)], [(np.array(values), np.array(error))])
    return judge.judge("x", expected, tensor_of(stored, dtype), judge.Counts())


def one_step_is_found():
    step = 2.0 ** -23
    assert not judged([1.0, 2.0], [0.0, 0.0], [1.0, 2.0])
    assert judged([1.0, 2.0], [1e-15, 1e-15], [1.0 + step, 2.0])
    # A value next to a boundary may go either way, and no farther.
    edge = 1.0 + step / 2
    assert not judged([edge, 1], [1e-15, 1e-15], [1.0 + step, 1])
    assert judged([edge, 1], [1e-15, 1e-15], [1.0 - step, 1])


def lost_sign_of_zero_is_found():
    assert judged([-0.0, 1], [0.0, 0.0], [0.0, 1])
    base = np.array([-0.0, 1.0])
    value, _ = added(base, 1.0, [np.array([0.0, 0.5])])
    assert np.signbit(value[0])


def low_rank_example(density):
    draw = np.random.RandomState(3)
    base = round_to(draw.randn(96), "F32")
    model = round_to(base + 0.1 * draw.randn(96), "F32")
    part = Part(base, model, 1.0, 2, density, [8, 12])
    mask = top(part.delta - part.low, part.kept)
    stored = round_to(base + 0.5 * np.where(mask, part.exact, part.low), "F32")
    return LowRank("F32", [8, 12], base, [part], 0.5), stored, mask


def wrong_low_rank_is_found():
    expected, stored, _ = low_rank_example(0)
    complain = lambda y: judge.judge("x", expected, tensor_of(y, "F32", [8, 12]), judge.Counts())
    assert not complain(stored)
    other = Part(expected.base, expected.base + expected.parts[0].exact, 1.0, 3, 0, [8, 12])
    assert complain(expected.base + 0.5 * other.low)              # another rank
    assert complain(stored + 1e-5 * np.linspace(-1, 1, 96))       # noise of 1e-5
    assert complain(np.concatenate([expected.base[:1], stored[1:]]))


def wrong_selection_is_found():
    expected, stored, mask = low_rank_example(0.25)
    part = expected.parts[0]
    complain = lambda y: judge.judge("x", expected, tensor_of(y, "F32", [8, 12]), judge.Counts())
    assert not complain(stored)
    kept, left = np.argmax(mask), np.argmin(mask)
    for at, value in ((kept, part.low[kept]), (left, part.exact[left])):
        planted = stored.copy()
        planted[at] = expected.base[at] + 0.5 * value
        assert complain(planted)


TESTS = [all_bits_survive, midpoints_go_to_even, single_agrees_with_hardware, limits_overflow,
         names_meet, one_step_is_found, lost_sign_of_zero_is_found, wrong_low_rank_is_found,
         wrong_selection_is_found]


def run():
    failures = []
    for test in TESTS:
        try:
            test()
        except AssertionError as error:
            failures.append(f"{test.__name__}: {error}")
    return failures
