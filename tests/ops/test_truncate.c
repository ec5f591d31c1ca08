/* test_truncate.c - the nearest matrix of a rank: the gates, over kinds, shapes, ranks, scales. */
#include "truncate_gates.h"

#include <math.h>

static void check_matrix(ops_bench *bench, int64_t n_rows, int64_t n_cols, synth_kind kind)
{
    int64_t k = n_rows < n_cols ? n_rows : n_cols;
    lors_rank ranks[] = {OF_COUNT(0),     OF_COUNT(1),     OF_COUNT(2),     OF_COUNT(7),
                         OF_COUNT(k / 2), OF_COUNT(k - 1), OF_COUNT(k),     OF_COUNT(k + 5),
                         OF_COUNT(1 << 30), OF_ENERGY(0.01), OF_ENERGY(0.5), OF_ENERGY(0.9),
                         OF_ENERGY(0.999), OF_ENERGY(1)};
    check_ranks(bench, n_rows, n_cols, kind, 1, ranks, sizeof ranks / sizeof *ranks);
}

static void gates_hold_for_all_kinds(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{40, 40}, {60, 24}, {24, 60}, {1, 50}, {50, 1}, {1, 1}};
    size_t step = bench->emulated ? 2 : 1;
    for (int kind = 0; kind < SYNTH_KIND_COUNT; kind++) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s += step) {
            check_matrix(bench, shapes[s][0], shapes[s][1], (synth_kind)kind);
        }
    }
}

/* Around the tile of 128 rows, and long in either direction. */
static void gates_hold_for_all_shapes(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{2, 2},    {3, 2},   {2, 3},   {5, 700},  {700, 5},
                                        {127, 9},  {128, 9}, {129, 9}, {9, 127},  {9, 128},
                                        {9, 129},  {257, 3}, {3, 257}, {130, 65}, {65, 130},
                                        {100, 100}};
    static const synth_kind kinds[] = {SYNTH_DECAY, SYNTH_STEPS, SYNTH_FAST};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s += bench->emulated ? 4 : 1) {
        check_matrix(bench, shapes[s][0], shapes[s][1], kinds[s % 3]);
    }
}

/* Matrices so large that quicker solvers for a few directions are tried. */
static void gates_hold_for_few_of_many(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{400, 400}, {900, 420}, {410, 1300}};
    static const synth_kind kinds[] = {SYNTH_DECAY, SYNTH_STEPS,   SYNTH_FAST,
                                       SYNTH_GAUSS, SYNTH_CLUSTER, SYNTH_REPEATED,
                                       SYNTH_FLAT,  SYNTH_NOISE_FLOOR, SYNTH_EXACT_RANK};
    static const lors_rank ranks[] = {OF_COUNT(7), OF_COUNT(1), OF_COUNT(4), OF_COUNT(10)};
    for (int s = 0; s < 3; s++) {
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            bool tried = bench->emulated ? k % 5 == (size_t)s : (k + (size_t)s) % 3 == 0 || s == 0;
            if (tried) {
                check_ranks(bench, shapes[s][0], shapes[s][1], kinds[k], 1, ranks,
                            bench->emulated ? 1 : 4);
            }
        }
    }
}

/* Singular values that repeat more often than a block of an iteration is wide: their directions
 * must all be found ... */
static void gates_hold_within_wide_clusters(ops_bench *bench)
{
    static const lors_rank ranks[] = {OF_COUNT(20), OF_COUNT(18)};
    int n_ranks = bench->emulated ? 1 : 2;
    check_ranks(bench, 840, 810, SYNTH_CLUSTER, 1, ranks, n_ranks);
    check_ranks(bench, 820, 805, SYNTH_NOISE_FLOOR, 1, ranks, n_ranks);
}

/* ... and none of what follows them taken for the next. */
static void gates_hold_at_the_edge_of_a_block(ops_bench *bench)
{
    static const lors_rank ranks[] = {OF_COUNT(16), OF_COUNT(17)};
    check_ranks(bench, 840, 810, SYNTH_CLUSTER, 1, ranks, bench->emulated ? 1 : 2);
}

