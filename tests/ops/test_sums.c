/* test_sums.c - weighted sums in all their combinations, in any order and in a given one, signs. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "ops_oracle.h"
#include "synth.h"

static const int64_t sizes[] = {0, 1, 7, 8, 511, 512, 513, 8191, 8192, 8193, 20000};

enum { N_SIZES = sizeof sizes / sizeof *sizes, MAX_MODELS = 5 };

/* --- operands --------------------------------------------------------------------------------- */

/* Operands of sums over up to 20000 elements of some models, with gaps between slices. */
typedef struct operands {
    float *stack, *base, *low;
    uint8_t *masks;
    int8_t *signs;
    double *before;
    int64_t n, stride;
} operands;

static operands operands_of_many(int64_t n, int64_t stride, int32_t n_models, bool special,
                                 uint64_t seed)
{
    operands o = {.n = n, .stride = stride};
    size_t all = (size_t)(stride * n_models);
    o.stack = malloc(all * sizeof *o.stack);
    o.masks = malloc(all);
    o.base = malloc((size_t)stride * sizeof *o.base);
    o.low = malloc(all * sizeof *o.low);
    o.signs = malloc((size_t)stride);
    o.before = malloc((size_t)stride * sizeof *o.before);
    synth_values(o.stack, (int64_t)all, 0.02, seed);
    synth_values(o.base, stride, 0.02, seed + 1);
    synth_values(o.low, (int64_t)all, 0.001, seed + 2);
    synth_stream stream = {seed + 3, 0};
    for (size_t i = 0; i < all; i++) {
        uint64_t bits = synth_bits(&stream);
        o.low[i] = i % 13 == 0 ? 0.0f : o.low[i];
        o.masks[i] = bits % 3 == 0 ? 0 : bits % 3 == 1 ? 1 : 255;
        if (bits >> 8 & 1) { /* equal to the base, so that terms are zero, or far from it */
            o.stack[i] = bits >> 9 & 1 ? o.base[(int64_t)i % stride] : o.stack[i] * 1e30f;
        }
        if (special && (bits >> 10 & 3) == 0) {
            o.stack[i] =
                lors_f32_from_bits(synth_special[(int64_t)(bits >> 20 & 0xffff) % synth_special_n]);
        }
    }
    for (int64_t i = 0; i < stride; i++) {
        o.signs[i] = synth_bits(&stream) & 1 ? 1 : -1;
        o.before[i] = synth_normal(&stream);
        o.base[i] = i % 11 == 0 ? -0.0f : o.base[i];
    }
    return o;
}

static operands operands_of(int64_t n, int64_t stride, bool special, uint64_t seed)
{
    return operands_of_many(n, stride, MAX_MODELS, special, seed);
}

static void free_operands(operands *o)
{
    free(o->stack);
    free(o->base);
    free(o->low);
    free(o->masks);
    free(o->signs);
    free(o->before);
}

static lors_sum on_device(ops_bench *bench, const oracle_sum *sum, int64_t n)
{
    int64_t all = sum->n_models == 0 ? 0 : (sum->n_models - 1) * sum->stride + n;
    return (lors_sum){.stack = ops_copy_of(bench, sum->stack, all, 4),
                      .base = sum->base ? ops_copy_of(bench, sum->base, n, 4) : LORS_NO_VIEW,
                      .masks = sum->masks ? ops_copy_of(bench, sum->masks, all, 1) : LORS_NO_VIEW,
                      .low = sum->low ? ops_copy_of(bench, sum->low, all, 4) : LORS_NO_VIEW,
                      .signs = sum->signs ? ops_copy_of(bench, sum->signs, n, 1) : LORS_NO_VIEW,
                      .stride = sum->stride,
                      .n_models = sum->n_models,
                      .weights = sum->weights,
                      .shares = sum->shares,
                      .divisor = sum->divisor,
                      .divisor_value = sum->divisor_value,
                      .scale = sum->scale,
                      .add = sum->add,
                      .in_order = sum->in_order};
}

/* --- accumulate ------------------------------------------------------------------------------- */

