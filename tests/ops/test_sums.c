/* test_sums.c - differences, comparison, weighted sums in all their combinations, signs, dots. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "ops_oracle.h"
#include "synth.h"

static const int64_t sizes[] = {0, 1, 7, 8, 511, 512, 513, 8191, 8192, 8193, 20000};

enum { N_SIZES = sizeof sizes / sizeof *sizes, MAX_MODELS = 5 };

/* --- subtract, compare ------------------------------------------------------------------------ */

static void check_subtract(ops_bench *bench, const float *a, const float *b, int64_t n)
{
    lors_view from = ops_copy_of(bench, a, n, 4), less = ops_copy_of(bench, b, n, 4);
    lors_view out = ops_buffer_of(bench, n, 4);
    assert_ok(bench->ops->subtract(bench->backend, out, from, less, n));
    assert_ok(bench->ops->subtract(bench->backend, from, from, less, n)); /* in place */
    const float *got = ops_host(bench, out), *in_place = ops_host(bench, from);
    for (int64_t i = 0; i < n; i++) {
        uint32_t wanted = oracle_narrow(LORS_F32, (double)a[i] - (double)b[i]);
        bool nan = isnan(a[i]) || isnan(b[i]) || (isinf(a[i]) && a[i] == b[i]);
        expect(nan ? isnan(got[i]) : lors_f32_bits(got[i]) == wanted, "%a - %a: %a", (double)a[i],
               (double)b[i], (double)got[i]);
        expect(nan ? isnan(in_place[i]) : lors_f32_bits(in_place[i]) == wanted, "in place");
    }
    ops_clear(bench);
}

static void subtract_rounds_once(ops_bench *bench)
{
    enum { N = 20000 };
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);
    synth_values(a, N, 0.02, 1);
    synth_values(b, N, 1e-4, 2);
    for (int64_t i = 0; i < N; i++) {
        b[i] = i % 3 ? a[i] + b[i] : b[i] * 1e-30f;
    }
    for (int s = 0; s < N_SIZES; s++) {
        check_subtract(bench, a, b, sizes[s]);
    }
    for (int64_t i = 0; i < synth_special_n * synth_special_n; i++) {
        a[i] = lors_f32_from_bits(synth_special[i / synth_special_n]);
        b[i] = lors_f32_from_bits(synth_special[i % synth_special_n]);
    }
    check_subtract(bench, a, b, synth_special_n * synth_special_n);
    free(a);
    free(b);
}

static void compare_looks_at_bits(ops_bench *bench)
{
    enum { N = 8193 };
    static const int64_t places[] = {0, 1, 7, 8191, 8192};
    uint32_t *bits = malloc(N * sizeof *bits);
    for (int64_t i = 0; i < N; i++) {
        bits[i] = synth_special[i % synth_special_n];
    }
    lors_view a = ops_copy_of(bench, bits, N, 4), b = ops_copy_of(bench, bits, N, 4);
    uint32_t *other = ops_host(bench, b);
    bool same = false;
    assert_ok(bench->ops->compare(bench->backend, a, b, N, &same));
    assert_true(same); /* NaN too: the same bits are the same */
    for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
        for (uint32_t flip = 1; flip != 0; flip <<= 31) { /* last bit, sign bit (-0 is not 0) */
            other[places[p]] ^= flip;
            assert_ok(bench->ops->compare(bench->backend, a, b, N, &same));
            assert_false(same);
            assert_ok(bench->ops->compare(bench->backend, a, b, places[p], &same));
            assert_true(same); /* n ends before the difference; 0 elements are the same */
            other[places[p]] ^= flip;
        }
    }
    ops_clear(bench);
    free(bits);
}

/* --- accumulate, elect_sign ------------------------------------------------------------------- */

/* Operands of sums over up to 20000 elements of up to five models, with gaps between slices. */
typedef struct operands {
    float *stack, *base, *low;
    uint8_t *masks;
    int8_t *signs;
    double *before;
    int64_t n, stride;
} operands;

