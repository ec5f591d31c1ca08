/* power.c - the power is cut after every operation of a run, and the disk keeps what it likes.
 *
 * A run is recorded and played on the model of disk.c. After every prefix of it, many states of the
 * disk are drawn: what is left must be the output as it was, or the new one, byte for byte, and
 * once the run has said that it is done, the new one. Each state is also written to real folders,
 * where the next run must find its way, and go on from what an interrupted run had finished. A run
 * during which a call fails, and two runs one after another, are cut likewise. To show that the
 * model notices: the syncs of each path are left out in turn, and some state must then be wrong. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <lors/lors.h>

#include "disk.h"
#include "faults.h"
#include "io/staging.h"
#include "run_models.h"

enum { MAX_RUNS = 2, SEEN = 1 << 18, HUNTED = 20 };
static const char staging_path[] = "place/.out.lors-staging";

/* One or two runs, the first perhaps with a fault, and what they did. */
typedef struct story {
    variant v;
    const char *name;
    int n_runs;
    trace done;
    size_t ends[MAX_RUNS], from; /* where each run ends; the first prefix that is looked at */
    bool failed[MAX_RUNS];
    int64_t n_promised; /* tensors that the first run, which fails, keeps for the next */
    bool has_tree[MAX_RUNS + 1];
    tree trees[MAX_RUNS + 1]; /* the output before, and what each run was about to give its name */
} story;

static struct {
    uint64_t states, distinct, resumed, n_seen;
    uint64_t seen[SEEN]; /* hashes, 0: none; per story */
} counts;

/* --- telling the story ----------------------------------------------------------------------- */

static void tell_run(story *s, int run, const point *fault)
{
    table_arm(fault, fault ? FAULT_ERROR : FAULT_NONE, EIO, s->v != VARIANT_TWO_STEPS);
    lors_status status = run == 0 ? scene_merge(s->v, 1) : scene_merge_again(1);
    NEED(status == LORS_OK || fault, "run %d: %s", run, lors_last_error());
    s->failed[run] = status != LORS_OK;
    s->n_promised = run == 0 ? scene_said().n_promised : s->n_promised;
    s->ends[run] = s->done.n;
}

/* What each run was about to put in place: the staging folder when it is first renamed. */
static void find_trees(story *s)
{
    disk *d = disk_new(scene_old(s->v), scene_left(s->v));
    s->has_tree[0] = disk_folder(d, "out", &s->trees[0]);
    size_t at = 0;
    for (int run = 0; run < s->n_runs; run++) {
        for (; at < s->ends[run]; at++) {
            const trace_op *op = &s->done.ops[at];
            bool moves = op->op == OP_RENAME || op->op == OP_EXCHANGE;
            if (moves && strcmp(op->path, staging_path) == 0 && !s->has_tree[run + 1]) {
                s->has_tree[run + 1] = disk_folder(d, ".out.lors-staging", &s->trees[run + 1]);
            }
            disk_apply(d, op);
        }
    }
    disk_free(d);
}

static void tell_story(story *s, const point *fault, const char *without)
{
    scene_reset(s->v);
    table_trace(&s->done, without);
    for (int run = 0; run < s->n_runs; run++) {
        tell_run(s, run, run == 0 ? fault : NULL);
    }
    s->from = fault ? table_hit_at() : 0;
    table_trace(NULL, NULL);
    table_arm(NULL, FAULT_NONE, 0, true);
    find_trees(s);
}

static void clear_story(story *s)
{
    for (int i = 0; i <= MAX_RUNS; i++) {
        tree_clear(&s->trees[i]);
    }
    trace_clear(&s->done);
}

/* --- judging a state -------------------------------------------------------------------------- */

/* The outputs that may be there after a prefix: of the last run that succeeded, and of one that is
 * under way or failed, whose folder may have its name already. */
static void find_allowed(const story *s, size_t prefix, int *last, int *other)
{
    *last = 0;
    *other = 0;
    for (int run = 0; run < s->n_runs; run++) {
        bool begun = run == 0 || prefix >= s->ends[run - 1], ended = prefix >= s->ends[run];
        if (ended && !s->failed[run]) {
            *last = *other = run + 1;
        } else if (begun && s->has_tree[run + 1]) {
            *other = run + 1;
        }
    }
}

static bool is_allowed(const story *s, size_t prefix, const tree *out)
{
    int last, other;
    find_allowed(s, prefix, &last, &other);
    if (!out) {
        return !s->has_tree[last];
    }
    return (s->has_tree[last] && tree_same(out, &s->trees[last], NULL)) ||
           (s->has_tree[other] && tree_same(out, &s->trees[other], NULL));
}

/* Put aside whole, where two steps replace it: the next run brings it back. */
static bool is_aside(const story *s, size_t prefix, const image *left)
{
    int last, other;
    const tree *aside = image_folder(left, ".out.lors-old");
    find_allowed(s, prefix, &last, &other);
    return s->v == VARIANT_TWO_STEPS && aside && s->has_tree[last] &&
           tree_same(aside, &s->trees[last], NULL);
}

