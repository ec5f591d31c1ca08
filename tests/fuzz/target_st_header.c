/* target_st_header.c - the header of one safetensors file, against the reference's verdict.
 *
 * An input is the text "DELTA DATA", a newline and the header's JSON: the file's length field is
 * DELTA more than the JSON is long, and DATA bytes of zeros follow ("auto": as many as its tensors
 * end at, so that mutations reach the rules behind that one). Without such a line the input is the
 * whole file. A seed's name begins with what the reference itself is known to say of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/memory.h"
#include "fuzz.h"
#include "io/safetensors.h"
#include "st_reference.h"

typedef struct image {
    uint8_t *bytes; /* then zeros, up to file_bytes */
    size_t n_bytes;
    uint64_t file_bytes;
    int64_t n_reads_good; /* how many reads succeed; -1: all */
} image;

static lors_status read_image(void *source, uint64_t offset, void *out, size_t n_bytes)
{
    image *file = source;
    FUZZ_NEED(n_bytes <= file->file_bytes && offset <= file->file_bytes - n_bytes,
              "%zu bytes at %llu are not in the file", n_bytes, (unsigned long long)offset);
    if (file->n_reads_good == 0) {
        return LORS_ERR_IO;
    }
    file->n_reads_good -= file->n_reads_good > 0;
    memset(out, 0, n_bytes);
    if (offset < file->n_bytes) {
        size_t left = file->n_bytes - (size_t)offset;
        memcpy(out, file->bytes + offset, n_bytes < left ? n_bytes : left);
    }
    return LORS_OK;
}

/* --- the input into a file ------------------------------------------------------------------ */

typedef struct first_line {
    long long delta;
    unsigned long long data;
    bool data_auto;
    size_t n_bytes; /* with its newline; 0: there is none */
} first_line;

static first_line read_first_line(const uint8_t *data, size_t size)
{
    first_line line = {0};
    char text[80] = "", number[32] = "";
    const uint8_t *newline = memchr(data, '\n', size < sizeof text ? size : sizeof text - 1);
    if (newline) {
        memcpy(text, data, (size_t)(newline - data));
        int n = sscanf(text, "%lld %31s", &line.delta, number);
        line.n_bytes = n == 2 ? (size_t)(newline - data) + 1 : 0;
        line.data_auto = strcmp(number, "auto") == 0;
        line.data = line.data_auto ? 0 : strtoull(number, NULL, 10);
    }
    return line;
}

/* The largest second number of any data_offsets, found in the text and not in its meaning: so that
 * a header that is wrong elsewhere is refused for that, not for the size of its file. */
static uint64_t largest_end(const uint8_t *json, size_t size)
{
    static const char key[] = "data_offsets\":[";
    uint64_t largest = 0;
    for (size_t i = 0; i + sizeof key <= size; i++) {
        uint64_t number = 0;
        if (memcmp(json + i, key, sizeof key - 1) != 0) {
            continue;
        }
        for (size_t at = i + sizeof key - 1; at < size && json[at] != ']'; at++) {
            bool digit = json[at] >= '0' && json[at] <= '9';
            number = digit ? number * 10 + (uint64_t)(json[at] - '0') : 0;
        }
        largest = number > largest && number < UINT64_MAX / 4 ? number : largest;
    }
    return largest;
}

static void build_image(const uint8_t *data, size_t size, const first_line *line, image *file)
{
    size_t n_json = size - line->n_bytes;
    bool framed = line->n_bytes > 0;
    file->n_bytes = n_json + (framed ? 8 : 0);
    file->bytes = malloc(file->n_bytes + 1);
    FUZZ_NEED(file->bytes, "no memory for %zu bytes", size);
    uint64_t length = n_json + (uint64_t)line->delta;
    for (int i = 0; i < 8 && framed; i++) {
        file->bytes[i] = (uint8_t)(length >> 8 * i);
    }
    memcpy(file->bytes + (framed ? 8 : 0), data + line->n_bytes, n_json);
    file->file_bytes = file->n_bytes + line->data;
    if (file->file_bytes < file->n_bytes) { /* beyond 2^64: cut within the bytes instead */
        file->n_bytes = (size_t)file->file_bytes;
    }
    if (line->data_auto) {
        file->file_bytes = file->n_bytes + largest_end(data + line->n_bytes, n_json);
    }
}

/* --- both readers --------------------------------------------------------------------------- */

