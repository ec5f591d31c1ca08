/* kill.c - the process is killed at every call that changes files: before, after, and within it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faults.h"

static const struct {
    const char *name;
    fault_kind fault;
} ways[] = {
    {"before", FAULT_KILL_BEFORE}, {"within", FAULT_KILL_HALF}, {"after", FAULT_KILL_AFTER}};
enum { N_WAYS = sizeof ways / sizeof *ways };

static bool changes(op_kind op)
{
    return op != OP_OPEN && op != OP_READ && op != OP_CLOSE && op != OP_LIST;
}

/* True if the process was killed, as it must be. */
static bool run_and_be_killed(variant v, const point *p, fault_kind fault)
{
    int result = 0;
    fflush(NULL);
    pid_t child = fork();
    NEED(child >= 0, "no process");
    if (child == 0) {
        table_arm(p, fault, 0, v != VARIANT_TWO_STEPS);
        scene_merge(v, 2);
        _exit(0);
    }
    NEED(waitpid(child, &result, 0) == child, "the process is lost");
    return WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL;
}

static void kill_at(variant v, const point *p, int way)
{
    char text[POINT_TEXT];
    begin_point("kill", v, "%s %s", point_text(p, text), ways[way].name);
    scene_reset(v);
    if (!run_and_be_killed(v, p, ways[way].fault)) {
        fail_point("the process was not killed");
    }
    outcome found = scene_outcome();
    bool good = found == OUT_NEW || found == (v == VARIANT_NEW ? OUT_NONE : OUT_OLD) ||
                (v == VARIANT_TWO_STEPS && found == OUT_ASIDE);
    if (!good) {
        fail_point("place/out is %s", outcome_name(found));
    }
    if (found == OUT_ASIDE) {
        scene_check_recovery(v); /* the next run brings it back */
    }
    table_arm(NULL, FAULT_NONE, 0, v != VARIANT_TWO_STEPS);
    lors_status status = scene_merge(VARIANT_REPLACE, 2);
    table_arm(NULL, FAULT_NONE, 0, true);
    if (status != LORS_OK) {
        fail_point("the next run: %s", lors_last_error());
    }
    scene_check(v, status);
}

void run_kill(const options *o)
{
    static point_list list;
    table_use();
    scene_init();
    for (variant v = o->first; v <= o->last; v++) {
        uint64_t index = 0, n_tried = 0, n_calls = 0;
        list.n = 0;
        scene_reset(v);
        table_arm(NULL, FAULT_NONE, 0, v != VARIANT_TWO_STEPS);
        table_note(&list);
        lors_status status = scene_merge(v, 2);
        table_note(NULL);
        NEED(status == LORS_OK, "a merge without faults");
        point_list_sort(&list);
        for (size_t i = 0; i < list.n; i++) {
            const point *p = &list.points[i];
            n_calls += changes(p->op);
            for (int w = 0; changes(p->op) && w < N_WAYS; w++) {
                char text[POINT_TEXT];
                bool fits = ways[w].fault != FAULT_KILL_HALF || p->op == OP_WRITE;
                if (fits && wanted(o, index++, "%s %s", point_text(p, text), ways[w].name)) {
                    kill_at(v, p, w);
                    n_tried++;
                }
            }
        }
        printf("kill %s: calls %llu, moments %llu, tried %llu\n", variant_name(v),
               (unsigned long long)n_calls, (unsigned long long)index, (unsigned long long)n_tried);
    }
}
