/* json.h - results as JSON on stdout. */
#ifndef LORS_CLI_JSON_H
#define LORS_CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

/* Values that are always valid: text that is not UTF-8 is escaped; a number that JSON cannot write
 * (NaN, infinity) becomes null. Like all of jansson's, they return NULL when memory is short, and
 * NULL put into an array or object is noticed there. */
json_t *cli_json_text(const char *text); /* NULL: null */
json_t *cli_json_number(double value);
json_t *cli_json_count(uint64_t value);
json_t *cli_json_shape(const int64_t *shape, int32_t n_dims);

/* Put a new value in; `*failed` becomes true where that is impossible (memory). */
void cli_json_put(json_t *object, const char *key, json_t *value, bool *failed);
void cli_json_append(json_t *array, json_t *value, bool *failed);

/* Print and free it, with an indent of two spaces and a last newline, or on one line. Returns the
 * exit code: 0, or that of short memory if `failed`. */
int cli_json_print(json_t *root, bool failed);
int cli_json_print_line(json_t *root, bool failed);

#endif
