/* low_rank_krylov.cu - block Lanczos with full re-orthogonalisation, for a few leading directions
 * of several matrices of one shape and rank at once.
 *
 * The algorithm is that of the CPU's low_rank_krylov.c: the Krylov space of A'A from a random block
 * of b > rank columns (so that no copy of a repeated singular value can be missed), products with A
 * in f32, everything else in f64. Matrices go in lock step; one that is done is frozen, so that its
 * bits do not depend on the others. A step is 11 launches (12 where A is wide), a check 2 and those
 * of the solver. Source: Golub and Underwood 1977.
 */
#include <math.h>

#include "cuda/low_rank.h"

enum {
    MAX_BASIS = 512, /* columns: the small problem must stay small */
    EVERY_STEP = 8   /* up to this step; later ones are checked ever more seldom */
};

typedef struct group {
    lors_truncation *t;
    lors_matrices a;
    lors_lanczos lanczos;
    lors_skinny skinny;
    lors_projection projection;
    unsigned char *solver;
    uint64_t solver_bytes;
    float scale[LORS_MAX_BATCH]; /* powers of two that bring the norms near 1: squares in range */
    double total[LORS_MAX_BATCH];
    int exponent[LORS_MAX_BATCH];
    lors_slot slots[LORS_MAX_BATCH]; /* as last fetched */
} group;

/* --- When it is tried, and in what ------------------------------------------------------------ */

static int32_t block_of(int64_t rank)
{
    return rank < 8 ? 8 : rank < 16 ? 16 : (int32_t)LORS_MAX_WIDTH;
}

/* Steps after which the Gram matrix would have been cheaper: the CPU's costs, in rough nanoseconds,
 * so that both take the same way but for the longest ones. */
static int64_t step_budget(int64_t n_long, int64_t n_short, int32_t block)
{
    double m = (double)n_long, n = (double)n_short;
    double gram = m * n * n / 40 + n * n * n / 9, step = 4 * m * n * block / 38 + 1e5;
    int64_t most = n_short / 2 / block;
    most = most < MAX_BASIS / block ? most : MAX_BASIS / block;
    double steps = 0.8 * gram / step;
    return steps < (double)most ? (int64_t)steps : most;
}

bool lors_cuda_krylov_fits(int64_t n_long, int64_t n_short, int64_t rank)
{
    int32_t block = block_of(rank);
    return rank > 0 && rank < LORS_MAX_WIDTH && 40 * rank <= n_short &&
           step_budget(n_long, n_short, block) * block >= 4 * rank;
}

/* What the batched eigensolver may work in: it is given more where it asks for more. */
static int64_t solver_doubles(int64_t n)
{
    return LORS_MAX_BATCH * (2 * n * n + 64 * n) + (64 << 10);
}

