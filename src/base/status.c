/* status.c - the table of statuses: name, meaning, exit code. */
#include <lors/status.h>

typedef struct status_row {
    const char *name, *meaning;
    int exit_code;
} status_row;

static const status_row rows[LORS_STATUS_COUNT] = {
#define STATUS_ROW(name, exit_code, sentence) [LORS_##name] = {#name, sentence, exit_code},
    LORS_STATUS_LIST(STATUS_ROW)
#undef STATUS_ROW
};

static const status_row *row_of(lors_status status)
{
    int index = (int)status;
    return &rows[index >= 0 && index < LORS_STATUS_COUNT ? index : LORS_ERR_INTERNAL];
}

const char *lors_status_name(lors_status status)
{
    return row_of(status)->name;
}

const char *lors_status_meaning(lors_status status)
{
    return row_of(status)->meaning;
}

int lors_status_exit_code(lors_status status)
{
    return row_of(status)->exit_code;
}
