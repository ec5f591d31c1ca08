/* st_order.c - tensors in order of their bytes, which must cover the data exactly. */
#include <inttypes.h>

#include "base/error.h"
#include "base/text.h"
#include "io/st_internal.h"

typedef struct byte_range {
    uint64_t begin, end;
    int64_t index; /* of the tensor, in order of the header */
} byte_range;

static bool ranges_in_order(uint64_t begin_a, uint64_t end_a, uint64_t begin_b, uint64_t end_b)
{
    return begin_a < begin_b || (begin_a == begin_b && end_a <= end_b);
}

/* Merge the sorted runs [first, middle) and [middle, last) of `from` into `to`; stable. */
static void merge_runs(const byte_range *from, byte_range *to, int64_t first, int64_t middle,
                       int64_t last)
{
    int64_t a = first, b = middle;
    for (int64_t i = first; i < last; i++) {
        bool take_a = b >= last || (a < middle && ranges_in_order(from[a].begin, from[a].end,
                                                                  from[b].begin, from[b].end));
        to[i] = take_a ? from[a++] : from[b++];
    }
}

/* Sort by (begin, end), equal ones staying in order; the result is in one of the two arrays. */
static byte_range *sort_ranges(byte_range *ranges, byte_range *scratch, int64_t n)
{
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t first = 0; first < n; first += 2 * width) {
            int64_t middle = first + width < n ? first + width : n;
            int64_t last = first + 2 * width < n ? first + 2 * width : n;
            merge_runs(ranges, scratch, first, middle, last);
        }
        byte_range *sorted = scratch;
        scratch = ranges;
        ranges = sorted;
    }
    return ranges;
}

/* Bring tensors and name_at into the order of their bytes. Most files are in it already. */
static lors_status sort_tensors(lors_st_header *header, uint32_t **header_name_at)
{
    lors_st_tensor *old = header->tensors;
    int64_t n = header->n_tensors, n_sorted = 1;
    while (n_sorted < n && ranges_in_order(old[n_sorted - 1].begin, old[n_sorted - 1].end,
                                           old[n_sorted].begin, old[n_sorted].end)) {
        n_sorted++;
    }
    if (n_sorted >= n) {
        return LORS_OK;
    }
    byte_range *ranges = lors_new((size_t)n, 2 * sizeof *ranges);
    lors_st_tensor *tensors = lors_new((size_t)n, sizeof *tensors);
    uint32_t *name_at = lors_new((size_t)n, sizeof *name_at);
    if (!ranges || !tensors || !name_at) {
        lors_free(ranges);
        lors_free(tensors);
        lors_free(name_at);
        return lors_fail_memory((size_t)n * sizeof *tensors);
    }
    for (int64_t i = 0; i < n; i++) {
        ranges[i] = (byte_range){old[i].begin, old[i].end, i};
    }
    const byte_range *sorted = sort_ranges(ranges, ranges + n, n);
    for (int64_t i = 0; i < n; i++) {
        tensors[i] = old[sorted[i].index];
        name_at[i] = (*header_name_at)[sorted[i].index];
    }
    lors_free(ranges);
    lors_free(old);
    lors_free(*header_name_at);
    header->tensors = tensors;
    *header_name_at = name_at;
    return LORS_OK;
}

/* The tensors must cover the data from its first to its last byte. */
static lors_status check_coverage(lors_lexer *lexer, const lors_st_header *header,
                                  const uint32_t *name_at)
{
    char before[LORS_ESCAPED_MAX];
    uint64_t covered = 0, file_end = 0;
    for (int64_t i = 0; i < header->n_tensors; i++) {
        const lors_st_tensor *tensor = &header->tensors[i], *last = tensor - (i > 0);
        lexer->tensor = tensor->name;
        lexer->tensor_bytes = tensor->name_bytes;
        if (tensor->begin > covered) {
            return lors_lexer_fail(lexer, name_at[i],
                                   "data_offsets begin at %" PRIu64
                                   ", but the tensors before it end at %" PRIu64 ": the %" PRIu64
                                   " bytes between belong to nothing",
                                   tensor->begin, covered, tensor->begin - covered);
        }
        if (tensor->begin < covered) {
            return lors_lexer_fail(
                lexer, name_at[i],
                "data_offsets begin at %" PRIu64 ", within tensor '%s', which ends at %" PRIu64,
                tensor->begin, lors_escape(last->name, last->name_bytes, before), covered);
        }
        covered = tensor->end;
    }
    lexer->tensor = NULL;
    if (__builtin_add_overflow(covered, header->data_start, &file_end) ||
        file_end > header->file_bytes) {
        return lors_lexer_fail(lexer, header->file_bytes,
                               "the file ends here, %" PRIu64
                               " bytes are missing: the download is incomplete, get it again",
                               covered - (header->file_bytes - header->data_start));
    }
    if (file_end < header->file_bytes) {
        return lors_lexer_fail(lexer, file_end,
                               "%" PRIu64 " extra bytes after the last "
                               "tensor: no tensor owns them, save the file again",
                               header->file_bytes - file_end);
    }
    return LORS_OK;
}

static void note_alignment(lors_st_header *header)
{
    for (int64_t i = 0; i < header->n_tensors && !header->unaligned; i++) {
        const lors_st_tensor *tensor = &header->tensors[i];
        uint64_t item_bytes = (uint64_t)lors_dtype_bits(tensor->dtype) / 8;
        header->unaligned = item_bytes > 1 && tensor->n_elements > 0 &&
                            (header->data_start + tensor->begin) % item_bytes != 0;
    }
}

lors_status lors_st_order(lors_lexer *lexer, lors_st_header *header, uint32_t **name_at)
{
    LORS_TRY(sort_tensors(header, name_at));
    LORS_TRY(check_coverage(lexer, header, *name_at));
    note_alignment(header);
    return LORS_OK;
}