static void check_accumulate(ops_bench *bench, const oracle_sum *sum, const double *before,
                             int64_t n)
{
    double weights[LORS_MAX_MODELS] = {0}, shares[LORS_MAX_MODELS] = {0};
    lors_sum given = on_device(bench, sum, n);
    lors_view acc = ops_copy_of(bench, before, n, sizeof *before);
    if (!sum->add) { /* NaN: what was there must not matter */
        memset(ops_host(bench, acc), 0xff, (size_t)n * sizeof *before);
        ops_push(bench, acc);
    }
    memcpy(weights, sum->weights, (size_t)sum->n_models * sizeof *weights);
    given.weights = weights;
    if (sum->shares) {
        memcpy(shares, sum->shares, (size_t)sum->n_models * sizeof *shares);
        given.shares = shares;
    }
    assert_ok(bench->ops->accumulate(bench->queue, acc, &given, n));
    memset(shares, 0xff, sizeof shares);
    memset(weights, 0xff, sizeof weights); /* taken over before the call returned */
    memset(&given, 0xff, sizeof given);
    const double *got = ops_host(bench, acc);
    for (int64_t i = 0; i < n; i++) {
        double wanted = oracle_accumulate(sum, before[i], i);
        bool same = isnan(wanted) ? isnan(got[i]) : memcmp(&got[i], &wanted, sizeof wanted) == 0;
        expect(same, "element %lld of %lld: %a, not %a", (long long)i, (long long)n, got[i],
               wanted);
    }
    ops_clear(bench);
}

static const double weight_sets[][MAX_MODELS] = {
    {0.2, 0.3, 0.5, -0.25, 1},
    {1, 0, 0, 0, 0},
    {1, -1, 2, -2, 0}, /* sums of 0: the divisor counts as 1 */
    {1e-300, 1e30, -1e30, 0.1, 1.0 / 3},
};

static const struct {
    lors_divisor kind;
    double value, scale;
    bool add;
} ends[] = {
    {LORS_DIVIDE_NOT, 0, 1, false},      {LORS_DIVIDE_NOT, 0, -0.2, true},
    {LORS_DIVIDE_CONSTANT, 3, 1, false}, {LORS_DIVIDE_CONSTANT, -0.7, 0, true},
    {LORS_DIVIDE_KEPT, 0, 1, false},     {LORS_DIVIDE_KEPT, 0, 1.0 / 3, true},
};

/* Left out: low values counted by LORS_DIVIDE_KEPT without an election, which the contract does not
 * settle and no method asks for. */
static oracle_sum combination(const operands *o, unsigned which, size_t end, int32_t n_models,
                              const double *weights)
{
    bool masks = which & 2, low = which & 4, signs = which & 8;
    bool open = low && masks && !signs && ends[end].kind == LORS_DIVIDE_KEPT;
    return (oracle_sum){.stack = o->stack,
                        .base = which & 1 ? o->base : NULL,
                        .masks = masks ? o->masks : NULL,
                        .low = low && !open ? o->low : NULL,
                        .signs = signs ? o->signs : NULL,
                        .stride = o->stride,
                        .n_models = n_models,
                        .weights = weights,
                        .divisor = ends[end].kind,
                        .divisor_value = ends[end].value,
                        .scale = ends[end].scale,
                        .add = ends[end].add};
}

static void all_combinations(ops_bench *bench, int64_t n, int64_t stride, bool special)
{
    operands o = operands_of(n, stride, special, 100 + (uint64_t)n);
    for (unsigned which = 0; which < 16; which++) {
        for (size_t end = 0; end < sizeof ends / sizeof *ends; end++) {
            for (int32_t models = 0; models <= MAX_MODELS; models += models == 3 ? 2 : 1) {
                size_t set = (which + end + (size_t)models) % 4;
                oracle_sum sum = combination(&o, which, end, models, weight_sets[set]);
                check_accumulate(bench, &sum, o.before, n);
            }
        }
    }
    free_operands(&o);
}

static void accumulate_in_all_combinations(ops_bench *bench)
{
    all_combinations(bench, 600, 600, false);
    all_combinations(bench, 77, 1000, true);
}

static void accumulate_takes_any_size(ops_bench *bench)
{
    for (int s = 0; s < N_SIZES; s++) {
        operands o = operands_of(sizes[s], sizes[s] + 5, s % 2, 200 + (uint64_t)s);
        for (unsigned which = 1; which < 16; which += 7) {
            oracle_sum sum = combination(&o, which, 4, 3, weight_sets[0]);
            check_accumulate(bench, &sum, o.before, sizes[s]);
        }
        free_operands(&o);
    }
}

