/* ties.c - what of a model is not merged because it should be the same bytes as something else: an
 * output head that the base leaves out as tied to its embedding, which is refused where it is not;
 * integers and sinusoids, which are copied from the base, and said so where they differ. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "run/run_internal.h"

enum { PIECE = 1 << 20 };

/* One tensor, and the model that holds it. */
typedef struct owned_tensor {
    lors_checkpoint *model;
    const lors_ckpt_tensor *tensor;
} owned_tensor;

/* `pieces` has room for two. */
static lors_status compare(lors_run_state *run, owned_tensor a, owned_tensor b,
                           unsigned char *pieces, bool *same)
{
    *same = a.tensor->n_bytes == b.tensor->n_bytes && a.tensor->dtype == b.tensor->dtype;
    for (uint64_t at = 0; *same && at < a.tensor->n_bytes; at += PIECE) {
        uint64_t left = a.tensor->n_bytes - at;
        size_t n = (size_t)(left < PIECE ? left : PIECE);
        LORS_TRY(lors_ckpt_read_at(a.model, a.tensor, at, pieces, n));
        LORS_TRY(lors_ckpt_read_at(b.model, b.tensor, at, pieces + PIECE, n));
        *same = memcmp(pieces, pieces + PIECE, n) == 0;
        LORS_TRY(lors_run_poll(run));
    }
    return LORS_OK;
}

static lors_status check_tie(lors_run_state *run, lors_checkpoint *model, const lors_tie *tie,
                             unsigned char *pieces)
{
    bool same = false;
    LORS_TRY(compare(run, (owned_tensor){model, tie->head}, (owned_tensor){model, tie->other},
                     pieces, &same));
    if (same) {
        return LORS_OK;
    }
    char head[LORS_ESCAPED_MAX], other[LORS_ESCAPED_MAX];
    return lors_fail(
        LORS_ERR_MISMATCH,
        "%s: '%s' is not equal to '%s', to which the base ties it: this model's output "
        "head was trained on its own and would be lost; use a base that stores it",
        model->path, lors_escape_text(tie->head->name, head),
        lors_escape_text(tie->other->name, other));
}

/* Integers and sinusoids, not what the recipe leaves out of the merge. Of two float types the
 * narrower copy differs without having been trained. */
static bool is_expected_equal(const lors_job *job, const lors_ckpt_tensor *input)
{
    if (job->treatment != LORS_TREAT_COPY || !input || input->file < 0 || job->source->file < 0) {
        return false; /* what a stage makes is not there yet */
    }
    lors_tensor_name described;
    lors_name_describe(job->name, &described);
    return !lors_dtype_is_float(job->source->dtype) ||
           (described.role == LORS_ROLE_SINUSOID && input->dtype == job->source->dtype &&
            !job->def);
}

static lors_status warn_of_copies(lors_run_state *run, lors_plan *plan, int32_t k,
                                  unsigned char *pieces)
{
    const lors_job *first = NULL;
    int64_t count = 0;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        const lors_job *job = &plan->jobs[j];
        bool same = true;
        for (int32_t i = 0; i < job->n_inputs && same; i++) {
            bool own = job->input_models[i] == plan->models[k];
            if (own && is_expected_equal(job, job->inputs[i])) {
                LORS_TRY(compare(run, (owned_tensor){job->source_model, job->source},
                                 (owned_tensor){plan->models[k], job->inputs[i]}, pieces, &same));
            }
        }
        first = !same && !first ? job : first;
        count += !same;
    }
    if (!first) {
        return LORS_OK;
    }
    char name[LORS_ESCAPED_MAX];
    return lors_plan_warn(plan,
                          "%s: %lld tensor%s that %s not merged differ%s from the base's, which %s "
                          "kept: '%s'%s",
                          plan->models[k]->path, (long long)count, count > 1 ? "s" : "",
                          count > 1 ? "are" : "is", count > 1 ? "" : "s", count > 1 ? "are" : "is",
                          lors_escape_text(first->name, name), count > 1 ? " and others" : "");
}

lors_status lors_run_check_ties(lors_run_state *run, lors_plan *plan)
{
    unsigned char *pieces = lors_alloc(2 * (size_t)PIECE);
    lors_status status = pieces ? LORS_OK : lors_fail_memory(2 * (size_t)PIECE);
    for (int32_t i = 0; i < plan->n_ties && status == LORS_OK; i++) {
        status = check_tie(run, plan->models[plan->ties[i].model], &plan->ties[i], pieces);
    }
    for (int32_t k = 0; k < plan->n_models && status == LORS_OK; k++) {
        status = warn_of_copies(run, plan, k, pieces);
    }
    lors_free(pieces);
    for (int32_t i = 0; i < plan->n_stages && status == LORS_OK; i++) {
        status = lors_run_check_ties(run, plan->stages[i]);
    }
    return status;
}
