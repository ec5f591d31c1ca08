/* test_store.c - store: one rounding, what is found and counted, and models that agree. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops_oracle.h"
#include "synth.h"

static const lors_dtype dtypes[] = {LORS_F32, LORS_F16, LORS_BF16};
static const int64_t sizes[] = {0, 1, 7, 8, 511, 512, 513, 1023, 1025, 8191, 8192, 8193, 20000};

enum { N_DTYPES = 3, N_SIZES = sizeof sizes / sizeof *sizes, N_CODES = 1 << 16 };

static size_t element_bytes(lors_dtype dtype)
{
    return dtype == LORS_F32 ? 4 : 2;
}

static uint32_t read_bits(lors_dtype dtype, const void *values, int64_t i)
{
    return dtype == LORS_F32 ? ((const uint32_t *)values)[i] : ((const uint16_t *)values)[i];
}

static bool close_to(double a, double b)
{
    return fabs(a - b) <= 1e-12 * fabs(b);
}

static void compare_block(const lors_store_block *got, const oracle_store *wanted)
{
    assert_int_equal(got->n_overflow, wanted->n_overflow);
    assert_int_equal(got->n_nan, wanted->n_nan);
    assert_int_equal(got->n_infinite, wanted->n_infinite);
    if (wanted->n_overflow + wanted->n_nan + wanted->n_infinite > 0) {
        assert_int_equal(got->first_bad, wanted->first_bad);
    }
    expect(close_to(got->update, wanted->update), "%a, not %a", got->update, wanted->update);
    expect(close_to(got->loss, wanted->loss), "%a, not %a", got->loss, wanted->loss);
}

/* What is stored, on the host: acc [n]; base [n] or NULL; stack [n_models][stride] or NULL. */
typedef struct stored {
    lors_dtype dtype;
    const double *acc;
    const float *base, *stack;
    int64_t n, stride;
    int32_t n_models;
    bool zero;
} stored;

static lors_store on_device(ops_bench *bench, const stored *s)
{
    int64_t n_blocks = (s->n + LORS_BLOCK - 1) / LORS_BLOCK;
    int64_t all = s->stack ? (s->n_models - 1) * s->stride + s->n : 0;
    return (lors_store){
        .dtype = s->dtype,
        .acc = ops_copy_of(bench, s->acc, s->n, sizeof *s->acc),
        .base = s->base ? ops_copy_of(bench, s->base, s->n, sizeof *s->base) : LORS_NO_VIEW,
        .stack = s->stack ? ops_copy_of(bench, s->stack, all, sizeof *s->stack) : LORS_NO_VIEW,
        .stride = s->stride,
        .n_models = s->n_models,
        .zero_nonfinite = s->zero,
        .blocks = ops_buffer_of(bench, n_blocks, sizeof(lors_store_block))};
}

/* One block of it, as the contract has it. */
static void oracle_block(oracle_store *wanted, const stored *s, int64_t first, int64_t count)
{
    oracle_agreement stack = {s->stack ? s->stack + first : NULL, s->stride, s->n_models};
    oracle_store_block(wanted, s->dtype, s->acc + first, s->base ? s->base + first : NULL, &stack,
                       count, s->zero);
}

