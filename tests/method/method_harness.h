/* method_harness.h - drive the callbacks of a method as a run does, over arrays in memory.
 *
 * On the CPU, or on the device that LORS_TEST_DEVICE names in the environment; what is computed
 * there by tiles must be the same bits as on the CPU. With LORS_EMULATED in the environment the
 * device is slow, and fewer examples will do.
 */
#ifndef LORS_TESTS_METHOD_HARNESS_H
#define LORS_TESTS_METHOD_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "method/method_def.h"
#include "method/method_table.h"

enum { MERGE_MAX_MODELS = 20, MERGE_MAX_PARAMS = 12 };

/* A merge of one tensor. Fill in base (NULL: none) and models; parameters have their defaults. */
typedef struct merge {
    const lors_method_def *def;
    int64_t n_rows, n_cols;
    int32_t n_models;
    const float *base, *models[MERGE_MAX_MODELS];
    lors_cell cells[MERGE_MAX_PARAMS * MERGE_MAX_MODELS];
    int64_t n_last; /* length of the last dimension; 0: n_cols */
    int64_t tile;   /* elements; 0: one tile of everything */
    int32_t batch;  /* matrices at once; 0: as many as the backend likes */
    bool backwards; /* tiles in the opposite order */
    bool no_skip;   /* compute also models that equal the base */
    bool compat;    /* mergekit's rules */
    uint64_t seed;
    bool exact; /* low-rank parts by the singular value decomposition alone */
    bool unsolved; /* as if no matrix had a Cholesky factor */
    /* What comes of it. */
    double *acc;   /* [n]; what apply computed */
    float *values; /* [n]; stored and read again */
    void *stored;  /* [n] of the storage type */
    lors_model_result results[MERGE_MAX_MODELS];
    bool is_base, keeps_equal; /* what the method says */
} merge;

merge merge_of(const lors_method_def *def, int64_t n_rows, int64_t n_cols, int32_t n_models);
void merge_set(merge *m, const char *param, double value);
void merge_set_model(merge *m, const char *param, int32_t model, double value);
void merge_set_energy(merge *m, double energy);
/* What the method's `check` says; LORS_OK where it has none. */
lors_status merge_check(merge *m);
/* Compute and store as `dtype`. Frees an earlier result. */
void merge_run(merge *m, lors_dtype dtype);
void merge_free(merge *m);
size_t merge_stored_bytes(const merge *m, lors_dtype dtype);
/* Is the device so slow that fewer examples will do? */
bool merge_is_slow(void);

/* Base, and models that are the base plus a small update, all exact in `dtype`. Free with free. */
float *made_base(int64_t n, lors_dtype dtype, uint64_t seed);
float *made_model(const float *base, int64_t n, lors_dtype dtype, uint64_t seed);

/* Are all values this array, bit for bit? Fails with the first place where they are not. */
void expect_values(const merge *m, const float *wanted);
void expect_near(const merge *m, const double *wanted, double tolerance);
#define assert_ok(call) assert_int_equal((call), LORS_OK)

extern const lors_dtype merge_dtypes[3]; /* those a result may be stored as */

/* What main returns: 77 where the device asked for is missing. */
int merge_test_group(const char *name, const struct CMUnitTest *tests, size_t n_tests);
#define merge_tests(name, tests) merge_test_group(name, tests, sizeof(tests) / sizeof *(tests))

#endif
