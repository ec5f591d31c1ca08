/* ties.c - an output head that one model stores and the base leaves out as tied to its embedding:
 * fine where the two are the same bytes, refused where they are not. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "run/run_internal.h"

enum { PIECE = 1 << 20 };

static lors_status check_tie(lors_checkpoint *model, const lors_tie *tie, unsigned char *a,
                             unsigned char *b)
{
    bool same = tie->head->n_bytes == tie->other->n_bytes && tie->head->dtype == tie->other->dtype;
    for (uint64_t at = 0; same && at < tie->head->n_bytes; at += PIECE) {
        uint64_t left = tie->head->n_bytes - at;
        size_t n = (size_t)(left < PIECE ? left : PIECE);
        LORS_TRY(lors_ckpt_read_at(model, tie->head, at, a, n));
        LORS_TRY(lors_ckpt_read_at(model, tie->other, at, b, n));
        same = memcmp(a, b, n) == 0;
    }
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

lors_status lors_run_check_ties(lors_plan *plan)
{
    if (plan->n_ties == 0) {
        return LORS_OK;
    }
    unsigned char *pieces = lors_alloc(2 * (size_t)PIECE);
    lors_status status = pieces ? LORS_OK : lors_fail_memory(2 * (size_t)PIECE);
    for (int32_t i = 0; i < plan->n_ties && status == LORS_OK; i++) {
        status =
            check_tie(plan->models[plan->ties[i].model], &plan->ties[i], pieces, pieces + PIECE);
    }
    lors_free(pieces);
    return status;
}
