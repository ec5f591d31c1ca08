/* label.h - a path made printable for the sentence of an error. */
#ifndef LORS_IO_LABEL_H
#define LORS_IO_LABEL_H

#include "base/text.h"

/* Escaped as lors_escape does; of a long path the end is kept, which names the file. Returns
 * out. */
const char *lors_label(const char *path, char out[LORS_ESCAPED_MAX]);

#endif