static operands operands_of(int64_t n, int64_t stride, bool special, uint64_t seed)
{
    operands o = {.n = n, .stride = stride};
    size_t all = (size_t)(stride * MAX_MODELS);
    o.stack = malloc(all * sizeof *o.stack);
    o.masks = malloc(all);
    o.base = malloc((size_t)stride * sizeof *o.base);
    o.low = malloc((size_t)stride * sizeof *o.low);
    o.signs = malloc((size_t)stride);
    o.before = malloc((size_t)stride * sizeof *o.before);
    synth_values(o.stack, (int64_t)all, 0.02, seed);
    synth_values(o.base, stride, 0.02, seed + 1);
    synth_values(o.low, stride, 0.001, seed + 2);
    synth_stream stream = {seed + 3, 0};
    for (size_t i = 0; i < all; i++) {
        uint64_t bits = synth_bits(&stream);
        o.masks[i] = bits % 3 == 0 ? 0 : bits % 3 == 1 ? 1 : 255;
        if (bits >> 8 & 1) { /* equal to the base, so that terms are zero, or far from it */
            o.stack[i] = bits >> 9 & 1 ? o.base[(int64_t)i % stride] : o.stack[i] * 1e30f;
        }
        if (special && (bits >> 10 & 3) == 0) {
            o.stack[i] = lors_f32_from_bits(
                synth_special[(int64_t)(bits >> 20 & 0xffff) % synth_special_n]);
        }
    }
    for (int64_t i = 0; i < stride; i++) {
        o.signs[i] = synth_bits(&stream) & 1 ? 1 : -1;
        o.before[i] = synth_normal(&stream);
        o.base[i] = i % 11 == 0 ? -0.0f : o.base[i];
        o.low[i] = i % 13 == 0 ? 0.0f : o.low[i];
    }
    return o;
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
    return (lors_sum){
        .stack = ops_copy_of(bench, sum->stack, all, 4),
        .base = sum->base ? ops_copy_of(bench, sum->base, n, 4) : LORS_NO_VIEW,
        .masks = sum->masks ? ops_copy_of(bench, sum->masks, all, 1) : LORS_NO_VIEW,
        .low = sum->low ? ops_copy_of(bench, sum->low, n, 4) : LORS_NO_VIEW,
        .signs = sum->signs ? ops_copy_of(bench, sum->signs, n, 1) : LORS_NO_VIEW,
        .stride = sum->stride,
        .n_models = sum->n_models,
        .weights = sum->weights,
        .divisor = sum->divisor,
        .divisor_value = sum->divisor_value,
        .scale = sum->scale,
        .add = sum->add};
}

static void check_accumulate(ops_bench *bench, const oracle_sum *sum, const double *before,
                             int64_t n)
{
    lors_sum given = on_device(bench, sum, n);
    lors_view acc = ops_copy_of(bench, before, n, sizeof *before);
    double *got = ops_host(bench, acc);
    if (!sum->add) {
        memset(got, 0xff, (size_t)n * sizeof *got); /* NaN: what was there must not matter */
    }
    assert_ok(bench->ops->accumulate(bench->backend, acc, &given, n));
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
    {LORS_DIVIDE_NOT, 0, 1, false},        {LORS_DIVIDE_NOT, 0, -0.2, true},
    {LORS_DIVIDE_CONSTANT, 3, 1, false},   {LORS_DIVIDE_CONSTANT, -0.7, 0, true},
    {LORS_DIVIDE_KEPT, 0, 1, false},       {LORS_DIVIDE_KEPT, 0, 1.0 / 3, true},
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
    oracle_sum sum = {x, NULL, NULL, masks, NULL, 4, 1, &weight, LORS_DIVIDE_NOT, 0, 1, false};
    check_accumulate(bench, &sum, before, 4);
    sum.signs = signs;
    check_accumulate(bench, &sum, before, 4);
    sum.masks = NULL;
    sum.divisor = LORS_DIVIDE_KEPT;
    check_accumulate(bench, &sum, before, 4);
}

static void accumulate_does_not_depend_on_the_split(ops_bench *bench)
{
    enum { N = 20000 };
    operands o = operands_of(N, N, false, 300);
    oracle_sum plain = combination(&o, 15, 4, 3, weight_sets[0]);
    lors_sum sum = on_device(bench, &plain, N);
    lors_view one = ops_buffer_of(bench, N, 8), many = ops_buffer_of(bench, N, 8);
    assert_ok(bench->ops->accumulate(bench->backend, one, &sum, N));
    for (uint64_t first = 0; first < N; first += LORS_BLOCK) {
        int64_t n = N - (int64_t)first < LORS_BLOCK ? N - (int64_t)first : LORS_BLOCK;
        lors_sum part = sum;
        part.stack = lors_view_at(sum.stack, 4 * first);
        part.base = lors_view_at(sum.base, 4 * first);
        part.low = lors_view_at(sum.low, 4 * first);
        part.masks = lors_view_at(sum.masks, first);
        part.signs = lors_view_at(sum.signs, first);
        assert_ok(bench->ops->accumulate(bench->backend, lors_view_at(many, 8 * first), &part, n));
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
    lors_store_block blocks[3];
    assert_ok(bench->ops->accumulate(bench->backend, acc, &sum, N));
    assert_ok(bench->ops->store(bench->backend, out, LORS_F32, acc, sum.base, N, false, blocks));
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
            assert_ok(bench->ops->elect_sign(bench->backend, signs, &given, n));
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
        assert_ok(bench->ops->elect_sign(bench->backend, signs, &given, 4));
        for (int i = 0; i < 4; i++) {
            assert_int_equal(((int8_t *)ops_host(bench, signs))[i], 1);
        }
        ops_clear(bench);
    }
}