/* An infinity that is masked out, or voted down, leaves no trace. */
static void accumulate_ignores_what_is_masked(ops_bench *bench)
{
    float x[] = {INFINITY, NAN, 1, -INFINITY};
    uint8_t masks[] = {0, 0, 1, 0};
    int8_t signs[] = {1, 1, 1, 1};
    double weight = 2, before[4] = {0};
    oracle_sum sum = {
        .stack = x, .masks = masks, .stride = 4, .n_models = 1, .weights = &weight, .scale = 1};
    check_accumulate(bench, &sum, before, 4);
    sum.signs = signs;
    check_accumulate(bench, &sum, before, 4);
    sum.masks = NULL;
    sum.divisor = LORS_DIVIDE_KEPT;
    check_accumulate(bench, &sum, before, 4);
}

/* Zeros of one sign beside sums that are rounded, for which there is another loop. */
static void accumulate_keeps_minus_zero(ops_bench *bench)
{
    enum { N = 19 };
    static const double weights[] = {0.1, 0.3};
    float x[2 * N];
    double before[N] = {0};
    for (int i = 0; i < 2 * N; i++) {
        x[i] = i % N % 3 == 0 ? 1.0f / (float)(i + 3) : -0.0f;
    }
    oracle_sum sum = {.stack = x, .stride = N, .n_models = 2, .weights = weights, .scale = 1};
    check_accumulate(bench, &sum, before, N);
}

static void accumulate_does_not_depend_on_the_split(ops_bench *bench)
{
    enum { N = 20000 };
    operands o = operands_of(N, N, false, 300);
    oracle_sum plain = combination(&o, 15, 4, 3, weight_sets[0]);
    lors_sum sum = on_device(bench, &plain, N);
    lors_view one = ops_buffer_of(bench, N, 8), many = ops_buffer_of(bench, N, 8);
    assert_ok(bench->ops->accumulate(bench->queue, one, &sum, N));
    for (uint64_t first = 0; first < N; first += LORS_BLOCK) {
        int64_t n = N - (int64_t)first < LORS_BLOCK ? N - (int64_t)first : LORS_BLOCK;
        lors_sum part = sum;
        part.stack = lors_view_at(sum.stack, 4 * first);
        part.base = lors_view_at(sum.base, 4 * first);
        part.low = lors_view_at(sum.low, 4 * first);
        part.masks = lors_view_at(sum.masks, first);
        part.signs = lors_view_at(sum.signs, first);
        assert_ok(bench->ops->accumulate(bench->queue, lors_view_at(many, 8 * first), &part, n));
    }
    assert_memory_equal(ops_host(bench, one), ops_host(bench, many), N * 8);
    ops_record(bench, ops_host(bench, one), N * 8);
    ops_clear(bench);
    free_operands(&o);
}

/* Gate: stored as f32, the result is the rounding of some point within the error of f64 sums around
 * the exact one. Exact here: 64 bits of significand, 2^-11 of that error. */
static void accumulate_is_within_its_error(ops_bench *bench)
{
    enum { N = 20000, MODELS = 3 };
    operands o = operands_of(N, N, false, 400);
    const double *w = weight_sets[0];
    oracle_sum plain = combination(&o, 1, 0, MODELS, w);
    lors_sum sum = on_device(bench, &plain, N);
    lors_view acc = ops_buffer_of(bench, N, 8), out = ops_buffer_of(bench, N, 4);
    lors_store store = {.dtype = LORS_F32, .acc = acc, .base = sum.base};
    store.blocks = ops_buffer_of(bench, 3, sizeof(lors_store_block));
    assert_ok(bench->ops->accumulate(bench->queue, acc, &sum, N));
    assert_ok(bench->ops->store(bench->queue, out, &store, N));
    const float *got = ops_host(bench, out);
    for (int64_t i = 0; i < N; i++) {
        long double exact = o.base[i], terms = fabsl((long double)o.base[i]);
        for (int m = 0; m < MODELS; m++) {
            long double term =
                w[m] * ((long double)o.stack[m * o.stride + i] - (long double)o.base[i]);
            exact += term;
            terms += fabsl(term);
        }
        long double slack = (MODELS + 2) * 0x1p-53L * terms;
        expect(got[i] >= (float)(exact - slack) && got[i] <= (float)(exact + slack), "%a, not %La",
               (double)got[i], exact);
    }
    ops_clear(bench);
    free_operands(&o);
}