static void check_stored(ops_bench *bench, const stored *s)
{
    uint32_t *bits = malloc(LORS_BLOCK * sizeof *bits);
    lors_view out = ops_buffer_of(bench, s->n, element_bytes(s->dtype));
    lors_store given = on_device(bench, s), call = given;
    assert_ok(bench->ops->store(bench->queue, out, &call, s->n));
    memset(&call, 0xff, sizeof call); /* taken over before the call returned */
    const lors_store_block *blocks = ops_host(bench, given.blocks);
    const void *got = ops_host(bench, out);
    for (int64_t first = 0; first < s->n; first += LORS_BLOCK, blocks++) {
        int64_t count = s->n - first < LORS_BLOCK ? s->n - first : LORS_BLOCK;
        oracle_store wanted = {.bits = bits};
        oracle_block(&wanted, s, first, count);
        for (int64_t i = 0; i < count; i++) {
            uint32_t at = read_bits(s->dtype, got, first + i);
            expect(at == bits[i], "%s of %a + %a: %08x, not %08x", lors_dtype_name(s->dtype),
                   s->base ? (double)s->base[first + i] : 0.0, s->acc[first + i], (unsigned)at,
                   (unsigned)bits[i]);
        }
        compare_block(blocks, &wanted);
        ops_record(bench, &blocks->update, sizeof(double));
        ops_record(bench, &blocks->loss, sizeof(double));
    }
    ops_record(bench, got, (size_t)s->n * element_bytes(s->dtype));
    ops_clear(bench);
    free(bits);
}

static void check_store(ops_bench *bench, lors_dtype dtype, const double *acc, const float *base,
                        int64_t n, bool zero)
{
    check_stored(bench, &(stored){.dtype = dtype, .acc = acc, .base = base, .n = n, .zero = zero});
}

static void store_all_ways(ops_bench *bench, lors_dtype dtype, const double *acc, int64_t n)
{
    check_store(bench, dtype, acc, NULL, n, false);
    check_store(bench, dtype, acc, NULL, n, true);
}

/* --- rounding --------------------------------------------------------------------------------- */

/* Each value, the midpoint to the next, and the f64 numbers right beside both. */
static void store_rounds_every_half(ops_bench *bench)
{
    double *values = malloc(6 * N_CODES * sizeof *values);
    for (int d = 1; d < N_DTYPES; d++) {
        int64_t n = 0;
        for (uint32_t code = 0; code < N_CODES; code++) {
            double value = oracle_widen(dtypes[d], code), next = oracle_widen(dtypes[d], code + 1);
            if (!isfinite(value)) {
                continue;
            }
            if (!isfinite(next)) { /* beyond the largest, what would come next */
                next = value + (value - oracle_widen(dtypes[d], code - 1));
            }
            double middle = value / 2 + next / 2;
            double group[] = {value,  nextafter(value, -INFINITY),  nextafter(value, INFINITY),
                              middle, nextafter(middle, -INFINITY), nextafter(middle, INFINITY)};
            memcpy(values + n, group, sizeof group);
            n += 6;
        }
        store_all_ways(bench, dtypes[d], values, n);
    }
    free(values);
}

/* What comes back from every half is that half; NaN comes back canonical. */
static void store_undoes_load(ops_bench *bench)
{
    double *values = malloc(N_CODES * sizeof *values);
    for (int d = 1; d < N_DTYPES; d++) {
        for (uint32_t code = 0; code < N_CODES; code++) {
            values[code] = oracle_widen(dtypes[d], code);
        }
        store_all_ways(bench, dtypes[d], values, N_CODES);
    }
    free(values);
}

/* Around random f32: ties, their neighbours, and values that rounding twice would get wrong. */
static void store_rounds_f32_once(ops_bench *bench)
{
    enum { N = 30000 };
    synth_stream stream = {5, 0};
    double *values = malloc((N + 3) * sizeof *values);
    for (int64_t i = 0; i < N; i += 3) {
        uint32_t bits = (uint32_t)synth_bits(&stream) & 0x7fffffff;
        bits = bits >= 0x7f800000 ? bits - 0x7f800000 : bits;
        double value = oracle_widen(LORS_F32, bits), next = oracle_widen(LORS_F32, bits + 1);
        double middle = isfinite(next) ? value / 2 + next / 2 : 0x1.ffffffp127;
        middle = i % 2 ? -middle : middle;
        values[i] = middle;
        values[i + 1] = nextafter(middle, -INFINITY);
        values[i + 2] = nextafter(middle, INFINITY);
    }
    for (int d = 0; d < N_DTYPES; d++) {
        store_all_ways(bench, dtypes[d], values, N);
    }
    free(values);
}