static uint64_t lay_out(group *g, int64_t rank, unsigned char *base)
{
    lors_lanczos *s = &g->lanczos;
    uint64_t at = 0;
    int32_t b = block_of(rank);
    int64_t n = g->a.n_short, slots = g->a.n;
    int64_t l = step_budget(g->a.n_long, n, b) * b, widest = l > b ? l : b;
    s->n = n;
    s->l = 0;
    s->max_l = l;
    s->b = b;
    s->rank = (int32_t)rank;
    s->n_slots = g->a.n;
    s->n_slices = lors_ceil_div(n, LORS_SLICE);
    s->slots = lors_cuda_carve<lors_slot>(base, &at, LORS_MAX_BATCH);
    lors_cuda_skinny_lay_out(&g->skinny, &g->a, b, base, &at);
    s->block = g->skinny.block;
    s->next_parts = g->skinny.next_parts;
    s->n_next_parts = g->skinny.n_next_parts;
    s->basis = lors_cuda_carve<float>(base, &at, slots * (l + b) * n);
    s->wide = lors_cuda_carve<double>(base, &at, slots * n * b);
    s->parts = lors_cuda_carve<double>(base, &at, slots * s->n_slices * b * widest);
    s->overlap = lors_cuda_carve<double>(base, &at, slots * b * l);
    s->factor = lors_cuda_carve<double>(base, &at, slots * b * b);
    s->r = lors_cuda_carve<double>(base, &at, slots * b * b);
    s->t = lors_cuda_carve<double>(base, &at, slots * l * l);
    s->small = lors_cuda_carve<double>(base, &at, LORS_MAX_BATCH * l * l);
    s->theta = lors_cuda_carve<double>(base, &at, LORS_MAX_BATCH * l);
    s->info = lors_cuda_carve<int32_t>(base, &at, LORS_MAX_BATCH);
    g->solver_bytes = (uint64_t)solver_doubles(l) * sizeof(double);
    g->solver = lors_cuda_carve<unsigned char>(base, &at, (int64_t)g->solver_bytes);
    lors_cuda_projection_lay_out(&g->projection, &g->a, b, base, &at); /* V has b columns */
    g->projection.rank = rank;
    g->projection.v = s->wide;
    g->projection.slots = s->slots;
    return at;
}

/* Not monotone in the rank: a higher one may be left to the other solver. */
uint64_t lors_cuda_krylov_bytes(const lors_matrices *a, int64_t rank)
{
    uint64_t most = 0;
    for (int64_t r = 1; r <= rank && r < LORS_MAX_WIDTH; r++) {
        if (lors_cuda_krylov_fits(a->n_long, a->n_short, r)) {
            group g = {};
            g.a = *a;
            uint64_t n_bytes = lay_out(&g, r, nullptr);
            most = n_bytes > most ? n_bytes : most;
        }
    }
    return most;
}

/* --- The steps -------------------------------------------------------------------------------- */

static lors_status run_stages(group *g, const lors_stage *stages, int n)
{
    for (int i = 0; i < n; i++) {
        LORS_TRY(lors_cuda_stage(g->t->queue, &g->lanczos, stages[i]));
    }
    return LORS_OK;
}

/* A random block, made orthonormal (CholeskyQR twice). */
static lors_status start(group *g)
{
    static const lors_stage stages[] = {
        {LORS_FROM_RANDOM, LORS_KEEP, LORS_FACTOR_SET_R, LORS_SLOT_RUNNING},
        {LORS_FROM_WIDE, LORS_SOLVE, LORS_FACTOR_INTO_R, LORS_SLOT_RUNNING},
        {LORS_FROM_WIDE, LORS_SOLVE, LORS_APPEND, LORS_SLOT_RUNNING},
    };
    LORS_CUDA_TRY(cudaMemsetAsync(g->lanczos.slots, 0, LORS_MAX_BATCH * sizeof(lors_slot),
                                  g->t->queue->stream));
    return run_stages(g, stages, 3);
}

/* The next block: A'A times the last one, the basis taken out twice (what is taken is the next
 * block column of T), orthonormal by CholeskyQR twice. Columns that were mostly rounding have been
 * scaled up by then, and with them what they still held of the basis: it is taken out again, twice,
 * or old directions would be counted as new ones. */
