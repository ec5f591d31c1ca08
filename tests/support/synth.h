/* synth.h - made-up numbers for tests: a seeded stream, matrices of known spectrum, odd floats. */
#ifndef LORS_TESTS_SUPPORT_SYNTH_H
#define LORS_TESTS_SUPPORT_SYNTH_H

#include <stdint.h>

/* A stream of random numbers: the same for the same seed, everywhere. */
typedef struct synth_stream {
    uint64_t seed, next;
} synth_stream;

uint64_t synth_bits(synth_stream *stream);
double synth_uniform(synth_stream *stream); /* [0, 1) */
double synth_normal(synth_stream *stream);
int64_t synth_below(synth_stream *stream, int64_t n); /* 0 .. n-1 */

/* X(enumerator, singular values or entries) */
#define SYNTH_KIND_LIST(X)                                                     \
    X(DECAY, "s_i = 1 / i")                                                    \
    X(FAST, "s_i = 10^-(i/2): down to the rounding of f32 and below")          \
    X(FLAT, "s_i = 1")                                                         \
    X(NOISE_FLOOR, "s_i = 1 up to a fifth of the short side, then 1e-6")       \
    X(EXACT_RANK, "small integers of exact rank 3, no rounding")               \
    X(REPEATED, "s = 4 4 4 2 2 2 1 1 1 ...")                                   \
    X(CLUSTER, "s_i = 1 for the first 24, then 0.1 / i")                       \
    X(STEPS, "s_i = 0.7^i: a gap everywhere")                                  \
    X(GAUSS, "independent normal entries")                                     \
    X(ZERO, "all zero")                                                        \
    X(ONE_ENTRY, "one entry that is not zero")                                 \
    X(ONES, "all one")                                                         \
    X(SMALL, "s_i = 1e-30 / i")                                                \
    X(SUBNORMAL, "entries of about 1e-41, which f32 holds with few digits")    \
    X(LARGE, "s_i = 1e30 / i")                                                 \
    X(LARGEST, "entries up to 1e38, whose squares overflow f32")

typedef enum synth_kind {
#define SYNTH_KIND_ENUM(name, text) SYNTH_##name,
    SYNTH_KIND_LIST(SYNTH_KIND_ENUM)
#undef SYNTH_KIND_ENUM
        SYNTH_KIND_COUNT
} synth_kind;

const char *synth_kind_name(synth_kind kind);

/* out f32 [n_rows][n_cols], row-major. Singular values are as stated up to the rounding to f32. */
void synth_matrix(float *out, int64_t n_rows, int64_t n_cols, synth_kind kind, uint64_t seed);

/* Normal numbers of this scale; as weights of a model and a fine-tuned copy of it. */
void synth_values(float *out, int64_t n, double scale, uint64_t seed);

/* The same numbers, each replaced by the nearest one that a bf16 (8) or f16 (11) significand
 * holds; magnitudes must be ordinary. */
void synth_coarsen(float *x, int64_t n, int significant_bits);

/* Bits of floats that trip code up: zeros, subnormals, ties, limits, infinities, NaNs of all kinds,
 * in that order; those before synth_special_n_finite are finite. */
extern const uint32_t synth_special[];
extern const int64_t synth_special_n, synth_special_n_finite;

#endif
