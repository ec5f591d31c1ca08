/* compare.c - how two checkpoints differ, tensor by tensor, in bounded memory. */
#include <math.h>
#include <string.h>

#include <lors/checkpoint.h>

#include "base/error.h"
#include "base/memory.h"
#include "io/checkpoint.h"
#include "recipe/names.h"

enum { PIECE = 1 << 18 }; /* elements, or bytes of tensors that are not compared as numbers */

typedef struct comparer {
    lors_checkpoint *a, *b;
    float *x, *y; /* [PIECE] */
    lors_compare_fn each;
    void *user;
    int64_t n_different;
} comparer;

typedef struct sums {
    double difference, norm; /* sums of squares */
    double max_abs;
    uint64_t n_different;
    bool nan;
} sums;

static void add_values(sums *s, const float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double a = x[i], b = y[i], d = fabs(a - b);
        s->norm += isfinite(a) ? a * a : 0;
        if (a == b || (isnan(a) && isnan(b))) {
            continue;
        }
        s->n_different++;
        s->nan = s->nan || isnan(d);
        s->difference += isfinite(d) ? d * d : 0;
        s->max_abs = d > s->max_abs ? d : s->max_abs;
    }
}

static lors_status compare_values(comparer *c, int64_t i, int64_t j, lors_comparison *out)
{
    sums s = {0};
    uint64_t n = c->a->tensors[i].n_elements;
    for (uint64_t at = 0; at < n; at += PIECE) {
        uint64_t count = n - at < PIECE ? n - at : PIECE;
        LORS_TRY(lors_checkpoint_read(c->a, i, at, count, c->x));
        LORS_TRY(lors_checkpoint_read(c->b, j, at, count, c->y));
        add_values(&s, c->x, c->y, (size_t)count);
    }
    out->n_different = s.n_different;
    out->max_abs = s.nan ? NAN : s.max_abs;
    out->relative = s.nan               ? NAN
                    : isinf(s.max_abs)  ? INFINITY
                    : s.difference == 0 ? 0
                    : s.norm > 0        ? sqrt(s.difference / s.norm)
                                        : INFINITY;
    out->difference = s.n_different > 0 ? LORS_DIFFERENT : LORS_SAME_VALUES;
    return LORS_OK;
}

static lors_status same_bytes(comparer *c, int64_t i, int64_t j, bool *same)
{
    const lors_ckpt_tensor *a = &c->a->tensors[i], *b = &c->b->tensors[j];
    *same = a->dtype == b->dtype && a->n_bytes == b->n_bytes;
    for (uint64_t at = 0; *same && at < a->n_bytes; at += PIECE) {
        size_t n = (size_t)(a->n_bytes - at < PIECE ? a->n_bytes - at : PIECE);
        LORS_TRY(lors_ckpt_read_at(c->a, a, at, c->x, n));
        LORS_TRY(lors_ckpt_read_at(c->b, b, at, c->y, n));
        *same = memcmp(c->x, c->y, n) == 0;
    }
    return LORS_OK;
}

static bool same_shape(const lors_ckpt_tensor *a, const lors_ckpt_tensor *b)
{
    return a->n_dims == b->n_dims &&
           memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof *a->shape) == 0;
}

static lors_status compare_pair(comparer *c, int64_t i, int64_t j, lors_comparison *out)
{
    const lors_ckpt_tensor *a = &c->a->tensors[i], *b = &c->b->tensors[j];
    out->dtype_b = lors_dtype_name(b->dtype);
    if (!same_shape(a, b)) {
        out->difference = LORS_OTHER_SHAPE;
        return LORS_OK;
    }
    bool same = false;
    LORS_TRY(same_bytes(c, i, j, &same));
    if (same) {
        out->difference = LORS_SAME_BYTES;
        return LORS_OK;
    }
    if (lors_dtype_merges(a->dtype) && lors_dtype_merges(b->dtype)) {
        return compare_values(c, i, j, out);
    }
    out->difference = LORS_DIFFERENT; /* other types are compared as bytes only */
    out->n_different = a->n_elements;
    out->max_abs = out->relative = NAN;
    return LORS_OK;
}

static lors_status tell(comparer *c, const lors_comparison *comparison)
{
    c->n_different += comparison->difference != LORS_SAME_BYTES;
    if (c->each && c->each(comparison, c->user)) {
        return lors_fail(LORS_ERR_CANCELLED, "stopped");
    }
    return LORS_OK;
}

static lors_status compare_all(comparer *c)
{
    for (int64_t i = 0; i < c->a->n_tensors; i++) {
        const lors_ckpt_tensor *a = &c->a->tensors[i];
        int64_t j = lors_ckpt_find(c->b, a->name);
        lors_comparison out = {.name = a->name,
                               .difference = LORS_ONLY_A,
                               .dtype_a = lors_dtype_name(a->dtype),
                               .n_elements = a->n_elements};
        if (j >= 0) {
            LORS_TRY(compare_pair(c, i, j, &out));
        }
        LORS_TRY(tell(c, &out));
    }
    for (int64_t j = 0; j < c->b->n_tensors; j++) {
        const lors_ckpt_tensor *b = &c->b->tensors[j];
        if (lors_ckpt_find(c->a, b->name) < 0) {
            lors_comparison out = {.name = b->name,
                                   .difference = LORS_ONLY_B,
                                   .dtype_b = lors_dtype_name(b->dtype),
                                   .n_elements = b->n_elements};
            LORS_TRY(tell(c, &out));
        }
    }
    return LORS_OK;
}

lors_status lors_compare(lors_checkpoint *a, lors_checkpoint *b, lors_compare_fn each, void *user,
                         int64_t *n_different)
{
    comparer c = {.a = a, .b = b, .each = each, .user = user};
    c.x = lors_alloc(2 * PIECE * sizeof(float));
    if (!c.x) {
        return lors_fail_memory(2 * PIECE * sizeof(float));
    }
    c.y = c.x + PIECE;
    lors_status status = compare_all(&c);
    lors_free(c.x);
    if (n_different) {
        *n_different = c.n_different;
    }
    return status;
}

void lors_checkpoint_tensor(const lors_checkpoint *checkpoint, int64_t index, lors_tensor_info *out)
{
    const lors_ckpt_tensor *tensor = &checkpoint->tensors[index];
    lors_tensor_name described;
    lors_name_describe(tensor->name, &described);
    *out = (lors_tensor_info){.name = tensor->name,
                              .dtype = lors_dtype_name(tensor->dtype),
                              .shape = tensor->shape,
                              .n_dims = tensor->n_dims,
                              .n_elements = tensor->n_elements,
                              .n_bytes = tensor->n_bytes,
                              .file = checkpoint->files[tensor->file].name,
                              .offset = tensor->offset,
                              .role = lors_role_text(described.role)};
}
