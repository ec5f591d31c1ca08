/* run_child.c - a merge in a process of its own. It leaves what it has to say in shared memory,
 * and ends by exit, so that a leak checker has its word, but over the stand-in for a device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lors/lors.h>

#include "base/file.h"
#include "run/run_internal.h"
#include "run_child.h"
#include "run_models.h"

/* ---- A file table that counts, kills and fails ----------------------------------------------- */

static const lors_file_ops *real;
static const rc_merge *wanted;
static rc_outcome *said; /* shared with the parent */
static _Atomic int64_t n_operations, n_writes, n_syncs;

/* Writes that no sync has followed: what a power cut may lose. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct unsynced {
    char path[256];
    off_t at;
    size_t n_bytes;
} unsynced[1024];
static int n_unsynced;

/* After a write: one that is not noted yet when a sync begins is not held to be synced. */
static void note_write(int fd, off_t at, size_t n_bytes)
{
    struct unsynced write = {.at = at, .n_bytes = n_bytes};
    rm_path_of(fd, write.path, sizeof write.path);
    pthread_mutex_lock(&lock);
    if (n_unsynced < (int)(sizeof unsynced / sizeof *unsynced)) {
        unsynced[n_unsynced++] = write;
    }
    pthread_mutex_unlock(&lock);
}

/* A sync of the file, with those writes that it follows. */
static int sync_noted(int fd)
{
    char path[256];
    rm_path_of(fd, path, sizeof path);
    pthread_mutex_lock(&lock);
    int result = real->fsync(fd), n_left = 0;
    for (int i = 0; i < n_unsynced; i++) {
        if (result != 0 || strcmp(unsynced[i].path, path) != 0) {
            unsynced[n_left++] = unsynced[i];
        }
    }
    n_unsynced = n_left;
    pthread_mutex_unlock(&lock);
    return result;
}

static void lose_unsynced(void)
{
    static const char zeros[1 << 16];
    pthread_mutex_lock(&lock);
    for (int i = 0; i < n_unsynced; i++) {
        int fd = real->open(unsynced[i].path, O_WRONLY, 0);
        off_t end = unsynced[i].at + (off_t)unsynced[i].n_bytes;
        for (off_t at = unsynced[i].at; fd >= 0 && at < end; at += (off_t)sizeof zeros) {
            size_t n = end - at < (off_t)sizeof zeros ? (size_t)(end - at) : sizeof zeros;
            (void)!real->pwrite(fd, zeros, n, at);
        }
    }
}

static void operate(void)
{
    if (++n_operations == wanted->kill_at) {
        if (wanted->power_cut) {
            lose_unsynced();
        }
        kill(getpid(), SIGKILL);
        pause();
    }
}

static int counted_open(const char *path, int flags, mode_t mode)
{
    operate();
    return real->open(path, flags, mode);
}

static ssize_t counted_pread(int fd, void *buffer, size_t n_bytes, off_t offset)
{
    operate();
    return real->pread(fd, buffer, n_bytes, offset);
}