/* Just above a midpoint of f16 or bf16 by less than f32 can tell: f64 -> f32 -> half is wrong. */
static void store_does_not_round_twice(ops_bench *bench)
{
    static const double values[] = {
        1 + 0x1p-11 + 0x1p-40,  -1 - 0x1p-11 - 0x1p-50, 1 + 0x3p-11 - 0x1p-40,
        1 + 0x1p-8 + 0x1p-40,   1 + 0x3p-8 - 0x1p-45,   65520 - 0x1p-30,
        -65520,                 65519.996,              65504,
        0x1p-25,                0x1p-25 + 0x1p-70,      0x3p-25,
        0x3p-25 - 0x1p-60,      0x1p-134,               0x1p-134 + 0x1p-180,
        0x3p-134 - 0x1p-180,    0x1p-150,               0x1.000001p-150,
        0x1.fffffefp127,        0x1.ffffffp127,         0x1.fefffffp127,
        0x1.ffp127,             0x1p-1074,              -0x1p-1074,
        0x1p-1022,              1e300,                  -0x1.fffffffffffffp1023,
        0x1p128,                0x1p199,                0x1p200,
        0x1p201,                0.0,                    -0.0,
        INFINITY,               -INFINITY,              NAN,
    };
    for (int d = 0; d < N_DTYPES; d++) {
        store_all_ways(bench, dtypes[d], values, sizeof values / sizeof *values);
    }
}

static void store_adds_to_the_base(ops_bench *bench)
{
    enum { N = 20000 };
    double *acc = malloc(N * sizeof *acc);
    float *base = malloc(N * sizeof *base), *update = malloc(N * sizeof *update);
    synth_values(base, N, 0.02, 3);
    synth_values(update, N, 1e-3, 4);
    for (int64_t i = 0; i < N; i++) {
        acc[i] = i % 5 == 0 ? 0.0 : i % 5 == 1 ? -0.0 : (double)update[i] / 3;
        base[i] = i % 7 == 0 ? -0.0f : base[i];
    }
    for (int d = 0; d < N_DTYPES; d++) {
        for (int s = 0; s < N_SIZES; s++) {
            check_store(bench, dtypes[d], acc, base, sizes[s], false);
            check_store(bench, dtypes[d], acc, NULL, sizes[s], false);
        }
    }
    free(acc);
    free(base);
    free(update);
}

/* Every special base with every special update. */
static void store_meets_special_values(ops_bench *bench)
{
    int64_t n = synth_special_n * synth_special_n;
    double *acc = malloc((size_t)n * sizeof *acc);
    uint32_t *base = malloc((size_t)n * sizeof *base);
    for (int64_t i = 0; i < n; i++) {
        base[i] = synth_special[i / synth_special_n];
        acc[i] = oracle_widen(LORS_F32, synth_special[i % synth_special_n]);
    }
    for (int d = 0; d < N_DTYPES; d++) {
        check_store(bench, dtypes[d], acc, (const float *)base, n, false);
        check_store(bench, dtypes[d], acc, (const float *)base, n, true);
    }
    free(acc);
    free(base);
}

/* One bad result in three blocks; each place near an edge in turn, each of the three kinds. */
static void store_finds_a_single_bad_result(ops_bench *bench)
{
    enum { N = 2 * LORS_BLOCK + 100 };
    static const int64_t places[] = {0, 1, 1023, 1024, LORS_BLOCK - 1, LORS_BLOCK,
                                     LORS_BLOCK + 1025, 2 * LORS_BLOCK, N - 1};
    static const double kinds[] = {NAN, INFINITY, -1e39};
    double *acc = calloc(N, sizeof *acc);
    float *base = malloc(N * sizeof *base);
    synth_values(base, N, 1, 9);
    for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
        acc[places[p]] = kinds[p % 3];
        for (int d = 0; d < N_DTYPES; d++) {
            check_store(bench, dtypes[d], acc, base, N, p % 2 == 0);
        }
        acc[places[p]] = 0;
    }
    free(acc);
    free(base);
}