/* From scales whose squares f32 cannot hold to those where they lose digits. */
static void gates_hold_at_any_scale(ops_bench *bench)
{
    static const int powers[] = {-120, -80, -75, -70, -68, -66, -64, -62,
                                 -60,  -55, 50,  62,  64,  70,  100};
    static const lors_rank ranks[] = {OF_COUNT(7)};
    for (size_t p = 0; p < sizeof powers / sizeof *powers; p += bench->emulated ? 4 : 1) {
        check_ranks(bench, 400, 410, SYNTH_DECAY, ldexp(1, powers[p]), ranks, 1);
    }
}

/* Spectra that fall so fast that an iteration soon has nothing but rounding left to go on: what it
 * then takes for new directions are old ones, and its estimates look perfect. */
static void gates_hold_where_an_iteration_runs_dry(ops_bench *bench)
{
    static const lors_rank ranks[] = {OF_COUNT(3), OF_COUNT(8), OF_COUNT(10)};
    static const synth_kind kinds[] = {SYNTH_STEPS, SYNTH_FAST, SYNTH_NOISE_FLOOR};
    for (int64_t more = 0; more < 12; more += bench->emulated ? 5 : 1) {
        check_ranks(bench, 400 + more, 404, kinds[more % 3 == 2 ? more / 3 % 3 : 0], 1, ranks, 3);
    }
}

/* --- by the singular value decomposition alone ------------------------------------------------ */

static void check_exact(ops_bench *bench, int64_t n_rows, int64_t n_cols, synth_kind kind)
{
    int64_t k = n_rows < n_cols ? n_rows : n_cols;
    const lors_rank ranks[] = {{1, 0, true},   {k / 2, 0, true}, {7, 0, true},
                               {0, 0.9, true}, {0, 1, true},     {0, 0, true},
                               {k, 0, true},   {k - 1, 0, true}, {0, 0.01, true}};
    check_ranks(bench, n_rows, n_cols, kind, 1, ranks, sizeof ranks / sizeof *ranks);
}

static void exact_passes_the_gates(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{40, 40}, {60, 24}, {24, 60}, {1, 50}, {50, 1}, {129, 9},
                                        {9, 129}, {1, 1}};
    for (int kind = 0; kind < SYNTH_KIND_COUNT; kind++) {
        for (size_t s = 0; s < 8; s += bench->emulated ? 3 : 1) {
            check_exact(bench, shapes[s][0], shapes[s][1], (synth_kind)kind);
        }
    }
}

/* Where other solvers would be tried for a few directions of many. */
static void exact_passes_the_gates_for_few_of_many(ops_bench *bench)
{
    static const lors_rank ranks[] = {{7, 0, true}, {20, 0, true}, {0, 0.9, true}};
    static const synth_kind kinds[] = {SYNTH_DECAY, SYNTH_FAST, SYNTH_CLUSTER, SYNTH_GAUSS};
    for (int k = 0; k < 4; k++) {
        bool wide = k % 2;
        check_ranks(bench, wide ? 404 : 500, wide ? 500 : 404, kinds[k], 1, ranks,
                    bench->emulated ? 1 : 3);
    }
}

int main(void)
{
    static const ops_case cases[] = {
        {"gates: all kinds of matrices", gates_hold_for_all_kinds},
        {"gates: all shapes", gates_hold_for_all_shapes},
        {"gates: a few directions of many", gates_hold_for_few_of_many},
        {"gates: within clusters wider than a block", gates_hold_within_wide_clusters},
        {"gates: at the edge of a block", gates_hold_at_the_edge_of_a_block},
        {"gates: where an iteration runs dry", gates_hold_where_an_iteration_runs_dry},
        {"gates: any scale", gates_hold_at_any_scale},
        {"exact: all kinds and shapes", exact_passes_the_gates},
        {"exact: a few directions of many", exact_passes_the_gates_for_few_of_many},
    };
    int failed = ops_run("truncate", cases, sizeof cases / sizeof *cases);
    print_worst_gates();
    return failed;
}