/* --- dots ------------------------------------------------------------------------------------- */

static void check_dots(ops_bench *bench, const float *a, const float *b, int64_t n)
{
    int64_t n_blocks = (n + LORS_BLOCK - 1) / LORS_BLOCK;
    lors_view left = ops_copy_of(bench, a, n, 4), right = ops_copy_of(bench, b, n, 4);
    lors_view out = ops_buffer_of(bench, 3 * n_blocks, 8);
    assert_ok(bench->ops->reduce_dots(bench->backend, out, left, right, n));
    const double *dots = ops_host(bench, out);
    for (int64_t block = 0; block < n_blocks; block++) {
        int64_t first = block * LORS_BLOCK, end = first + LORS_BLOCK < n ? first + LORS_BLOCK : n;
        long double sums[3] = {0}, sizes_of[3] = {0};
        for (int64_t i = first; i < end; i++) {
            long double x = a[i], y = b[i], terms[3] = {x * x, x * y, y * y};
            for (int d = 0; d < 3; d++) {
                sums[d] += terms[d];
                sizes_of[d] += fabsl(terms[d]);
            }
        }
        for (int d = 0; d < 3; d++) { /* products of f32 are exact; n - 1 additions round */
            expect(fabsl(dots[3 * block + d] - sums[d]) <= LORS_BLOCK * 0x1p-53L * sizes_of[d],
                   "dot %d of block %lld: %a", d, (long long)block, dots[3 * block + d]);
        }
    }
    ops_record(bench, dots, (size_t)(3 * n_blocks) * sizeof *dots);
    ops_clear(bench);
}

static void dots_are_summed_by_blocks(ops_bench *bench)
{
    enum { N = 20000 };
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);
    static const double scales[] = {1, 1e-38, 1e37};
    for (int scale = 0; scale < 3; scale++) {
        synth_values(a, N, scales[scale], 6);
        synth_values(b, N, scales[scale] / 7, 7);
        for (int s = 0; s < N_SIZES; s++) {
            check_dots(bench, a, b, sizes[s]);
        }
    }
    lors_view left = ops_copy_of(bench, a, N, 4), right = ops_copy_of(bench, b, N, 4);
    lors_view one = ops_buffer_of(bench, 9, 8), many = ops_buffer_of(bench, 9, 8);
    assert_ok(bench->ops->reduce_dots(bench->backend, one, left, right, N));
    for (uint64_t first = 0; first < N; first += LORS_BLOCK) {
        int64_t n = N - (int64_t)first < LORS_BLOCK ? N - (int64_t)first : LORS_BLOCK;
        assert_ok(bench->ops->reduce_dots(
            bench->backend, lors_view_at(many, 24 * (first / LORS_BLOCK)),
            lors_view_at(left, 4 * first), lors_view_at(right, 4 * first), n));
    }
    assert_memory_equal(ops_host(bench, one), ops_host(bench, many), 72);
    free(a);
    free(b);
}

int main(void)
{
    static const ops_case cases[] = {
        {"subtract: one rounding, in place too", subtract_rounds_once},
        {"compare: bits", compare_looks_at_bits},
        {"accumulate: all combinations", accumulate_in_all_combinations},
        {"accumulate: any size", accumulate_takes_any_size},
        {"accumulate: what is masked or voted down", accumulate_ignores_what_is_masked},
        {"accumulate: any split at blocks", accumulate_does_not_depend_on_the_split},
        {"accumulate: within its error", accumulate_is_within_its_error},
        {"elect_sign: follows the sum", election_follows_the_sum},
        {"elect_sign: nothing elects plus", election_of_nothing_is_plus},
        {"reduce_dots: by blocks", dots_are_summed_by_blocks},
    };
    return ops_run("sums", cases, sizeof cases / sizeof *cases);
}