static lors_status step(group *g)
{
    static const lors_stage stages[] = {
        {LORS_FROM_PRODUCT, LORS_KEEP, LORS_OVERLAP_SET_T, LORS_SLOT_RUNNING},
        {LORS_FROM_WIDE, LORS_SUBTRACT, LORS_OVERLAP_ADD_T, LORS_SLOT_RUNNING},
        {LORS_FROM_WIDE, LORS_SUBTRACT, LORS_FACTOR_SET_R, LORS_SLOT_RUNNING},
        {LORS_FROM_WIDE, LORS_SOLVE, LORS_FACTOR_INTO_R, LORS_SLOT_RUNNING},
        {LORS_FROM_WIDE, LORS_SOLVE, LORS_OVERLAP, LORS_SLOT_RUNNING},
        {LORS_FROM_WIDE, LORS_SUBTRACT, LORS_FACTOR_INTO_R, LORS_SLOT_RUNNING},
        {LORS_FROM_WIDE, LORS_SOLVE, LORS_OVERLAP, LORS_SLOT_RUNNING},
        {LORS_FROM_WIDE, LORS_SUBTRACT, LORS_FACTOR_INTO_R, LORS_SLOT_RUNNING},
        {LORS_FROM_WIDE, LORS_SOLVE, LORS_APPEND, LORS_SLOT_RUNNING},
    };
    g->lanczos.l += g->lanczos.b;
    LORS_TRY(lors_cuda_skinny_multiply(g->t->queue, &g->a, &g->skinny, g->lanczos.slots, g->scale));
    return run_stages(g, stages, sizeof stages / sizeof *stages);
}

/* V of the slots that were found: the leading Ritz vectors, orthonormal to the digits of f64 by
 * CholeskyQR twice, which is Gram-Schmidt from the largest down. */
static lors_status extract(group *g)
{
    static const lors_stage stages[] = {
        {LORS_FROM_RITZ, LORS_KEEP, LORS_FACTOR_SET_R, LORS_SLOT_FOUND},
        {LORS_FROM_WIDE, LORS_SOLVE, LORS_FACTOR_SET_R, LORS_SLOT_FOUND},
        {LORS_FROM_WIDE, LORS_SOLVE, LORS_DEVIATION, LORS_SLOT_FOUND},
    };
    return run_stages(g, stages, 3);
}

/* The eigenproblems of all slots, always LORS_MAX_BATCH of them: an answer must not depend on how
 * many matrices there are. The work space is cleared: some versions of the library read it first
 * (cuSOLVER 11.7.1, mended in 11.7.3). */
static lors_status solve_small(group *g)
{
    lors_lanczos *s = &g->lanczos;
    lors_queue *queue = g->t->queue;
    lors_solver_space *space = &g->t->space;
    size_t on_device = 0, on_host = 0;
    LORS_TRY(lors_cuda_pack_ritz(queue, s));
    LORS_SOLVER_TRY(cusolverDnXsyevBatched_bufferSize(
        queue->solver, queue->params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, s->l,
        CUDA_R_64F, s->small, s->l, CUDA_R_64F, s->theta, CUDA_R_64F, &on_device, &on_host,
        LORS_MAX_BATCH));
    space->reserved = g->solver;
    space->reserved_bytes = g->solver_bytes;
    LORS_TRY(lors_cuda_grow_space(queue, space, on_device, on_host));
    LORS_CUDA_TRY(cudaMemsetAsync(space->device, 0, on_device, queue->stream));
    LORS_SOLVER_TRY(cusolverDnXsyevBatched(
        queue->solver, queue->params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, s->l,
        CUDA_R_64F, s->small, s->l, CUDA_R_64F, s->theta, CUDA_R_64F, space->device, on_device,
        space->host, on_host, s->info, LORS_MAX_BATCH));
    return LORS_OK;
}

static lors_status fetch_slots(group *g)
{
    return lors_cuda_fetch(g->t->queue, g->slots, g->lanczos.slots, sizeof g->slots);
}

static bool any_slot(const group *g, lors_slot_status status)
{
    for (int32_t slot = 0; slot < g->a.n; slot++) {
        if (g->slots[slot].status == status) {
            return true;
        }
    }
    return false;
}

/* Every step up to EVERY_STEP, then at distances of a quarter of the way, and at the last: a
 * function of the step alone. */
static bool is_checked(const lors_lanczos *s, int64_t n_step, int64_t *next_check)
{
    bool last = s->l + s->b > s->max_l;
    if (s->l < 2 * s->rank || s->l <= s->rank || (n_step < *next_check && !last)) {
        return false;
    }
    *next_check = n_step < EVERY_STEP ? n_step + 1 : n_step + n_step / 4;
    return true;
}