/* Divided by other numbers than the terms are multiplied by; some of them sum to 0. */
static void shares_divide_instead_of_weights(ops_bench *bench)
{
    static const double shares[][MAX_MODELS] = {
        {3, 0.5, 1, 2, -1}, {1, -1, 0, 2, -2}, {0}, {0.7, 0.7, 0.7, 0.7, 0.7}};
    for (int i = 0; i < 4 * 8; i++) {
        int64_t n = i % 2 ? 8193 : 77;
        operands o = operands_of(n, n + 3, false, 600 + (uint64_t)i);
        unsigned which = (unsigned)(i / 4 % 2 | (i / 8 % 4) << 2) & 11;
        oracle_sum sum = combination(&o, which | 2, 4 + (size_t)i % 2, MAX_MODELS - i % 3,
                                     weight_sets[i % 2 * 3]);
        sum.shares = shares[i % 4];
        check_accumulate(bench, &sum, o.before, n);
        free_operands(&o);
    }
}

/* As many models as a sum may have, and more than fit some table of a kernel. */
static void sums_take_many_models(ops_bench *bench)
{
    enum { N = 700, STRIDE = 701 };
    static const int32_t counts[] = {20, 33, LORS_MAX_MODELS};
    double weights[LORS_MAX_MODELS], same[LORS_MAX_MODELS];
    operands o = operands_of_many(N, STRIDE, LORS_MAX_MODELS, false, 700);
    for (int32_t m = 0; m < LORS_MAX_MODELS; m++) {
        weights[m] = m % 9 == 4 ? 0 : (double)(m % 7 - 2) / 3;
        same[m] = -1.0 / 3;
    }
    for (int c = 0; c < 3; c++) {
        for (unsigned which = 0; which < 16; which += 5) {
            for (int in_order = 0; in_order < (which & 8 ? 1 : 2); in_order++) {
                oracle_sum sum = combination(&o, which, in_order ? 1 : 4, counts[c], weights);
                sum.in_order = in_order;
                check_accumulate(bench, &sum, o.before, N);
                sum.shares = in_order ? NULL : same;
                check_accumulate(bench, &sum, o.before, N);
            }
        }
    }
    free_operands(&o);
}

/* --- in order --------------------------------------------------------------------------------- */

static void in_order_in_all_combinations(ops_bench *bench)
{
    for (int special = 0; special < 2; special++) {
        int64_t n = special ? 77 : 600;
        operands o = operands_of(n, n + 9, special, 800 + (uint64_t)special);
        for (unsigned i = 0; i < 8 * 2 * 5; i++) {
            int32_t n_models = (int32_t)(i / 16);
            oracle_sum sum =
                combination(&o, i % 8, i / 8 % 2, n_models + n_models / 4, weight_sets[i % 4]);
            sum.in_order = true;
            check_accumulate(bench, &sum, o.before, n);
        }
        free_operands(&o);
    }
}

/* The models from .. from + count - 1 of a sum. */
static lors_sum models_of(const lors_sum *sum, int32_t from, int32_t count)
{
    lors_sum part = *sum;
    uint64_t at = (uint64_t)(from * sum->stride);
    part.stack = lors_view_at(sum->stack, 4 * at);
    part.low = sum->low.memory ? lors_view_at(sum->low, 4 * at) : LORS_NO_VIEW;
    part.masks = sum->masks.memory ? lors_view_at(sum->masks, at) : LORS_NO_VIEW;
    part.weights = sum->weights + from;
    part.n_models = count;
    part.add = sum->add || from > 0;
    return part;
}