/* Pieces of LORS_BLOCK give the same bytes and blocks as one call. */
static void store_does_not_depend_on_the_split(ops_bench *bench)
{
    enum { N = 20000, BLOCKS = 3, BLOCK_BYTES = sizeof(lors_store_block) };
    float *base = malloc(N * sizeof *base);
    double *update = malloc(N * sizeof *update);
    synth_values(base, N, 1, 21);
    synth_stream stream = {22, 0};
    for (int64_t i = 0; i < N; i++) {
        update[i] = synth_normal(&stream);
    }
    for (int d = 0; d < N_DTYPES; d++) {
        size_t size = element_bytes(dtypes[d]);
        lors_view one = ops_buffer_of(bench, N, size), many = ops_buffer_of(bench, N, size);
        lors_view blocks = ops_buffer_of(bench, BLOCKS, BLOCK_BYTES);
        lors_store whole =
            on_device(bench, &(stored){.dtype = dtypes[d], .acc = update, .base = base, .n = N});
        assert_ok(bench->ops->store(bench->queue, one, &whole, N));
        for (uint64_t first = 0; first < N; first += LORS_BLOCK) {
            int64_t n = (int64_t)(N - first < LORS_BLOCK ? N - first : LORS_BLOCK);
            lors_store part = whole;
            part.acc = lors_view_at(whole.acc, first * 8);
            part.base = lors_view_at(whole.base, first * 4);
            part.blocks = lors_view_at(blocks, first / LORS_BLOCK * BLOCK_BYTES);
            assert_ok(bench->ops->store(bench->queue, lors_view_at(many, first * size), &part, n));
        }
        assert_memory_equal(ops_host(bench, one), ops_host(bench, many), N * size);
        assert_memory_equal(ops_host(bench, whole.blocks), ops_host(bench, blocks),
                            BLOCKS * BLOCK_BYTES);
        ops_clear(bench);
    }
    free(base);
    free(update);
}

/* --- models that agree ------------------------------------------------------------------------ */

/* Three models over a base: equal in two elements of three. acc is their mean update. */
typedef struct agreeing {
    float *base, *stack;
    double *acc;
    int64_t n, stride;
} agreeing;

enum { AGREEING = 3 };

static agreeing agreeing_of(int64_t n, bool special, uint64_t seed)
{
    agreeing a = {.n = n, .stride = n + 5};
    a.base = malloc((size_t)(n + 1) * sizeof *a.base);
    a.acc = malloc((size_t)(n + 1) * sizeof *a.acc);
    a.stack = malloc((size_t)(AGREEING * a.stride) * sizeof *a.stack);
    synth_values(a.base, n, 0.02, seed);
    synth_values(a.stack, AGREEING * a.stride, 0.5, seed + 1);
    synth_stream stream = {seed + 2, 0};
    for (int64_t i = 0; i < n; i++) {
        float *first = &a.stack[i], *second = first + a.stride, *third = second + a.stride;
        if (special && i % 4 == 0) {
            *first = lors_f32_from_bits(synth_special[synth_below(&stream, synth_special_n)]);
        }
        if (i % 3 != 0) {
            *second = *third = *first;
        } else if (i % 2 == 0) { /* two of three are not enough, whichever they are */
            *(i % 4 == 0 ? second : third) = *first;
        }
        if (i % 12 == 1) { /* neither are zeros of two signs, or values one bit apart */
            *first = 0.0f;
            *second = *third = -0.0f;
        } else if (i % 12 == 2) {
            *third = lors_f32_from_bits(lors_f32_bits(*first) ^ 1);
        }
        double sum = (double)*first + (double)*second + (double)*third;
        a.acc[i] = i % 17 == 0 ? 0 : sum / 3 - (double)a.base[i];
    }
    return a;
}

static void free_agreeing(agreeing *a)
{
    free(a->base);
    free(a->stack);
    free(a->acc);
}