/* Has the run, which failed, said that there is something to go on from? */
static bool has_promised(const story *s, size_t prefix)
{
    return s->n_runs == 1 && prefix >= s->ends[0] && s->n_promised > 0;
}

/* Is a run on its way to remove what it had written? The journal may outlive it. */
static bool has_removed(const story *s, size_t prefix)
{
    for (size_t i = 0; i < prefix; i++) {
        const trace_op *op = &s->done.ops[i];
        if (op->op == OP_UNLINK && strncmp(op->path, staging_path, strlen(staging_path)) == 0 &&
            strstr(op->path, ".safetensors")) {
            return true;
        }
    }
    return false;
}

/* The next run goes on from what is there, to the same end. What was noted is there, and so is all
 * that a run said it would keep. */
static const char *judge_resumed(const story *s, size_t prefix)
{
    if (scene_merge(VARIANT_RESUME, 1) != LORS_OK) {
        return lors_last_error();
    }
    counts.resumed += scene_said().n_resumed > 0;
    bool less = has_promised(s, prefix) && scene_said().n_resumed < s->n_promised;
    bool damaged = scene_said().damaged && !has_removed(s, prefix);
    return damaged                      ? "what was noted is not there"
           : less                       ? "less is kept than was said"
           : scene_outcome() != OUT_NEW ? "what is resumed is not the new output"
           : !scene_is_clean()          ? "what is resumed leaves something"
                                        : NULL;
}

/* In real folders: the next run is not refused, clears away, and leaves what it finds whole. */
static const char *judge_written(const story *s, size_t prefix, const image *left)
{
    lors_staging *staging = NULL;
    tree found;
    rm_remove("place");
    NEED(mkdir("place", 0777) == 0, "place");
    image_write(left, "place");
    if (s->v == VARIANT_RESUME) {
        return judge_resumed(s, prefix);
    }
    if (lors_staging_open("place/out", true, &staging) != LORS_OK) {
        return lors_last_error();
    }
    lors_staging_close(staging);
    bool there = tree_read("place/out", &found);
    bool good = is_allowed(s, prefix, there ? &found : NULL) && there == rm_exists("place/out");
    tree_clear(&found);
    return !good               ? "the next run spoils it"
           : !scene_is_clean() ? "the next run leaves something"
           : there && lors_verify("place/out", NULL, NULL) != LORS_OK ? lors_last_error()
                                                                      : NULL;
}

/* NULL, or what is wrong. Of states that are alike only the first is judged. */
static const char *judge(const story *s, size_t prefix, const image *left)
{
    uint64_t hash = image_hash(left) + 1;
    const tree *out = image_folder(left, "out");
    int last, other;
    find_allowed(s, prefix, &last, &other);
    hash += (uint64_t)(last * 8 + other * 2 + has_promised(s, prefix)) * 0x9e3779b97f4a7c15u;
    size_t at = hash % SEEN;
    counts.states++;
    for (; counts.seen[at] != 0; at = (at + 1) % SEEN) {
        if (counts.seen[at] == hash) {
            return NULL;
        }
    }
    counts.seen[at] = hash;
    counts.distinct++;
    NEED(++counts.n_seen < SEEN / 2, "too many states");
    if (!is_allowed(s, prefix, out) && !(!out && is_aside(s, prefix, left))) {
        return !out ? "the output is lost" : "the output is neither the old nor the new one";
    }
    return judge_written(s, prefix, left);
}

/* --- cutting the power ------------------------------------------------------------------------ */

/* All prefixes, each with so many states. With `hunt` the first wrong state is only counted, and
 * ends it. Returns the number of wrong ones. */
static uint64_t cut_story(const options *o, story *s, uint64_t n_states, bool hunt)
{
    static image left;
    uint64_t index = 0, n_wrong = 0;
    disk *d = disk_new(scene_old(s->v), scene_left(s->v));
    memset(counts.seen, 0, sizeof counts.seen);
    counts.n_seen = 0;
    for (size_t prefix = 0; prefix <= s->done.n && !(hunt && n_wrong > 0); prefix++) {
        for (uint64_t seed = 0; seed < n_states && prefix >= s->from; seed++) {
            if (!hunt && !wanted(o, index++, "%s, cut %zu.%llu", s->name, prefix,
                                 (unsigned long long)seed)) {
                continue;
            }
            begin_point("power", s->v, "%s, cut %zu.%llu", s->name, prefix,
                        (unsigned long long)seed);
            disk_cut(d, seed, &left);
            const char *wrong = judge(s, prefix, &left);
            image_clear(&left);
            if (wrong) {
                n_wrong++;
                if (hunt) {
                    break;
                }
                const trace_op *op = prefix > 0 ? &s->done.ops[prefix - 1] : NULL;
                fail_point("after operation %zu (%s %s): %s", prefix, op ? op_name(op->op) : "none",
                           op && op->path ? op->path : "", wrong);
            }
        }
        if (prefix < s->done.n) {
            disk_apply(d, &s->done.ops[prefix]);
        }
    }
    disk_free(d);
    return n_wrong;
}

