/* files.c - every call of the table of file operations fails in every way it can.
 *
 * Once, with all later calls that need room (a full disk), and with all later calls of any kind (a
 * disk that is gone); and transfers that move less than was asked for. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "faults.h"

static const struct way {
    const char *name;
    fault_kind fault;
    int error;
    bool harmless;  /* the merge must go on */
    unsigned calls; /* a bit for each op_kind that may fail so */
} ways[] = {
#define BIT(op) (1u << OP_##op)
#define READERS (BIT(OPEN) | BIT(READ) | BIT(LIST))
#define CHANGERS (BIT(CREATE) | BIT(MKDIR) | BIT(RENAME) | BIT(EXCHANGE) | BIT(UNLINK) | BIT(RMDIR))
#define WRITERS (BIT(WRITE) | BIT(ALLOCATE) | BIT(SYNC) | BIT(CLOSE))
    {"EIO", FAULT_ERROR, EIO, false, READERS | CHANGERS | WRITERS},
    {"ESTALE", FAULT_ERROR, ESTALE, false, READERS | CHANGERS | WRITERS},
    {"ENOSPC", FAULT_ERROR, ENOSPC, false, CHANGERS | WRITERS},
    {"EDQUOT", FAULT_ERROR, EDQUOT, false, CHANGERS | WRITERS},
    {"EACCES", FAULT_ERROR, EACCES, false, BIT(OPEN) | CHANGERS},
    {"EROFS", FAULT_ERROR, EROFS, false, CHANGERS},
    {"EMFILE", FAULT_ERROR, EMFILE, false, BIT(OPEN) | BIT(CREATE)},
    {"EBUSY", FAULT_ERROR, EBUSY, false, BIT(RENAME) | BIT(EXCHANGE) | BIT(UNLINK) | BIT(RMDIR)},
    {"EFBIG", FAULT_ERROR, EFBIG, false, BIT(WRITE) | BIT(ALLOCATE)},
    {"EOPNOTSUPP", FAULT_ERROR, EOPNOTSUPP, true, BIT(ALLOCATE) | BIT(EXCHANGE)},
    {"EINTR", FAULT_ERROR, EINTR, true,
     READERS | BIT(CREATE) | BIT(WRITE) | BIT(ALLOCATE) | BIT(CLOSE)},
    {"EINTR", FAULT_ERROR, EINTR, false, BIT(SYNC)},
    {"full", FAULT_FULL, ENOSPC, false, CHANGERS | WRITERS},
    {"gone", FAULT_DEAD, EIO, false, READERS | CHANGERS | WRITERS},
    {"one-byte", FAULT_ONE, 0, true, BIT(READ) | BIT(WRITE)},
    {"half", FAULT_HALF, 0, true, BIT(READ) | BIT(WRITE)},
    {"zero", FAULT_ZERO, 0, false, BIT(READ) | BIT(WRITE)},
};
enum { N_WAYS = sizeof ways / sizeof *ways };

static const char place[] = "place";

/* Without this call the output would be incomplete, or lost with the power: it may not be missed.
 * The folder that the output lies in is synced once for its name, then for what went away. */
static bool is_vital(variant v, const point *p)
{
    bool output = strncmp(p->path, place, sizeof place - 1) == 0;
    switch (p->op) {
    case OP_READ: return v != VARIANT_RESUME || !output; /* what was left is merged again */
    case OP_SYNC: return output && (p->nth == 1 || strcmp(p->path, place) != 0);
    case OP_WRITE:
    case OP_ALLOCATE:
    case OP_MKDIR:
    case OP_RENAME:
    case OP_CREATE: return output;
    default: return false;
    }
}

static void check(variant v, const point *p, const struct way *w, lors_status status)
{
    bool gone = w->fault == FAULT_DEAD || w->fault == FAULT_FULL;
    if (w->harmless && status != LORS_OK) {
        fail_point("%s: %s", lors_status_name(status), lors_last_error());
    }
    if (!w->harmless && status == LORS_OK && is_vital(v, p)) {
        fail_point("the merge succeeds");
    }
    bool truncated = w->fault == FAULT_ZERO && p->op == OP_READ &&
                     !strstr(lors_last_error(), "became shorter while it was copied");
    if (status != LORS_OK && status != (truncated ? LORS_ERR_INPUT : LORS_ERR_IO)) {
        fail_point("%s: %s", lors_status_name(status), lors_last_error());
    }
    if (!gone) {
        scene_check(v, status);
        return;
    }
    outcome found = scene_outcome();
    bool aside = v == VARIANT_TWO_STEPS && found == OUT_ASIDE && status != LORS_OK;
    bool good = found == (status == LORS_OK ? OUT_NEW : v == VARIANT_NEW ? OUT_NONE : OUT_OLD);
    /* A folder that was given its name, on a disk that then vanished: whole, though refused. */
    bool whole = found == OUT_NEW && strcmp(p->path, place) == 0;
    if (!good && !aside && !whole) {
        fail_point("%s: place/out is %s", lors_status_name(status), outcome_name(found));
    }
    scene_check_recovery(v);
}

