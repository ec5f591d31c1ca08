/* label.c - a path made printable for the sentence of an error. */
#include "io/label.h"

#include <string.h>

const char *lors_label(const char *path, char out[LORS_ESCAPED_MAX])
{
    enum { SHOWN_BYTES = 190 }; /* below the 200 bytes after which lors_escape cuts the end off */
    size_t n_bytes = strlen(path);
    if (n_bytes <= SHOWN_BYTES) {
        return lors_escape(path, n_bytes, out);
    }
    char tail[LORS_ESCAPED_MAX];
    path += n_bytes - SHOWN_BYTES;
    while (((unsigned char)*path & 0xc0) == 0x80) { /* not within a UTF-8 sequence */
        path++;
    }
    size_t n_tail = strlen(lors_escape_text(path, tail)); /* at most 4 * SHOWN_BYTES */
    memcpy(out, "...", 3);
    memcpy(out + 3, tail, n_tail + 1);
    return out;
}