/* All at once, one by one, two and then three, and without saying so: the same bits. */
static void check_any_calls(ops_bench *bench, const oracle_sum *plain, const double *before)
{
    enum { N = 8200, WAYS = 4 };
    static const int32_t sizes_of[WAYS] = {5, 1, 2, 1};
    lors_sum sum = on_device(bench, plain, N);
    lors_view accs[WAYS];
    for (int way = 0; way < WAYS; way++) {
        accs[way] = ops_copy_of(bench, before, N, sizeof *before);
        for (int32_t from = 0; from < sum.n_models; from += sizes_of[way]) {
            int32_t left = sum.n_models - from;
            lors_sum part = models_of(&sum, from, left < sizes_of[way] ? left : sizes_of[way]);
            part.in_order = way < 3; /* one model by itself is in order */
            assert_ok(bench->ops->accumulate(bench->queue, accs[way], &part, N));
        }
        assert_memory_equal(ops_host(bench, accs[way]), ops_host(bench, accs[0]),
                            N * sizeof *before);
    }
    ops_record(bench, ops_host(bench, accs[0]), N * sizeof *before);
    ops_clear(bench);
}

static void in_order_takes_any_calls(ops_bench *bench)
{
    operands o = operands_of(8200, 8203, false, 900);
    for (unsigned which = 0; which < 8; which++) {
        for (size_t end = 0; end < 2; end++) { /* without `add`, and with */
            oracle_sum sum = combination(&o, which, end, MAX_MODELS, weight_sets[which % 4]);
            sum.scale = 1.0 / 3;
            check_any_calls(bench, &sum, o.before);
        }
    }
    free_operands(&o);
}

/* --- elections -------------------------------------------------------------------------------- */

static void election_follows_the_sum(ops_bench *bench)
{
    for (int s = 0; s < N_SIZES; s++) {
        int64_t n = sizes[s];
        operands o = operands_of(n, n + 3, false, 500 + (uint64_t)s);
        for (unsigned which = 0; which < 4; which++) {
            oracle_sum sum = combination(&o, which, which, 3, weight_sets[which % 3]);
            sum.signs = o.signs; /* to be ignored, as divisor and scale are */
            sum.scale = -1;
            lors_sum given = on_device(bench, &sum, n);
            lors_view signs = ops_buffer_of(bench, n, 1);
            assert_ok(bench->ops->elect_sign(bench->queue, signs, &given, n));
            const int8_t *got = ops_host(bench, signs);
            for (int64_t i = 0; i < n; i++) {
                assert_int_equal(got[i], oracle_sign(&sum, i));
            }
            ops_record(bench, got, (size_t)n);
            ops_clear(bench);
        }
        free_operands(&o);
    }
}

/* A sum of zero, of either sign or of nothing, elects plus. */
static void election_of_nothing_is_plus(ops_bench *bench)
{
    float stack[] = {1, -1, 0.0f, -0.0f, -1, 1, -0.0f, -0.0f};
    double weights[] = {1, 1};
    for (int32_t models = 0; models <= 2; models += 2) {
        oracle_sum sum = {.stack = stack, .stride = 4, .n_models = models, .weights = weights};
        lors_sum given = on_device(bench, &sum, 4);
        lors_view signs = ops_buffer_of(bench, 4, 1);
        assert_ok(bench->ops->elect_sign(bench->queue, signs, &given, 4));
        const int8_t *got = ops_host(bench, signs);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(got[i], 1);
        }
        ops_clear(bench);
    }
}

int main(void)
{
    static const ops_case cases[] = {
        {"accumulate: all combinations", accumulate_in_all_combinations},
        {"accumulate: any size", accumulate_takes_any_size},
        {"accumulate: what is masked or voted down", accumulate_ignores_what_is_masked},
        {"accumulate: minus zero", accumulate_keeps_minus_zero},
        {"accumulate: any split at blocks", accumulate_does_not_depend_on_the_split},
        {"accumulate: within its error", accumulate_is_within_its_error},
        {"accumulate: shares", shares_divide_instead_of_weights},
        {"accumulate: many models", sums_take_many_models},
        {"in order: all combinations", in_order_in_all_combinations},
        {"in order: one call or several", in_order_takes_any_calls},
        {"elect_sign: follows the sum", election_follows_the_sum},
        {"elect_sign: nothing elects plus", election_of_nothing_is_plus},
    };
    return ops_run("sums", cases, sizeof cases / sizeof *cases);
}