static stored stored_of(const agreeing *a, lors_dtype dtype, bool has_base, int32_t n_models)
{
    return (stored){.dtype = dtype, .acc = a->acc, .base = has_base ? a->base : NULL,
                    .stack = a->stack, .n = a->n, .stride = a->stride, .n_models = n_models};
}

static void models_that_agree_are_the_result(ops_bench *bench)
{
    for (int s = 0; s < N_SIZES; s++) {
        agreeing a = agreeing_of(sizes[s], false, 60 + (uint64_t)s);
        for (int i = 0; i < 2 * N_DTYPES; i++) {
            stored call = stored_of(&a, dtypes[i % 3], i / 3, AGREEING);
            check_stored(bench, &call);
        }
        free_agreeing(&a);
    }
}

/* NaN of the same bits agree, too; and one model always agrees with itself. */
static void special_models_that_agree_are_the_result(ops_bench *bench)
{
    agreeing a = agreeing_of(9000, true, 90);
    for (int i = 0; i < 8 * N_DTYPES; i++) {
        stored call = stored_of(&a, dtypes[i % 3], i / 3 % 2, i < 12 ? AGREEING : 1);
        call.zero = i / 6 % 2;
        check_stored(bench, &call);
    }
    free_agreeing(&a);
}

/* The reason for it: a base beside which the models are small. base + (model - base) rounds away
 * from the model; the model is what must come out, bit for bit. */
static void agreement_holds_where_the_base_is_far(ops_bench *bench)
{
    enum { N = 9000 };
    agreeing a = agreeing_of(N, false, 120);
    int64_t n_moved = 0;
    for (int64_t i = 0; i < N; i++) {
        a.base[i] *= 1e22f;
        a.stack[a.stride + i] = a.stack[2 * a.stride + i] = a.stack[i];
        a.acc[i] = (double)a.stack[i] - (double)a.base[i];
        n_moved += (float)((double)a.base[i] + a.acc[i]) != a.stack[i];
    }
    assert_true(n_moved > N / 2);
    stored call = stored_of(&a, LORS_F32, true, AGREEING);
    lors_view out = ops_buffer_of(bench, N, 4);
    lors_store given = on_device(bench, &call);
    assert_ok(bench->ops->store(bench->queue, out, &given, N));
    assert_memory_equal(ops_host(bench, out), a.stack, N * sizeof *a.stack);
    const lors_store_block *blocks = ops_host(bench, given.blocks);
    for (int64_t b = 0; b < 2; b++) {
        double update = 0;
        for (int64_t i = b * LORS_BLOCK; i < (b + 1) * LORS_BLOCK && i < N; i++) {
            update += a.acc[i] * a.acc[i];
        }
        expect(close_to(blocks[b].update, update), "%a, not %a", blocks[b].update, update);
        assert_true(blocks[b].loss == 0);
    }
    ops_clear(bench);
    for (int i = 0; i < N_DTYPES; i++) {
        call.dtype = dtypes[i];
        check_stored(bench, &call);
    }
    free_agreeing(&a);
}

int main(void)
{
    static const ops_case cases[] = {
        {"store: every f16 and bf16, and what lies between", store_rounds_every_half},
        {"store: undoes load", store_undoes_load},
        {"store: f32, ties and neighbours", store_rounds_f32_once},
        {"store: one rounding, not two", store_does_not_round_twice},
        {"store: base + acc, any size", store_adds_to_the_base},
        {"store: special base and update", store_meets_special_values},
        {"store: a single bad result", store_finds_a_single_bad_result},
        {"store: any split at blocks", store_does_not_depend_on_the_split},
        {"agreement: any size", models_that_agree_are_the_result},
        {"agreement: special values", special_models_that_agree_are_the_result},
        {"agreement: where the base is far", agreement_holds_where_the_base_is_far},
    };
    return ops_run("store", cases, sizeof cases / sizeof *cases);
}