static void fail_call(variant v, const point *p, const struct way *w)
{
    char text[POINT_TEXT];
    begin_point("files", v, "%s %s", point_text(p, text), w->name);
    scene_reset(v);
    table_arm(p, w->fault, w->error, v != VARIANT_TWO_STEPS);
    lors_status status = scene_merge(v, 2);
    bool hit = table_was_hit();
    table_arm(NULL, FAULT_NONE, 0, true);
    if (!hit) {
        fail_point("the merge does not come here");
    }
    check(v, p, w, status);
}

/* Every transfer of a whole merge moves one byte, or half of what was asked for. */
static void shorten_all(variant v, fault_kind fault, const char *name)
{
    begin_point("files", v, "%s", name);
    scene_reset(v);
    table_arm(NULL, fault, 0, v != VARIANT_TWO_STEPS);
    lors_status status = scene_merge(v, 2);
    table_arm(NULL, FAULT_NONE, 0, true);
    if (status != LORS_OK) {
        fail_point("%s: %s", lors_status_name(status), lors_last_error());
    }
    scene_check(v, status);
}

static void list_points(variant v, point_list *list)
{
    list->n = 0;
    scene_reset(v);
    table_arm(NULL, FAULT_NONE, 0, v != VARIANT_TWO_STEPS);
    table_note(list);
    lors_status status = scene_merge(v, 2);
    table_note(NULL);
    NEED(status == LORS_OK, "a merge without faults");
    scene_check(v, status);
    point_list_sort(list);
}

/* --- looking at an output -------------------------------------------------------------------- */

static void fail_look(const point *p, const struct way *w)
{
    char text[POINT_TEXT];
    begin_point("files", VARIANT_REPLACE, "looking %s %s", point_text(p, text), w->name);
    table_arm(p, w->fault, w->error, true);
    lors_status status = scene_look();
    bool hit = table_was_hit();
    table_arm(NULL, FAULT_NONE, 0, true);
    bool truncated = w->fault == FAULT_ZERO && p->op == OP_READ;
    /* What verify opens, it opens once; the others try again. */
    bool retried = p->op == OP_OPEN && (p->nth > 1 || strncmp(p->path, place, 5) != 0);
    bool good = w->harmless ? status == LORS_OK
                            : status == (truncated ? LORS_ERR_INPUT : LORS_ERR_IO) ||
                                  (status == LORS_OK && (retried || p->op == OP_CLOSE));
    if (!hit || !good) {
        fail_point("%s: %s", lors_status_name(status), hit ? lors_last_error() : "not reached");
    }
    if (status != LORS_OK) {
        scene_check_sentence(status);
    }
    scene_check_descriptors();
}

static void run_looking(const options *o)
{
    static point_list list;
    uint64_t index = 0, n_tried = 0;
    scene_reset(VARIANT_REPLACE);
    list.n = 0;
    table_arm(NULL, FAULT_NONE, 0, true);
    table_note(&list);
    lors_status status = scene_look();
    table_note(NULL);
    NEED(status == LORS_OK, "looking without faults");
    point_list_sort(&list);
    for (size_t i = 0; i < list.n; i++) {
        for (int w = 0; w < N_WAYS; w++) {
            char text[POINT_TEXT];
            point_text(&list.points[i], text);
            if (ways[w].calls >> list.points[i].op & 1 &&
                wanted(o, index++, "looking %s %s", text, ways[w].name)) {
                fail_look(&list.points[i], &ways[w]);
                n_tried++;
            }
        }
    }
    printf("files looking: calls %zu, faults %llu, tried %llu\n", list.n, (unsigned long long)index,
           (unsigned long long)n_tried);
}

void run_files(const options *o)
{
    static point_list list;
    table_use();
    scene_init();
    for (variant v = o->first; v <= o->last; v++) {
        uint64_t index = 0, n_tried = 0;
        list_points(v, &list);
        for (size_t i = 0; i < list.n; i++) {
            for (int w = 0; w < N_WAYS; w++) {
                char text[POINT_TEXT];
                if (!(ways[w].calls >> list.points[i].op & 1)) {
                    continue;
                }
                point_text(&list.points[i], text);
                if (wanted(o, index++, "%s %s", text, ways[w].name)) {
                    fail_call(v, &list.points[i], &ways[w]);
                    n_tried++;
                }
            }
        }
        if (!o->only) {
            shorten_all(v, FAULT_ALL_ONE, "all-one-byte");
            shorten_all(v, FAULT_ALL_HALF, "all-half");
        }
        printf("files %s: calls %zu, faults %llu, tried %llu\n", variant_name(v), list.n,
               (unsigned long long)index, (unsigned long long)n_tried);
    }
    run_looking(o);
}