static lors_status iterate(group *g)
{
    lors_lanczos *s = &g->lanczos;
    int64_t next_check = 0, n_step = 0;
    LORS_TRY(start(g));
    while (s->l + s->b <= s->max_l) {
        LORS_TRY(step(g));
        if (!is_checked(s, ++n_step, &next_check)) {
            continue;
        }
        LORS_TRY(solve_small(g));
        LORS_TRY(lors_cuda_check_ritz(g->t->queue, s, g->total));
        LORS_TRY(fetch_slots(g));
        if (any_slot(g, LORS_SLOT_FOUND)) {
            LORS_TRY(extract(g));
        }
        if (!any_slot(g, LORS_SLOT_RUNNING)) {
            break;
        }
    }
    return LORS_OK;
}

/* --- A group ---------------------------------------------------------------------------------- */

/* Members whose scale f32 sums can bear. Returns how many. */
static int32_t take_members(group *g, const int32_t *members, int32_t n)
{
    lors_truncation *t = g->t;
    g->a = t->all;
    g->a.n = 0;
    for (int32_t i = 0; i < n; i++) {
        int exponent = 0;
        (void)frexp(sqrt(t->total[members[i]]), &exponent);
        if (exponent >= -100 && exponent <= 100) {
            int32_t slot = g->a.n++;
            g->a.index[slot] = members[i];
            g->exponent[slot] = exponent;
            g->scale[slot] = ldexpf(1, -exponent);
            g->total[slot] = ldexp(t->total[members[i]], -2 * exponent);
        }
    }
    return g->a.n;
}

/* results: of a slot, in the projection's order. */
static void certify_slot(const group *g, int32_t slot, const double *results)
{
    int32_t member = g->a.index[slot];
    lors_certificate *c = &g->t->certificates[member];
    const lors_slot *state = &g->slots[slot];
    double next = ldexp(state->next, 2 * g->exponent[slot]);
    lors_cuda_certify(c, g->t->total[member], results + LORS_RESULT_HEAD, g->lanczos.rank, next,
                      results[0]);
    c->residual = state->residual;
    c->excess = state->excess;
    c->orthogonality = state->orthogonality;
    c->n_passes = 2 * (int64_t)state->n_steps;
    c->path = "krylov";
}

/* low of the slots that were found; their certificates. */
static lors_status conclude(group *g, bool *solved)
{
    double results[LORS_MAX_BATCH * (LORS_RESULT_HEAD + LORS_MAX_WIDTH)];
    int64_t n_results = LORS_RESULT_HEAD + g->projection.ld;
    LORS_TRY(lors_cuda_project(g->t->queue, &g->projection));
    LORS_TRY(fetch_slots(g));
    LORS_TRY(lors_cuda_fetch(g->t->queue, results, g->projection.results,
                             (uint64_t)(g->a.n * n_results) * sizeof *results));
    for (int32_t slot = 0; slot < g->a.n; slot++) {
        if (g->slots[slot].status == LORS_SLOT_READY) {
            certify_slot(g, slot, results + slot * n_results);
            solved[g->a.index[slot]] = true;
        }
    }
    return LORS_OK;
}

lors_status lors_cuda_krylov(lors_truncation *t, const int32_t *members, int32_t n_members,
                             int64_t rank, bool *solved)
{
    group g = {};
    g.t = t;
    if (take_members(&g, members, n_members) == 0) {
        return LORS_OK;
    }
    lay_out(&g, rank, t->scratch);
    LORS_TRY(iterate(&g));
    /* What was found has been extracted since it was fetched. */
    return any_slot(&g, LORS_SLOT_FOUND) || any_slot(&g, LORS_SLOT_READY) ? conclude(&g, solved)
                                                                          : LORS_OK;
}
