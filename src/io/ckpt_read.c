/* ckpt_read.c - bytes and values of the tensors of a checkpoint. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "io/checkpoint.h"
#include "io/handles.h"

static lors_status fail_tensor(const lors_ckpt_tensor *tensor, lors_status status)
{
    char prefix[LORS_ESCAPED_MAX + 16], name[LORS_ESCAPED_MAX];
    snprintf(prefix, sizeof prefix, "tensor '%s'",
             lors_escape(tensor->name, tensor->name_bytes, name));
    return lors_fail_within(status, prefix);
}

static lors_status fail_range(const lors_ckpt_tensor *tensor, uint64_t offset, uint64_t count,
                              uint64_t allowed, const char *unit)
{
    char name[LORS_ESCAPED_MAX];
    return lors_fail(
        LORS_ERR_USAGE, "tensor '%s': %" PRIu64 " %s from %" PRIu64 " on (it has %" PRIu64 ")",
        lors_escape(tensor->name, tensor->name_bytes, name), count, unit, offset, allowed);
}

/* What should be read past the page cache, and can be; returns how many bytes that are. */
static size_t read_direct(const lors_ckpt_file *file, uint64_t offset, void *out, size_t n_bytes)
{
    int fd = -1, slot = -1;
    bool fits = ((uintptr_t)out - offset) % LORS_DIRECT_ALIGN == 0;
    if (!file->direct || !fits || lors_handles_take(file, true, &fd, &slot) != LORS_OK) {
        return 0;
    }
    size_t n = lors_file_read_direct(fd, offset, out, n_bytes);
    lors_handles_give_back(slot);
    return n;
}

static lors_status read_buffered(const lors_ckpt_file *file, uint64_t offset, void *out,
                                 size_t n_bytes)
{
    int fd = -1, slot = -1;
    LORS_TRY(lors_handles_take(file, false, &fd, &slot));
    lors_status status = lors_file_read_at(fd, file->path, offset, out, n_bytes);
    lors_handles_give_back(slot);
    return status;
}

/* n_direct NULL: only through the cache. */
static lors_status read_tensor(const lors_checkpoint *checkpoint, const lors_ckpt_tensor *tensor,
                               uint64_t offset, char *out, size_t n_bytes, size_t *n_direct)
{
    lors_status status = LORS_OK;
    const lors_ckpt_file *file = &checkpoint->files[tensor->file];
    if (offset > tensor->n_bytes || n_bytes > tensor->n_bytes - offset) {
        return fail_range(tensor, offset, n_bytes, tensor->n_bytes, "bytes");
    }
    uint64_t at = tensor->offset + offset;
    size_t n = n_direct && n_bytes > 0 ? read_direct(file, at, out, n_bytes) : 0;
    if (n < n_bytes) {
        status = read_buffered(file, at + n, out + n, n_bytes - n);
    }
    if (n_direct) {
        *n_direct = n;
    }
    return status == LORS_OK ? LORS_OK : fail_tensor(tensor, status);
}

lors_status lors_ckpt_read_at(lors_checkpoint *checkpoint, const lors_ckpt_tensor *tensor,
                              uint64_t offset, void *out, size_t n_bytes)
{
    return read_tensor(checkpoint, tensor, offset, out, n_bytes, NULL);
}

lors_status lors_ckpt_read_pages(lors_checkpoint *checkpoint, const lors_ckpt_tensor *tensor,
                                 uint64_t offset, void *out, size_t n_bytes, size_t *n_direct)
{
    return read_tensor(checkpoint, tensor, offset, out, n_bytes, n_direct);
}

/* Yes where it cannot be known. Per file, not per range: the readahead of one range would make the
 * next one seem to be cached. */
static bool is_cached(const lors_ckpt_file *file)
{
    int fd = -1, slot = -1;
    if (lors_handles_take(file, false, &fd, &slot) != LORS_OK) {
        return true; /* the first read will say why */
    }
    bool cached = lors_file_is_cached(fd, file->n_bytes);
    lors_handles_give_back(slot);
    return cached;
}

void lors_ckpt_choose_io(lors_checkpoint *checkpoint, lors_io io)
{
    for (int32_t i = 0; i < checkpoint->n_files; i++) {
        lors_ckpt_file *file = &checkpoint->files[i];
        file->direct = io == LORS_IO_DIRECT || (io == LORS_IO_AUTO && !is_cached(file));
    }
}

/* Widen `count` 16-bit values that lie in the second half of `out`: value i is read before its
 * place is written, since 4 * i + 4 <= 2 * count + 2 * i + 2 for every i < count. */
static void widen_in_place(lors_dtype dtype, float *out, uint64_t count)
{
    const char *halves = (const char *)out + 2 * count;
    for (uint64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, halves + 2 * i, sizeof half);
        out[i] = dtype == LORS_F16 ? lors_f16_to_f32(half) : lors_bf16_to_f32(half);
    }
}

lors_status lors_checkpoint_read(lors_checkpoint *checkpoint, int64_t index, uint64_t first,
                                 uint64_t count, float *out)
{
    char name[LORS_ESCAPED_MAX];
    if (index < 0 || index >= checkpoint->n_tensors) {
        return lors_fail(LORS_ERR_USAGE, "tensor %" PRId64 " of %" PRId64, index,
                         checkpoint->n_tensors);
    }
    const lors_ckpt_tensor *tensor = &checkpoint->tensors[index];
    if (!lors_dtype_merges(tensor->dtype)) {
        return lors_fail(LORS_ERR_USAGE, "tensor '%s': its dtype is %s (allowed: F32, F16, BF16)",
                         lors_escape(tensor->name, tensor->name_bytes, name),
                         lors_dtype_name(tensor->dtype));
    }
    if (first > tensor->n_elements || count > tensor->n_elements - first) {
        return fail_range(tensor, first, count, tensor->n_elements, "elements");
    }
    if (tensor->dtype == LORS_F32) {
        return lors_ckpt_read_at(checkpoint, tensor, 4 * first, out, 4 * (size_t)count);
    }
    char *halves = (char *)out + 2 * count;
    LORS_TRY(lors_ckpt_read_at(checkpoint, tensor, 2 * first, halves, 2 * (size_t)count));
    widen_in_place(tensor->dtype, out, count);
    return LORS_OK;
}
