/* contest.c - operations on models that compete for each element. */
#include "backend/contest.h"
#include "cpu/cpu_internal.h"

/* With `levels` only where there are such. */
static lors_cpu_contest plain_contest(const lors_contest *contest)
{
    const float *bounds = lors_cpu_at(contest->bounds), *levels = lors_cpu_at(contest->levels);
    int32_t n = contest->n_models;
    lors_cpu_contest c = {.stack = lors_cpu_at(contest->stack),
                          .base = lors_cpu_at(contest->base),
                          .scores = lors_cpu_at(contest->scores),
                          .stride = contest->stride,
                          .n_models = n,
                          .weights = contest->weights,
                          .scale = contest->scale};
    for (int32_t k = 0; k < n; k++) {
        c.of[k] = (lors_contender){bounds[k], bounds[n + k], levels ? levels[k] : 0,
                                   levels ? levels[n + k] : 0};
        c.n_competing += lors_cpu_competes(&c, k);
    }
    return c;
}

lors_status lors_cpu_score(lors_queue *queue, lors_view out, const lors_contest *contest,
                           int64_t n)
{
    lors_cpu_contest c = plain_contest(contest);
    queue->kernels->score(lors_cpu_at(out), &c, n);
    return LORS_OK;
}

lors_status lors_cpu_balance(lors_queue *queue, lors_view acc, const lors_contest *contest,
                             int64_t n)
{
    lors_cpu_contest c = plain_contest(contest);
    queue->kernels->balance(lors_cpu_at(acc), &c, n);
    return LORS_OK;
}
