/* json.c - build and print JSON with jansson. */
#include "cli/json.h"

#include <math.h>

#include "cli/messages.h"

/* Enough for every float, and 0.2 stays 0.2. */
enum { DIGITS = 15 };

json_t *cli_json_text(const char *text)
{
    char escaped[CLI_ESCAPED_MAX];
    json_t *value = text ? json_string(text) : json_null();
    return value ? value : json_string(cli_escape(text, escaped));
}

json_t *cli_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *cli_json_count(uint64_t value)
{
    return json_integer((json_int_t)value);
}

json_t *cli_json_shape(const int64_t *shape, int32_t n_dims)
{
    json_t *array = json_array();
    for (int32_t i = 0; i < n_dims; ++i) {
        if (json_array_append_new(array, json_integer(shape[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

void cli_json_put(json_t *object, const char *key, json_t *value, bool *failed)
{
    if (json_object_set_new(object, key, value) != 0)
        *failed = true;
}

void cli_json_append(json_t *array, json_t *value, bool *failed)
{
    if (json_array_append_new(array, value) != 0)
        *failed = true;
}

static int print_bytes(const char *bytes, size_t n_bytes, void *user)
{
    (void)user;
    cli_out_bytes(bytes, n_bytes);
    return 0;
}

static int print(json_t *root, bool failed, size_t flags)
{
    flags |= JSON_REAL_PRECISION(DIGITS) | JSON_ENCODE_ANY;
    if (failed || !root || json_dump_callback(root, print_bytes, NULL, flags) != 0) {
        json_decref(root);
        cli_error("out of memory while writing JSON");
        return lors_status_exit_code(LORS_ERR_LIMIT);
    }
    json_decref(root);
    return 0;
}

int cli_json_print(json_t *root, bool failed)
{
    int exit_code = print(root, failed, JSON_INDENT(2));
    if (exit_code == 0)
        cli_out("\n");
    return exit_code;
}

int cli_json_print_line(json_t *root, bool failed)
{
    return print(root, failed, 0);
}
