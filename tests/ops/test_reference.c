/* test_reference.c - what the reference says of a device's low-rank parts, right and wrong, and of
 * numbers that are none. tests/ops/test_dense.c has the same of products. */
#include <math.h>
#include <string.h>

#include "backend/backend_reference.h"
#include "base/error.h"
#include "ops_bench.h"

enum { ROWS = 6, COLS = 4, N = ROWS * COLS, PLACE = 1024 };

typedef enum fault {
    FAULT_NONE,
    FAULT_LOST, /* the part is zero */
    FAULT_FIRST,
    FAULT_LAST,
    FAULT_NEXT,
    FAULT_ANGLE /* numbers of the certificate are NaN */
} fault;

static const lors_backend_ops *honest;
static fault planted;

static lors_status wrong_truncate(lors_queue *queue, lors_view low, lors_view x, int64_t stride,
                                  int32_t n_matrices, int64_t n_rows, int64_t n_cols,
                                  const lors_rank *ranks, lors_view scratch,
                                  lors_certificate *certificates)
{
    LORS_TRY(honest->truncate_rank(queue, low, x, stride, n_matrices, n_rows, n_cols, ranks,
                                   scratch, certificates));
    switch (planted) {
    case FAULT_LOST: return honest->clear(queue, low, N * sizeof(float));
    case FAULT_FIRST: certificates->sigma_first = NAN; break;
    case FAULT_LAST: certificates->sigma_last = NAN; break;
    case FAULT_NEXT: certificates->sigma_next = NAN; break;
    case FAULT_ANGLE: certificates->orthogonality = NAN; break;
    case FAULT_NONE: break;
    }
    return LORS_OK;
}

typedef struct judging {
    const lors_backend_ops *ops;
    lors_backend_ops device;
    lors_backend *backend;
    lors_queue *queue;
    lors_memory *memory;
} judging;

static void begin(judging *j, ops_bench *bench)
{
    lors_rank most = {COLS, 0, true};
    honest = bench->ops;
    j->ops = lors_reference_ops();
    j->device = *bench->ops;
    j->device.truncate_rank = wrong_truncate;
    uint64_t n_bytes = 4 * PLACE + j->ops->truncate_bytes(1, ROWS, COLS, most) +
                       j->ops->eigen_bytes(4, 4) + j->ops->multiply_bytes(4, 4, 4) +
                       j->ops->solve_bytes(4, 4) + j->ops->dot_rows_bytes(4);
    assert_ok(lors_reference_open(&j->device, bench->backend, &j->backend));
    assert_ok(j->ops->open_queue(j->backend, &j->queue));
    assert_ok(j->ops->allocate(j->backend, LORS_ON_DEVICE, n_bytes, &j->memory));
}

static void end(judging *j)
{
    j->ops->release(j->backend, j->memory);
    j->ops->close_queue(j->queue);
    j->ops->close(j->backend);
}

static lors_view at(const judging *j, int place)
{
    return (lors_view){j->memory, (uint64_t)place * PLACE};
}

/* The deviation over its bound of the rank-r part of a matrix with this entry first. */
static double ratio_of(judging *j, int64_t rank, float first, fault f)
{
    lors_rank asked = {rank, 0, false};
    lors_certificate certificate;
    float *x = j->ops->host_bytes(at(j, 0));
    for (int i = 0; i < N; i++) {
        x[i] = (float)((i * 7) % 11 - 5) * 0.25F;
    }
    x[0] = first;
    planted = f;
    assert_ok(j->ops->truncate_rank(j->queue, at(j, 1), at(j, 0), N, 1, ROWS, COLS, &asked,
                                    at(j, 2), &certificate));
    return certificate.bound_ratio;
}

static void low_rank_parts_are_judged(ops_bench *bench)
{
    judging j;
    begin(&j, bench);
    for (int64_t rank = 0; rank <= COLS; rank++) {
        double ratio = ratio_of(&j, rank, 1, FAULT_NONE);
        expect(ratio >= 0 && ratio <= 1, "rank %lld: %g", (long long)rank, ratio);
    }
    assert_true(ratio_of(&j, 2, 1, FAULT_LOST) > 1000);
    for (fault f = FAULT_FIRST; f <= FAULT_ANGLE; f++) {
        assert_true(isinf(ratio_of(&j, 2, 1, f)));
    }
    assert_true(ratio_of(&j, 2, NAN, FAULT_NONE) == 0);
    assert_true(ratio_of(&j, 2, INFINITY, FAULT_NONE) == 0);
    end(&j);
}

/* A symmetric matrix with this diagonal, in f64, or in f32 for a product of rows. */
static void fill(judging *j, int place, double diagonal)
{
    double *wide = j->ops->host_bytes(at(j, place));
    for (int i = 0; i < 16; i++) {
        wide[i] = i % 5 == 0 ? diagonal : 1;
    }
}

