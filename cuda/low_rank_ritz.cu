/* low_rank_ritz.cu - the small eigenproblem of block Lanczos: T packed for the solver, its answer
 * checked, and the estimates by which the iteration stops: for a Ritz pair (theta, y) the residual
 * is norm(R y_last), and norm(L - L_exact)^2 about the sum of 2 residual^2 theta / gap^2.
 *
 * Source of the estimates: low_rank_krylov.c of the CPU; they are first-order perturbation theory
 * of the projector.
 */
#include <math.h>

#include "cuda/low_rank_device.h"

/* Estimated norm(L - L_exact) / norm(A) to stop at where the gap makes L well-posed; measured, the
 * estimate overstates the error 2 to 5 times. Elsewhere the energy lost decides. */
static constexpr double stop_projection = 1e-5, stop_energy = 1e-7, stop_excess = 5e-7;
static constexpr double stop_gap = 4e-3;

/* Products with A in f32 are uncertain by about this share of the largest value. */
static constexpr double product_noise = 1e-7;

/* What an eigensolver in f64 must keep, in shares of the largest value. */
static constexpr double solver_slack = 1e-9;

enum { VECTORS = 8 /* Ritz vectors that are multiplied with T at a time */ };

typedef struct totals {
    double of[LORS_MAX_BATCH];
} totals;

/* --- Pack ------------------------------------------------------------------------------------- */

/* The upper triangle of T is what the iteration took out of A'AV; here both triangles become it.
 * blockIdx.y: the slot, of LORS_MAX_BATCH whatever the group has. */
static __global__ void pack_kernel(lors_lanczos s)
{
    int32_t slot = (int32_t)blockIdx.y;
    int64_t at = (int64_t)blockIdx.x * LORS_THREADS + threadIdx.x, l = s.l;
    if (at >= l * l) {
        return;
    }
    int64_t row = at % l, column = at / l;
    double value = row == column;
    if (slot < s.n_slots && lors_slot_is(s.slots, slot, LORS_SLOT_RUNNING)) {
        double *t = s.t + slot * s.max_l * s.max_l;
        value = row <= column ? t[column * s.max_l + row] : t[row * s.max_l + column];
        if (row > column) {
            t[column * s.max_l + row] = value;
        }
    }
    s.small[slot * l * l + at] = value;
}

lors_status lors_cuda_pack_ritz(lors_queue *queue, const lors_lanczos *s)
{
    LORS_LAUNCH((pack_kernel),
                dim3((unsigned)lors_ceil_div(s->l * s->l, LORS_THREADS), LORS_MAX_BATCH),
                LORS_THREADS, queue->stream, *s);
    return lors_cuda_launched("truncate_rank, small problem");
}

/* --- Check ------------------------------------------------------------------------------------ */

/* A slot's numbers: vectors y_0 .. y_rank of the rank + 1 largest values, ascending. */
typedef struct ritz {
    int64_t l, max_l;
    int32_t b, rank;
    const double *t, *theta, *y, *r; /* theta, y: of the first of them */
    double largest;
} ritz;

/* Are the eigenvalues ascending, and do they add up to the trace? */
static __device__ bool values_are_sound(const ritz &z, const double *theta)
{
    double sum = 0, trace = 0;
    bool sound = true;
    for (int64_t i = threadIdx.x; i < z.l; i += LORS_THREADS) {
        sum += theta[i];
        trace += z.t[i * z.max_l + i];
        sound = sound && (i == 0 || theta[i] >= theta[i - 1]);
    }
    sum = lors_block_sum(sum);
    trace = lors_block_sum(trace);
    sound = sound && fabs(sum - trace) <= solver_slack * trace;
    return __syncthreads_and(sound);
}

/* Is T y = theta y? A thread has a row of T, and some of the vectors at a time. */
static __device__ bool pairs_are_sound(const ritz &z)
{
    bool sound = true;
    for (int first = 0; first <= z.rank; first += VECTORS) {
        for (int64_t row = threadIdx.x; row < z.l; row += LORS_THREADS) {
            double sums[VECTORS] = {};
            for (int64_t column = 0; column < z.l; column++) {
                double t = z.t[column * z.max_l + row];
#pragma unroll
                for (int i = 0; i < VECTORS; i++) {
                    int64_t vector = first + i <= z.rank ? first + i : z.rank;
                    sums[i] = __fma_rn(t, z.y[vector * z.l + column], sums[i]);
                }
            }
#pragma unroll
            for (int i = 0; i < VECTORS; i++) {
                int64_t vector = first + i <= z.rank ? first + i : z.rank;
                double rest = sums[i] - z.theta[vector] * z.y[vector * z.l + row];
                sound = sound && fabs(rest) <= solver_slack * z.largest;
            }
        }
    }
    return __syncthreads_and(sound);
}

