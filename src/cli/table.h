/* table.h - aligned columns of any length, without keeping the rows in memory. */
#ifndef LORS_CLI_TABLE_H
#define LORS_CLI_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/messages.h"

enum { CLI_COLUMNS_MAX = 8 };

typedef struct cli_column {
    const char *title;
    bool right; /* numbers are aligned to the right */
} cli_column;

/* Text of the cells of one row; each holds what cli_escape may write. */
typedef char cli_cell[CLI_ESCAPED_MAX];

/* Fill the cells of a row (they come as empty strings). Called twice for every row: once to measure
 * and once to print. */
typedef void (*cli_row_fn)(int64_t row, cli_cell *cells, void *user);

/* Print a title line and all rows. */
void cli_table(const cli_column *columns, int32_t n_columns, int64_t n_rows, cli_row_fn fill,
               void *user);

/* "384x80x3"; "scalar" without dimensions; cut with "..." where it does not fit. Returns out. */
char *cli_format_shape(const int64_t *shape, int32_t n_dims, cli_cell out);

/* Write into a cell. */
void cli_fill(cli_cell cell, const char *format, ...) CLI_PRINTF(2, 3);

#endif