static void compare_tensor(const lors_st_tensor *ours, const st_ref_tensor *theirs)
{
    FUZZ_NEED(ours->name_bytes == theirs->name_bytes &&
                  memcmp(ours->name, theirs->name, ours->name_bytes) == 0,
              "tensors '%s' and '%s'", ours->name, theirs->name);
    FUZZ_NEED(strcmp(lors_dtype_name(ours->dtype), theirs->dtype) == 0, "dtype of '%s'",
              ours->name);
    FUZZ_NEED(ours->begin == theirs->begin && ours->end == theirs->end, "bytes of '%s'",
              ours->name);
    FUZZ_NEED((uint64_t)ours->n_dims == theirs->n_dims, "dimensions of '%s'", ours->name);
    uint64_t product = 1;
    for (int32_t d = 0; d < ours->n_dims; d++) {
        FUZZ_NEED((uint64_t)ours->shape[d] == theirs->shape[d], "shape of '%s'", ours->name);
        product *= theirs->shape[d];
    }
    FUZZ_NEED(ours->n_elements == product, "elements of '%s'", ours->name);
}

static void compare(lors_status status, const lors_st_header *ours, const st_ref *theirs)
{
    if (theirs->verdict == ST_UNSURE) {
        return;
    }
    FUZZ_NEED((status == LORS_OK) == (theirs->verdict == ST_ACCEPT), "the reference: %s (%s)",
              st_verdict_name(theirs->verdict), theirs->why ? theirs->why : "-");
    if (status != LORS_OK) {
        return;
    }
    FUZZ_NEED((size_t)ours->n_tensors == theirs->n_tensors, "%zu tensors", theirs->n_tensors);
    for (size_t i = 0; i < theirs->n_tensors; i++) {
        compare_tensor(&ours->tensors[i], &theirs->tensors[i]);
    }
    FUZZ_NEED(!ours->format == !theirs->format, "__metadata__.format");
    size_t n_format =
        theirs->format_bytes < LORS_ST_MAX_NAME ? theirs->format_bytes : LORS_ST_MAX_NAME;
    FUZZ_NEED(!ours->format || memcmp(ours->format, theirs->format, n_format) == 0, "its value");
    FUZZ_NEED(ours->loose == theirs->loose, "loose: %d here", ours->loose);
}

/* Once more, with an allocation or a read that fails. */
static void parse_with_failure(image *file, lors_status good, uint64_t hash)
{
    lors_st_header *header = NULL;
    file->n_reads_good = hash % 3 == 0 ? (int64_t)(hash / 3 % 3) : -1;
    if (file->n_reads_good < 0) {
        fuzz_fail_one_allocation(hash / 3);
    }
    lors_status status = lors_st_parse("m", read_image, file, file->file_bytes, &header);
    fuzz_allocations_work();
    lors_status other = file->n_reads_good >= 0 ? LORS_ERR_IO : LORS_ERR_LIMIT;
    FUZZ_NEED(status == good || status == other, "%s, without a failure %s",
              lors_status_name(status), lors_status_name(good));
    FUZZ_NEED((status == LORS_OK) == (header != NULL), "a header");
    lors_st_free(header);
}

void fuzz_check_seed(const char *name, const uint8_t *data, size_t size)
{
    first_line line = read_first_line(data, size);
    image file = {.n_reads_good = -1};
    st_ref ref;
    build_image(data, size, &line, &file);
    st_ref_read(file.bytes, file.n_bytes, file.file_bytes, &ref);
    const char *verdict = st_verdict_name(ref.verdict);
    FUZZ_NEED(strncmp(name, verdict, strlen(verdict)) == 0, "%s: the restatement says %s (%s)",
              name, verdict, ref.why ? ref.why : "-");
    st_ref_free(&ref);
    free(file.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    first_line line = read_first_line(data, size);
    image file = {.n_reads_good = -1};
    lors_st_header *header = NULL;
    st_ref ref;
    build_image(data, size, &line, &file);
    st_ref_read(file.bytes, file.n_bytes, file.file_bytes, &ref);
    fuzz_allocations_work(); /* count from here */
    lors_status status = lors_st_parse("m", read_image, &file, file.file_bytes, &header);
    FUZZ_NEED((status == LORS_OK) == (header != NULL), "a header");
    fuzz_check_status(status, FUZZ_STATUS(INPUT));
    compare(status, header, &ref);
    parse_with_failure(&file, status, fuzz_hash(data, size));
    lors_st_free(header);
    st_ref_free(&ref);
    free(file.bytes);
    return 0;
}