static __device__ bool vectors_are_sound(const ritz &z)
{
    bool sound = true;
    int n = z.rank + 1;
    for (int pair = (int)threadIdx.x; pair < n * n; pair += LORS_THREADS) {
        const double *left = z.y + pair / n * z.l, *right = z.y + pair % n * z.l;
        double sum = 0;
        for (int64_t i = 0; i < z.l && pair / n <= pair % n; i++) {
            sum = __fma_rn(left[i], right[i], sum);
        }
        double wanted = pair / n == pair % n;
        sound = sound && (pair / n > pair % n || fabs(sum - wanted) <= solver_slack);
    }
    return __syncthreads_and(sound);
}

/* squares[i] = norm(R y_last)^2 of vector i. */
static __device__ void sum_residuals(const ritz &z, double *squares)
{
    __shared__ double entries[LORS_MAX_WIDTH + 1][LORS_MAX_WIDTH];
    for (int at = (int)threadIdx.x; at < (z.rank + 1) * z.b; at += LORS_THREADS) {
        int vector = at / z.b, row = at % z.b;
        const double *last = z.y + vector * z.l + (z.l - z.b);
        double sum = 0;
        for (int column = row; column < z.b; column++) {
            sum = __fma_rn(z.r[row * z.b + column], last[column], sum);
        }
        entries[vector][row] = sum;
    }
    __syncthreads();
    if ((int)threadIdx.x <= z.rank) {
        double sum = 0;
        for (int row = 0; row < z.b; row++) {
            sum = __fma_rn(entries[threadIdx.x][row], entries[threadIdx.x][row], sum);
        }
        squares[threadIdx.x] = sum;
    }
    __syncthreads();
}

/* Is the space good enough? By one thread; sets the numbers of the certificate. */
static __device__ bool is_enough(const ritz &z, const double *residuals, double total,
                                 lors_slot *state)
{
    double next = z.theta[0] > 0 ? z.theta[0] : 0, last = z.theta[1], first = z.theta[z.rank];
    double kept = 0, squares = 0, projection = 0, energy = 0;
    if (!(last > 0)) {
        return false;
    }
    for (int i = 1; i <= z.rank; i++) {
        double noise = product_noise * first, square = residuals[i] + noise * noise;
        double theta = z.theta[i], gap = theta - next;
        gap = gap > 1e-7 * theta ? gap : 1e-7 * theta;
        squares += square;
        projection += 2 * square * theta / (gap * gap);
        energy += square / gap;
        kept += theta;
    }
    double tail = total - kept > 1e-12 * total ? total - kept : 1e-12 * total;
    double gap = 1 - sqrt(next / last);
    state->next = next;
    state->residual = sqrt(squares) / first;
    state->excess = 0.5 * energy / tail;
    bool close = sqrt(projection / total) <= stop_projection;
    return gap >= stop_gap ? close && state->excess <= stop_excess : state->excess <= stop_energy;
}

/* A thread block for each slot. What the solver answered is not taken on trust: there were versions
 * of batched ones that gave vectors of other matrices, or none. Such a slot is left to the dense
 * solvers. */
static __global__ void __launch_bounds__(LORS_THREADS) check_kernel(lors_lanczos s, totals total)
{
    __shared__ double residuals[LORS_MAX_WIDTH + 1];
    int32_t slot = (int32_t)blockIdx.x;
    if (!lors_slot_is(s.slots, slot, LORS_SLOT_RUNNING)) {
        return;
    }
    const double *theta = s.theta + slot * s.l, *y = s.small + slot * s.l * s.l;
    int64_t first = s.l - 1 - s.rank;
    ritz z = {s.l,
              s.max_l,
              s.b,
              s.rank,
              s.t + slot * s.max_l * s.max_l,
              theta + first,
              y + first * s.l,
              s.r + (int64_t)slot * s.b * s.b,
              theta[s.l - 1]};
    bool sound = s.info[slot] == 0 && values_are_sound(z, theta);
    sound = sound && pairs_are_sound(z) && vectors_are_sound(z);
    sum_residuals(z, residuals);
    if (threadIdx.x == 0) {
        lors_slot *state = s.slots + slot;
        state->n_steps = (int32_t)(s.l / s.b);
        if (!sound) {
            state->status = LORS_SLOT_FAILED;
        } else if (is_enough(z, residuals, total.of[slot], state)) {
            state->status = LORS_SLOT_FOUND;
        }
    }
}

lors_status lors_cuda_check_ritz(lors_queue *queue, const lors_lanczos *s, const double *total)
{
    totals all = {};
    for (int32_t slot = 0; slot < s->n_slots; slot++) {
        all.of[slot] = total[slot];
    }
    LORS_LAUNCH((check_kernel), (unsigned)s->n_slots, LORS_THREADS, queue->stream, *s, all);
    return lors_cuda_launched("truncate_rank, convergence");
}
