/* st_foreign.c - the length in front of a header, and what files without one really are. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "io/st_internal.h"

enum { FIRST_BYTES = 64 };

typedef struct foreign_kind {
    const char *magic;
    const char *sentence;
} foreign_kind;

#define CONVERT "convert it to safetensors first (load it with its own library and save it again)"

static const foreign_kind foreign_kinds[] = {
    {"version https://git-lfs",
     "a Git LFS pointer, not the model itself: run `git lfs pull` in its "
     "repository"},
    {"<", "a web page saved as a model: download it again (a login or a licence may be needed)"},
    {"Entry not found", "a hub's answer that there is no such file: download it again"},
    {"PK\x03\x04", "a PyTorch zip file: " CONVERT},
    {"\x80\x02", "a Python pickle: " CONVERT},
    {"GGUF", "a GGUF file: get the model in Hugging Face format"},
    {"lmgg", "a whisper.cpp file: get the model in Hugging Face format"},
    {"\x89HDF", "an HDF5 file: " CONVERT},
    {"\x1f\x8b", "a gzip archive: unpack it first"},
};

static lors_status check_foreign(const char *label, const char *first, size_t n_bytes)
{
    size_t at = 0;
    while (at < n_bytes && strchr(" \t\r\n", first[at]) && first[at]) {
        at++;
    }
    for (size_t i = 0; i < sizeof foreign_kinds / sizeof foreign_kinds[0]; i++) {
        size_t length = strlen(foreign_kinds[i].magic);
        if (length <= n_bytes - at && memcmp(first + at, foreign_kinds[i].magic, length) == 0) {
            return lors_fail(LORS_ERR_INPUT, "%s: byte %zu: this is %s", label, at,
                             foreign_kinds[i].sentence);
        }
    }
    return LORS_OK;
}

/* A well-formed file is never taken for
 * something else: the first bytes are looked at only once the length makes no sense. */
lors_status lors_st_read_length(const char *label, lors_st_read_fn read, void *source,
                                uint64_t file_bytes, uint64_t *n_header)
{
    char first[FIRST_BYTES];
    size_t n_first = file_bytes < sizeof first ? (size_t)file_bytes : sizeof first;
    LORS_TRY(read(source, 0, first, n_first));
    uint64_t n = 0;
    for (size_t i = 0; i < 8 && i < n_first; i++) {
        n |= (uint64_t)(unsigned char)first[i] << (8 * i);
    }
    if (n_first < 8 || n > LORS_ST_MAX_HEADER) {
        LORS_TRY(check_foreign(label, first, n_first));
    }
    if (n_first < 8) {
        return lors_fail(LORS_ERR_INPUT,
                         "%s: byte %zu: the file ends before its header (found %zu bytes, at least "
                         "8 are needed): the download is incomplete, get it again",
                         label, n_first, n_first);
    }
    if (n > LORS_ST_MAX_HEADER) {
        return lors_fail(LORS_ERR_INPUT,
                         "%s: byte 0: header of %" PRIu64 " bytes (allowed: up to %d): this is no "
                         "safetensors file, or its beginning is damaged",
                         label, n, LORS_ST_MAX_HEADER);
    }
    if (n > file_bytes - 8) {
        return lors_fail(LORS_ERR_INPUT,
                         "%s: byte %" PRIu64 ": the file ends within its header: %" PRIu64
                         " bytes of it are missing: the download is incomplete, get it again",
                         label, file_bytes, n - (file_bytes - 8));
    }
    *n_header = n;
    return LORS_OK;
}