/* Of numbers that are none, and of a matrix that has no factor, nothing is promised. */
static void what_is_no_number_is_not_judged(ops_bench *bench)
{
    judging j;
    begin(&j, bench);
    const double odd[] = {NAN, INFINITY};
    for (int i = 0; i < 2; i++) {
        double values[4], dots[4];
        bool solved = true;
        lors_factor factor = {.x = at(&j, 0), .wide = true, .ld = 4};
        lors_product p = {factor, factor, 4, 4, 4, 4, 1, 0, false, at(&j, 2)};
        fill(&j, 0, odd[i]);
        assert_ok(j.ops->multiply(j.queue, at(&j, 1), &p));
        assert_ok(j.ops->dot_rows(j.queue, &factor, &factor, 4, 4, dots, at(&j, 2)));
        assert_true(!isfinite(dots[0]));
        assert_ok(j.ops->eigen(j.queue, at(&j, 0), 4, 4, at(&j, 1), values, at(&j, 2)));
        assert_true(isnan(values[0]));
        fill(&j, 0, odd[i]);
        fill(&j, 1, 2);
        assert_ok(j.ops->solve(j.queue, at(&j, 0), 4, 0, at(&j, 1), 4, &solved, at(&j, 2)));
        assert_false(solved);
    }
    end(&j);
}

static void rows_in_f32_are_judged(ops_bench *bench)
{
    judging j;
    double dots[4];
    begin(&j, bench);
    float *x = j.ops->host_bytes(at(&j, 0));
    for (int i = 0; i < 16; i++) {
        x[i] = (float)i;
    }
    lors_factor factor = {.x = at(&j, 0), .ld = 4};
    assert_ok(j.ops->dot_rows(j.queue, &factor, &factor, 4, 4, dots, at(&j, 2)));
    assert_true(dots[0] == 14 && dots[1] == 126);
    end(&j);
}

/* Eigenvalues that are off or NaN, a vector that is none, and one that is there twice. */
static lors_status wrong_eigen(lors_queue *queue, lors_view matrix, int64_t n, int64_t count,
                               lors_view vectors, double *values, lors_view scratch)
{
    double *rows = honest->host_bytes(vectors);
    LORS_TRY(honest->eigen(queue, matrix, n, count, vectors, values, scratch));
    values[0] += planted == FAULT_FIRST ? 1 : planted == FAULT_NEXT ? NAN : 0;
    if (planted == FAULT_LAST) {
        rows[0] += 0.5;
    }
    if (planted == FAULT_ANGLE) {
        memcpy(rows, rows + n, (size_t)n * sizeof *rows);
    }
    return LORS_OK;
}

static lors_status wrong_solve(lors_queue *queue, lors_view matrix, int64_t n, double shift,
                               lors_view x, int64_t rows, bool *solved, lors_view scratch)
{
    const double factor = NAN;
    LORS_TRY(honest->solve(queue, matrix, n, shift, x, rows, solved, scratch));
    return planted == FAULT_FIRST ? honest->scale_rows(queue, x, 1, n, n, &factor) : LORS_OK;
}

static void spectra_and_solutions_are_judged(ops_bench *bench)
{
    judging j;
    begin(&j, bench);
    j.device.eigen = wrong_eigen;
    j.device.solve = wrong_solve;
    const fault faults[] = {FAULT_NONE, FAULT_FIRST, FAULT_NEXT, FAULT_LAST, FAULT_ANGLE};
    for (int i = 0; i < (bench->ops->unified ? 5 : 3); i++) {
        double values[4];
        bool solved;
        planted = faults[i];
        fill(&j, 0, 4);
        assert_int_equal(j.ops->eigen(j.queue, at(&j, 0), 4, 4, at(&j, 1), values, at(&j, 2)),
                         planted == FAULT_NONE ? LORS_OK : LORS_ERR_NUMERICS);
        fill(&j, 0, 4);
        fill(&j, 1, 2);
        assert_int_equal(j.ops->solve(j.queue, at(&j, 0), 4, 0, at(&j, 1), 4, &solved, at(&j, 2)),
                         planted == FAULT_FIRST ? LORS_ERR_NUMERICS : LORS_OK);
    }
    end(&j);
}

/* No rows or vectors at all, and rows that lie further apart than the CPU's BLAS can count. */
static void odd_products_are_passed_on(ops_bench *bench)
{
    judging j;
    begin(&j, bench);
    fill(&j, 0, 4);
    lors_factor factor = {.x = at(&j, 0), .wide = true, .ld = 4};
    lors_product p = {factor, factor, 0, 4, 4, 4, 1, 0, false, at(&j, 2)};
    assert_ok(j.ops->multiply(j.queue, at(&j, 1), &p));
    assert_ok(j.ops->eigen(j.queue, at(&j, 0), 4, 0, at(&j, 1), NULL, at(&j, 2)));
    p.rows = 1;
    p.left.ld = (int64_t)INT32_MAX + 1;
    assert_int_equal(j.ops->multiply(j.queue, at(&j, 1), &p), LORS_ERR_LIMIT);
    end(&j);
}

static void a_reference_is_of_a_device(ops_bench *bench)
{
    lors_backend *none = (lors_backend *)bench;
    assert_int_equal(lors_reference_ops()->open(0, &none), LORS_ERR_DEVICE);
    assert_null(none);
    lors_reference_ops()->close_queue(NULL);
}

int main(void)
{
    static const ops_case cases[] = {
        {"low_rank_parts_are_judged", low_rank_parts_are_judged},
        {"what_is_no_number_is_not_judged", what_is_no_number_is_not_judged},
        {"rows_in_f32_are_judged", rows_in_f32_are_judged},
        {"spectra_and_solutions_are_judged", spectra_and_solutions_are_judged},
        {"odd_products_are_passed_on", odd_products_are_passed_on},
        {"a_reference_is_of_a_device", a_reference_is_of_a_device},
    };
    return ops_run("reference", cases, sizeof cases / sizeof *cases);
}