/* A write that is killed has written half of its bytes. */
static ssize_t counted_pwrite(int fd, const void *buffer, size_t n_bytes, off_t offset)
{
    if (wanted->cancel_at > 0) { /* the caller is asked ten times a second: not so fast */
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    if (wanted->kill_at && n_operations + 1 == wanted->kill_at) {
        (void)!real->pwrite(fd, buffer, n_bytes / 2, offset);
    }
    operate();
    if (wanted->full_at && ++n_writes >= wanted->full_at) {
        errno = ENOSPC;
        return -1;
    }
    n_writes += !wanted->full_at;
    ssize_t n_written = real->pwrite(fd, buffer, n_bytes, offset);
    if (wanted->power_cut && n_written > 0) {
        note_write(fd, offset, (size_t)n_written);
    }
    return n_written;
}

static int counted_allocate(int fd, off_t offset, off_t n_bytes)
{
    operate();
    return real->allocate(fd, offset, n_bytes);
}

static int counted_fsync(int fd)
{
    operate();
    if (++n_syncs == wanted->no_sync_at) {
        rm_path_of(fd, said->not_synced, sizeof said->not_synced);
        errno = EIO;
        return -1;
    }
    return wanted->power_cut ? sync_noted(fd) : real->fsync(fd);
}

static int counted_mkdir(const char *path, mode_t mode)
{
    operate();
    return real->mkdir(path, mode);
}

/* How much of the weights a power cut would lose now. */
static void count_unsynced(void)
{
    pthread_mutex_lock(&lock);
    said->n_unsynced = 0;
    for (int i = 0; i < n_unsynced; i++) {
        said->n_unsynced += strstr(unsynced[i].path, ".safetensors") != NULL;
    }
    pthread_mutex_unlock(&lock);
}

static int counted_rename(const char *from, const char *to)
{
    operate();
    count_unsynced();
    return real->rename(from, to);
}

static int counted_unlink(const char *path)
{
    operate();
    return real->unlink(path);
}

static void set_table(void)
{
    static lors_file_ops table;
    real = lors_file_table();
    table = *real;
    table.open = counted_open;
    table.pread = counted_pread;
    table.pwrite = counted_pwrite;
    table.allocate = counted_allocate;
    table.fsync = counted_fsync;
    table.mkdir = counted_mkdir;
    table.rename = counted_rename;
    table.unlink = counted_unlink;
    lors_file_set_table(&table);
}

/* ---- The child ------------------------------------------------------------------------------- */

static void keep_note(const char *sentence, void *user)
{
    (void)user;
    snprintf(said->note, sizeof said->note, "%s", sentence);
}

static bool watch(const lors_progress *progress, void *user)
{
    static bool meddled;
    (void)user;
    said->done_bytes = progress->done_bytes;
    if (wanted->meddle && !meddled) {
        meddled = true;
        wanted->meddle();
    }
    return wanted->cancel_at && progress->done_tensors >= wanted->cancel_at;
}

static void merge_in_child(void)
{
    rm_options options = RM_OPTIONS_INIT;
    lors_report_summary summary = {0};
    options.keep_out = true;
    options.plan.n_threads = wanted->n_threads;
    options.plan.max_memory_bytes = wanted->max_memory;
    options.plan.max_shard_bytes = wanted->max_shard;
    options.plan.seed = wanted->seed ? &wanted->seed : NULL;
    options.run.resume = wanted->resume;
    options.run.force = wanted->force;
    options.run.note = keep_note;
    options.run.progress = watch;
    if (!wanted->default_pace) {
        lors_run_journal_pace(500, 0.02);
    }
    set_table();
    said->status = rm_merge(wanted->recipe, wanted->out, &options, &summary);
    lors_file_set_table(NULL);
    said->n_resumed = summary.n_resumed;
    said->n_operations = n_operations;
    said->n_writes = n_writes;
    said->n_syncs = n_syncs;
    snprintf(said->sentence, sizeof said->sentence, "%s",
             said->status == LORS_OK ? "" : lors_last_error());
}

static void kill_after(pid_t child, double seconds)
{
    struct timespec wait = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
    nanosleep(&wait, NULL);
    kill(child, SIGKILL);
}

rc_outcome rc_run(const rc_merge *merge)
{
    int state = 0;
    wanted = merge;
    said = mmap(NULL, sizeof *said, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(said != MAP_FAILED);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        merge_in_child();
        exit(0);
    }
    if (merge->kill_after > 0) {
        kill_after(child, merge->kill_after);
    }
    assert_int_equal(waitpid(child, &state, 0), child);
    rc_outcome outcome = *said;
    outcome.killed = WIFSIGNALED(state) && WTERMSIG(state) == SIGKILL;
    munmap(said, sizeof *said);
    if (!outcome.killed && !(WIFEXITED(state) && WEXITSTATUS(state) == 0)) {
        fprintf(stderr, "the merge ended in state %#x: %s\n", (unsigned)state, outcome.sentence);
        fail();
    }
    return outcome;
}

/* ---- What it left ---------------------------------------------------------------------------- */

static void drop_what_differs(json_t *value)
{
    static const char *const keys[] = {"seconds", "peak_bytes", "resumed_tensors", "workers",
                                       "sha256_of_the_above"};
    const char *key;
    json_t *inner;
    size_t i;
    for (i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_object_del(value, keys[i]);
    }
    const json_t *stages = json_object_get(value, "stages");
    if (json_object_get(stages, "read")) { /* those of the work; of documents it is a list */
        json_object_del(value, "stages");
    }
    json_object_foreach(value, key, inner)
    {
        drop_what_differs(inner);
    }
    json_array_foreach(value, i, inner)
    {
        drop_what_differs(inner);
    }
}

static json_t *load_report(const char *path)
{
    json_error_t error;
    json_t *report = json_load_file(path, 0, &error);
    if (!report) {
        fprintf(stderr, "%s: %s\n", path, error.text);
        fail();
    }
    drop_what_differs(report);
    return report;
}

static bool same_reports(const char *a, const char *b)
{
    json_t *one = load_report(a), *other = load_report(b);
    bool same = json_equal(one, other);
    json_decref(one);
    json_decref(other);
    return same;
}

rc_outcome rc_interrupt(rc_merge merge, int n_tensors)
{
    char staging[256];
    rc_outcome outcome = {0};
    snprintf(staging, sizeof staging, ".%s.lors-staging", merge.out);
    merge.n_threads = 1;
    for (int i = 0; i < 50 && !strstr(outcome.sentence, "--resume"); i++) {
        rm_remove(merge.out);
        rm_remove(staging);
        merge.cancel_at = 1 + n_tensors / (2 + i % 4);
        outcome = rc_run(&merge);
    }
    return outcome;
}

bool rc_same_outputs(const char *a, const char *b)
{
    bool same = rm_count_entries(a) == rm_count_entries(b);
    DIR *entries = opendir(a);
    if (!entries || !same) {
        fprintf(stderr, "%s, %s: other files\n", a, b);
        return false;
    }
    for (const struct dirent *entry; same && (entry = readdir(entries)) != NULL;) {
        char one[512], other[512];
        const char *name = entry->d_name;
        snprintf(one, sizeof one, "%s/%s", a, name);
        snprintf(other, sizeof other, "%s/%s", b, name);
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            same = strcmp(name, "lors.json") == 0 ? same_reports(one, other)
                                                  : rm_exists(other) && rm_same_files(one, other);
        }
        if (!same) {
            fprintf(stderr, "%s differs from %s\n", one, other);
        }
    }
    closedir(entries);
    return same;
}