static size_t cut_runs(const options *o, variant v, int n_runs)
{
    story s = {.v = v, .name = n_runs == 1 ? "one run" : "two runs", .n_runs = n_runs};
    tell_story(&s, NULL, o->without);
    cut_story(o, &s, o->n_states, false);
    size_t n = s.done.n;
    clear_story(&s);
    return n;
}

/* --- runs that fail --------------------------------------------------------------------------- */

static void list_changes(variant v, point_list *list)
{
    size_t n = 0;
    list->n = 0;
    scene_reset(v);
    table_arm(NULL, FAULT_NONE, 0, v != VARIANT_TWO_STEPS);
    table_note(list);
    NEED(scene_merge(v, 1) == LORS_OK, "a merge without faults");
    table_note(NULL);
    point_list_sort(list);
    for (size_t i = 0; i < list->n; i++) {
        op_kind op = list->points[i].op;
        if (op != OP_OPEN && op != OP_READ && op != OP_CLOSE && op != OP_LIST) {
            list->points[n++] = list->points[i];
        }
    }
    list->n = n;
}

static void cut_failed_runs(const options *o, variant v, const point_list *list)
{
    options every = *o;
    every.stride = 1;
    for (size_t i = 0; i < list->n; i++) {
        char text[POINT_TEXT];
        point_text(&list->points[i], text);
        bool named = o->only && strstr(o->only, text); /* wanted() looks closer */
        if (o->only ? !named : i % o->stride != 0) {
            continue;
        }
        story s = {.v = v, .name = text, .n_runs = 1};
        tell_story(&s, &list->points[i], NULL);
        cut_story(&every, &s, o->n_states, false);
        clear_story(&s);
    }
}

/* --- does it notice? ------------------------------------------------------------------------- */

/* The journal is for what is said when a run fails behind the last tensor. */
static const point *fault_behind(const point_list *list, const char *path)
{
    const char *name = strrchr(path, '/');
    for (size_t i = 0; name && strcmp(name + 1, LORS_STAGING_NOTE) == 0 && i < list->n; i++) {
        if (list->points[i].op == OP_CREATE && strstr(list->points[i].path, "/lors.json")) {
            return &list->points[i];
        }
    }
    return NULL;
}

/* Without the syncs of a path some state must be wrong: else nobody knows what they are for. */
static void miss_sync(const options *o, variant v, const point_list *list, const char *path)
{
    story s = {.v = v, .name = "without a sync", .n_runs = 1};
    tell_story(&s, fault_behind(list, path), path);
    while (s.from < s.done.n && s.done.ops[s.from].op != OP_RENAME &&
           s.done.ops[s.from].op != OP_EXCHANGE) {
        s.from++; /* before it nothing can be wrong */
    }
    uint64_t n_wrong = cut_story(o, &s, HUNTED, true);
    clear_story(&s);
    if (n_wrong == 0) {
        begin_point("power", v, "one run --without %s", path);
        fail_point("no state of the disk shows that this path must be synced");
    }
}

/* An interrupted run may have written all of a file. */
static bool is_whole(const point_list *list, const char *path)
{
    bool written = !strstr(path, ".safetensors");
    for (size_t i = 0; i < list->n && !written; i++) {
        written = list->points[i].op == OP_WRITE && strcmp(list->points[i].path, path) == 0;
    }
    return !written;
}

static int miss_each_sync(const options *o, variant v, const point_list *list)
{
    int n = 0;
    for (size_t i = 0; i < list->n; i++) {
        const point *p = &list->points[i];
        if (p->op == OP_SYNC && p->nth == 1 && !is_whole(list, p->path)) {
            miss_sync(o, v, list, p->path);
            n++;
        }
    }
    return n;
}

void run_power(const options *o)
{
    static point_list list;
    table_use();
    scene_init();
    for (variant v = o->first; v <= o->last; v++) {
        int n_syncs = 0;
        counts.states = counts.distinct = counts.resumed = 0;
        list_changes(v, &list);
        size_t n_one = cut_runs(o, v, 1), n_two = cut_runs(o, v, 2);
        if (!o->without) {
            cut_failed_runs(o, v, &list);
        }
        uint64_t states = counts.states, distinct = counts.distinct, resumed = counts.resumed;
        if (!o->without && !o->only) {
            n_syncs = miss_each_sync(o, v, &list);
        }
        printf("power %s: operations %zu, of two runs %zu, failing runs %zu, states %llu, distinct "
               "%llu, resumed %llu, syncs left out %d\n",
               variant_name(v), n_one, n_two, list.n / o->stride, (unsigned long long)states,
               (unsigned long long)distinct, (unsigned long long)resumed, n_syncs);
        NEED(v != VARIANT_RESUME || resumed > 0 || o->only || o->without, "nothing is resumed");
    }
}
