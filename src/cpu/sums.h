/* sums.h - a weighted sum as plain arrays, eight elements at a time; only for files *_kernels.c. */
#ifndef LORS_CPU_SUMS_H
#define LORS_CPU_SUMS_H

#include "backend/arithmetic.h"
#include "cpu/cpu_internal.h"
#include "cpu/lanes.h"

/* A lors_sum without its models of weight 0, which leave no trace. */
typedef struct lors_cpu_sum {
    const float *stack, *base, *low; /* NULL: absent */
    const uint8_t *masks;
    const int8_t *signs;
    int32_t n_models;
    int64_t slices[LORS_MAX_MODELS]; /* where each model's slice begins */
    double weights[LORS_MAX_MODELS];
} lors_cpu_sum;

typedef int64_t lors_flags4 __attribute__((vector_size(32)));  /* all ones, or zeros */
typedef int32_t lors_narrow_flags4 __attribute__((vector_size(16)));

/* flags ? a : b */
static inline void lors_lanes4_choose(lors_lanes4 *out, lors_flags4 flags, lors_lanes4 a,
                                      lors_lanes4 b)
{
    *out = (lors_lanes4)(((lors_flags4)a & flags) | ((lors_flags4)b & ~flags));
}

/* Four f32, or zeros where there are none. */
static inline void lors_narrow4_load(lors_narrow4 *out, const float *x)
{
    *out = (lors_narrow4){0};
    if (x) {
        memcpy(out, x, sizeof *out);
    }
}

/* Which of four bytes are not 0. */
static inline void lors_flags_of_bytes(lors_narrow_flags4 *flags, const uint8_t *bytes)
{
    typedef uint8_t bytes4 __attribute__((vector_size(4)));
    bytes4 four;
    memcpy(&four, bytes, sizeof four);
    *flags = __builtin_convertvector(four, lors_narrow_flags4) != 0;
}

static inline void lors_lanes4_store(double *out, const lors_lanes4 *x)
{
    memcpy(out, x, sizeof *x);
}

/* Elements are worked on in groups of two vectors: more do not fit registers with their sums. */
enum { LORS_GROUP4 = 2, LORS_GROUP = 4 * LORS_GROUP4 };

static inline void lors_cpu_load_base(lors_narrow4 base[LORS_GROUP4], const lors_cpu_sum *s,
                                      int64_t i)
{
    for (int v = 0; v < LORS_GROUP4; v++) {
        lors_narrow4_load(&base[v], s->base ? s->base + i + 4 * v : NULL);
    }
}

/* Terms weight * (kept ? x - base : low) of a group. What is chosen among is f32: where nothing is
 * kept, low - 0 is low. `masked` is a constant: loops without masks do not ask for them. */
static inline __attribute__((always_inline)) void
lors_cpu_terms(lors_lanes4 terms[LORS_GROUP4], const lors_cpu_sum *s, const bool masked,
               int32_t model, int64_t i, const lors_narrow4 base[LORS_GROUP4])
{
    int64_t at = s->slices[model] + i;
    for (int v = 0; v < LORS_GROUP4; v++, at += 4) {
        lors_narrow4 x, low, less = base[v];
        lors_lanes4 wide;
        memcpy(&x, s->stack + at, sizeof x);
        if (masked) {
            lors_narrow_flags4 kept;
            lors_flags_of_bytes(&kept, s->masks + at);
            lors_narrow4_load(&low, s->low ? s->low + at : NULL);
            x = (lors_narrow4)(((lors_narrow_flags4)x & kept) | ((lors_narrow_flags4)low & ~kept));
            less = (lors_narrow4)((lors_narrow_flags4)less & kept);
        }
        lors_widen4(&terms[v], &x);
        lors_widen4(&wide, &less);
        terms[v] = s->weights[model] * (terms[v] - wide);
    }
}

/* lors_add_exactly, lors_with_lost of four sums at once. */
static inline void lors_lanes4_add_exactly(lors_lanes4 *sum, lors_lanes4 *lost, lors_lanes4 term)
{
    lors_lanes4 total = *sum + term, part = total - *sum;
    *lost += (*sum - (total - part)) + (term - part);
    *sum = total;
}

static inline void lors_lanes4_with_lost(lors_lanes4 *sum, lors_lanes4 lost)
{
    lors_flags4 sign = (lors_flags4){0} + INT64_MIN;
    lors_lanes4 magnitude = (lors_lanes4)((lors_flags4)*sum & ~sign);
    lors_lanes4_choose(sum, (lost != 0) & (magnitude < INFINITY), *sum + lost, *sum);
}

#endif
