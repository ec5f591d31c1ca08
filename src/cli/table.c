/* table.c - columns as wide as their widest cell. */
#include "cli/table.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A name longer than this shifts its own line instead of widening all of them. */
enum { WIDTH_MAX = 72 };

typedef struct table {
    const cli_column *columns;
    int32_t n_columns;
    int width[CLI_COLUMNS_MAX];
    cli_cell cells[CLI_COLUMNS_MAX];
} table;

/* Characters, not bytes: continuation bytes of UTF-8 take no room. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; ++text)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void clear_cells(table *self)
{
    for (int32_t i = 0; i < self->n_columns; ++i)
        self->cells[i][0] = '\0';
}

static void measure(table *self)
{
    for (int32_t i = 0; i < self->n_columns; ++i) {
        int width = width_of(self->cells[i]);
        if (width > self->width[i])
            self->width[i] = width < WIDTH_MAX ? width : WIDTH_MAX;
    }
}

static void print_row(const table *self)
{
    int32_t last = self->n_columns - 1;
    while (last > 0 && !self->cells[last][0]) /* no spaces at the end of a line */
        --last;
    for (int32_t i = 0; i <= last; ++i) {
        int pad = self->width[i] - width_of(self->cells[i]);
        int before = self->columns[i].right && pad > 0 ? pad : 0;
        int after = self->columns[i].right || pad < 0 || i == last ? 0 : pad;
        cli_out("%*s%s%*s%s", before, "", self->cells[i], after, "", i == last ? "\n" : "  ");
    }
}

void cli_table(const cli_column *columns, int32_t n_columns, int64_t n_rows, cli_row_fn fill,
               void *user)
{
    table self = {.columns = columns, .n_columns = n_columns};
    for (int pass = 0; pass < 2; ++pass) {
        for (int32_t i = 0; i < n_columns; ++i)
            cli_fill(self.cells[i], "%s", columns[i].title);
        for (int64_t row = 0;; ++row) {
            if (pass == 0)
                measure(&self);
            else
                print_row(&self);
            if (row == n_rows)
                break;
            clear_cells(&self);
            fill(row, self.cells, user);
        }
    }
}

char *cli_format_shape(const int64_t *shape, int32_t n_dims, cli_cell out)
{
    enum { ONE_MORE = 24 };
    size_t used = (size_t)snprintf(out, CLI_ESCAPED_MAX, "%s", n_dims == 0 ? "scalar" : "");
    for (int32_t i = 0; i < n_dims; ++i) {
        const char *before = i == 0 ? "" : "x";
        if (used + ONE_MORE > CLI_ESCAPED_MAX) {
            snprintf(out + used, CLI_ESCAPED_MAX - used, "...");
            break;
        }
        used +=
            (size_t)snprintf(out + used, CLI_ESCAPED_MAX - used, "%s%" PRId64, before, shape[i]);
    }
    return out;
}

void cli_fill(cli_cell cell, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(cell, CLI_ESCAPED_MAX, format, arguments);
    va_end(arguments);
}
