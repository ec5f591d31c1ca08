/* spectral.c - Gram matrices, directions and polar factors, of backend operations. */
#include "method/spectral.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

/* --- scratch ---------------------------------------------------------------------------------- */

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

lors_view lors_spectral_take_bytes(lors_spectral *s, uint64_t n_bytes)
{
    lors_view taken = s->call->scratch;
    taken.offset += s->filled;
    s->filled += lors_view_padded(n_bytes);
    return taken;
}

lors_view lors_spectral_take(lors_spectral *s, int64_t n_doubles)
{
    return lors_spectral_take_bytes(s, (uint64_t)n_doubles * sizeof(double));
}

double *lors_spectral_take_numbers(lors_spectral *s, int64_t n)
{
    double *taken = s->call->numbers ? s->call->numbers + s->numbers : NULL;
    s->numbers += n;
    return taken;
}

/* What the largest of the products below needs. */
static uint64_t product_bytes(const lors_spectral *s, int64_t stacked)
{
    int64_t rows = s->call->n_rows, cols = s->call->n_cols, n = s->size;
    const int64_t shapes[][3] = {{n, n, larger(s->n_long, stacked)},
                                 {stacked, s->n_long, n},
                                 {rows, cols, stacked},
                                 {s->n_short, cols, rows}};
    uint64_t most = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        uint64_t bytes = s->call->ops->multiply_bytes(shapes[i][0], shapes[i][1], shapes[i][2]);
        most = bytes > most ? bytes : most;
    }
    return most;
}

lors_spectral lors_spectral_of(const lors_call *call, int64_t size, int64_t stacked)
{
    lors_spectral s = {.call = call, .tall = call->n_rows >= call->n_cols};
    s.n_short = s.tall ? call->n_cols : call->n_rows;
    s.n_long = s.tall ? call->n_rows : call->n_cols;
    s.size = larger(size, s.n_short);
    s.gram = lors_spectral_take(&s, s.size * s.size);
    s.vectors = lors_spectral_take(&s, s.size * s.size);
    s.solver = lors_spectral_take_bytes(&s, call->ops->eigen_bytes(s.size, s.size));
    s.product = lors_spectral_take_bytes(&s, product_bytes(&s, larger(stacked, s.n_short)));
    s.values = lors_spectral_take_numbers(&s, 2 * s.size);
    return s;
}

lors_stack lors_spectral_stack(lors_spectral *s, int64_t capacity)
{
    lors_stack stack = {.capacity = capacity};
    stack.short_rows = lors_spectral_take(s, capacity * s->n_short);
    stack.long_rows = lors_spectral_take(s, capacity * s->n_long);
    stack.sigma = lors_spectral_take_numbers(s, capacity);
    return stack;
}

/* --- factors and products --------------------------------------------------------------------- */

lors_factor lors_spectral_delta(const lors_spectral *s, int32_t k)
{
    uint64_t at = (uint64_t)(k * s->call->stride) * sizeof(float);
    return (lors_factor){.x = lors_view_at(s->call->delta, at), .ld = s->call->n_cols};
}

lors_factor lors_spectral_wide(const lors_spectral *s, lors_view x)
{
    return (lors_factor){.x = x, .wide = true, .ld = s->call->n_cols};
}

static lors_factor rows_of(lors_view x, int64_t ld, bool transposed)
{
    return (lors_factor){.x = x, .wide = true, .transposed = transposed, .ld = ld};
}

static lors_factor transposed(lors_factor a)
{
    a.transposed = !a.transposed;
    return a;
}

lors_status lors_spectral_multiply(const lors_spectral *s, lors_view out, lors_product p)
{
    p.scratch = s->product;
    p.ld = p.cols;
    return s->call->ops->multiply(s->call->queue, out, &p);
}

/* gram [n][n] = x x' or x'x. */
static lors_status gram_of(const lors_spectral *s, lors_factor x, bool of_rows, int64_t n,
                           int64_t depth)
{
    lors_factor other = transposed(x);
    return lors_spectral_multiply(s, s->gram,
                                  (lors_product){.left = of_rows ? x : other,
                                                 .right = of_rows ? other : x,
                                                 .rows = n,
                                                 .cols = n,
                                                 .depth = depth,
                                                 .alpha = 1,
                                                 .symmetric = true});
}

lors_status lors_spectral_long_rows(const lors_spectral *s, lors_factor a, lors_view rows,
                                    int64_t count, lors_view out)
{
    return lors_spectral_multiply(s, out,
                                  (lors_product){.left = rows_of(rows, s->n_short, false),
                                                 .right = s->tall ? transposed(a) : a,
                                                 .rows = count,
                                                 .cols = s->n_long,
                                                 .depth = s->n_short,
                                                 .alpha = 1});
}

lors_status lors_spectral_outer(const lors_spectral *s, lors_view long_rows, lors_view short_rows,
                                int64_t count, double alpha, double beta, lors_view out)
{
    lors_factor along = rows_of(long_rows, s->n_long, s->tall);
    lors_factor across = rows_of(short_rows, s->n_short, !s->tall);
    return lors_spectral_multiply(s, out,
                                  (lors_product){.left = s->tall ? along : across,
                                                 .right = s->tall ? across : along,
                                                 .rows = s->call->n_rows,
                                                 .cols = s->call->n_cols,
                                                 .depth = count,
                                                 .alpha = alpha,
                                                 .beta = beta});
}

/* --- spectra ---------------------------------------------------------------------------------- */

static lors_status eigen(lors_spectral *s, int64_t n, int64_t count, lors_view vectors,
                         double *values)
{
    LORS_TRY(s->call->ops->eigen(s->call->queue, s->gram, n, count, vectors, values, s->solver));
    s->not_finite = s->not_finite || (count > 0 && isnan(values[0]));
    return LORS_OK;
}

lors_status lors_spectral_decompose(lors_spectral *s, lors_factor a)
{
    LORS_TRY(gram_of(s, a, !s->tall, s->n_short, s->n_long));
    return eigen(s, s->n_short, s->n_short, s->vectors, s->values);
}

static lors_view row_at(lors_view rows, int64_t row, int64_t length)
{
    return lors_view_at(rows, (uint64_t)(row * length) * sizeof(double));
}

lors_status lors_spectral_push(lors_spectral *s, lors_stack *stack, lors_factor a, int64_t count,
                               double least)
{
    const lors_backend_ops *ops = s->call->ops;
    lors_view short_rows = row_at(stack->short_rows, stack->n, s->n_short);
    lors_view long_rows = row_at(stack->long_rows, stack->n, s->n_long);
    double *sigma = stack->sigma + stack->n;
    if (count == 0) {
        return LORS_OK;
    }
    LORS_TRY(gram_of(s, a, !s->tall, s->n_short, s->n_long));
    LORS_TRY(eigen(s, s->n_short, count, short_rows, sigma));
    double first = sigma[count - 1] > 0 ? sqrt(sigma[count - 1]) : 0;
    double nothing = LORS_NULL * (first > least ? first : least);
    LORS_TRY(lors_spectral_long_rows(s, a, short_rows, count, long_rows));
    for (int64_t i = 0; i < count; i++) {
        sigma[i] = sigma[i] > 0 ? sqrt(sigma[i]) : 0;
        sigma[i] = sigma[i] > nothing ? sigma[i] : 0;
        s->values[i] = sigma[i] > 0 ? 1 / sigma[i] : 0;
    }
    LORS_TRY(ops->scale_rows(s->call->queue, long_rows, count, s->n_long, s->n_long, s->values));
    for (int64_t i = 0; i < count; i++) {
        s->values[i] = sigma[i] > 0;
    }
    LORS_TRY(ops->scale_rows(s->call->queue, short_rows, count, s->n_short, s->n_short, s->values));
    stack->n += count;
    return LORS_OK;
}

/* vectors' diag(values^-1/2) vectors, of roots of the roots. */
lors_status lors_spectral_inverse_root(lors_spectral *s, lors_view x, int64_t rows, int64_t cols)
{
    bool of_rows = rows <= cols;
    int64_t n = of_rows ? rows : cols;
    LORS_TRY(gram_of(s, rows_of(x, cols, false), of_rows, n, of_rows ? cols : rows));
    LORS_TRY(eigen(s, n, n, s->vectors, s->values));
    double nothing = LORS_NULL * LORS_NULL * s->values[n - 1];
    double *roots = s->values + n;
    for (int64_t i = 0; i < n; i++) {
        bool counts = s->values[i] > nothing && s->values[i] > 0;
        roots[i] = counts ? 1 / sqrt(sqrt(s->values[i])) : 0;
    }
    LORS_TRY(s->call->ops->scale_rows(s->call->queue, s->vectors, n, n, n, roots));
    return lors_spectral_multiply(s, s->gram,
                                  (lors_product){.left = rows_of(s->vectors, n, true),
                                                 .right = rows_of(s->vectors, n, false),
                                                 .rows = n,
                                                 .cols = n,
                                                 .depth = n,
                                                 .alpha = 1,
                                                 .symmetric = true});
}

lors_status lors_spectral_whiten(const lors_spectral *s, lors_view x, int64_t rows, int64_t cols,
                                 double alpha, lors_view out)
{
    bool of_rows = rows <= cols;
    int64_t n = of_rows ? rows : cols;
    lors_factor root = rows_of(s->gram, n, false), given = rows_of(x, cols, false);
    return lors_spectral_multiply(s, out,
                                  (lors_product){.left = of_rows ? root : given,
                                                 .right = of_rows ? given : root,
                                                 .rows = rows,
                                                 .cols = cols,
                                                 .depth = n,
                                                 .alpha = alpha});
}

lors_status lors_spectral_merge(lors_spectral *s, lors_stack *stack, double alpha, lors_view spare)
{
    int64_t n = stack->n;
    lors_view short_rows = stack->long_rows; /* which are no longer needed by then */
    if (s->not_finite || n == 0) {
        return lors_spectral_fill(s, s->not_finite ? NAN : 0);
    }
    LORS_TRY(lors_spectral_inverse_root(s, stack->long_rows, n, s->n_long));
    LORS_TRY(lors_spectral_whiten(s, stack->long_rows, n, s->n_long, 1, spare));
    LORS_TRY(lors_spectral_inverse_root(s, stack->short_rows, n, s->n_short));
    LORS_TRY(lors_spectral_whiten(s, stack->short_rows, n, s->n_short, 1, short_rows));
    LORS_TRY(s->call->ops->scale_rows(s->call->queue, short_rows, n, s->n_short, s->n_short,
                                      stack->sigma));
    return lors_spectral_outer(s, spare, short_rows, n, alpha, 0, s->call->acc);
}

/* --- sums ------------------------------------------------------------------------------------- */

lors_status lors_spectral_fill(const lors_spectral *s, double with)
{
    const lors_call *call = s->call;
    int64_t n = (int64_t)call->n_elements;
    LORS_TRY(call->ops->clear(call->queue, call->acc, call->n_elements * sizeof(double)));
    return with == 0 ? LORS_OK : call->ops->scale_rows(call->queue, call->acc, 1, n, n, &with);
}

lors_status lors_spectral_sum(const lors_spectral *s, int32_t weight, int32_t from, int32_t n,
                              lors_view out)
{
    const lors_call *call = s->call;
    for (int32_t k = 0; k < n; k++) {
        call->weights[k] = lors_call_number(call, weight, from + k);
    }
    lors_sum sum = {.stack = lors_spectral_delta(s, from).x,
                    .stride = call->stride,
                    .n_models = n,
                    .weights = call->weights,
                    .scale = 1};
    return call->ops->accumulate(call->queue, out, &sum, (int64_t)call->n_elements);
}

bool lors_spectral_counts(const lors_call *call, int32_t weight, int32_t k)
{
    return !call->results[k].zero && lors_call_number(call, weight, k) != 0;
}
