/* threads.c - a bounded queue, and what the machine offers: processors, clock, memory used. */
#include "base/threads.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"

/* A ring: `count` items from `first` on. Everything below the mutex is guarded by it. */
struct lors_queue {
    pthread_mutex_t mutex;
    pthread_cond_t not_full, not_empty;
    void **items;
    size_t capacity, first, count;
    bool closed;
};

/* The three always live or die together. */
static bool init_locks(lors_queue *queue)
{
    if (pthread_mutex_init(&queue->mutex, NULL) != 0) {
        return false;
    }
    if (pthread_cond_init(&queue->not_full, NULL) != 0) {
        pthread_mutex_destroy(&queue->mutex);
        return false;
    }
    if (pthread_cond_init(&queue->not_empty, NULL) != 0) {
        pthread_cond_destroy(&queue->not_full);
        pthread_mutex_destroy(&queue->mutex);
        return false;
    }
    return true;
}

lors_queue *lors_queue_create(size_t capacity)
{
    capacity += capacity == 0;
    lors_queue *queue = lors_new(1, sizeof *queue);
    void **items = queue ? lors_new(capacity, sizeof *items) : NULL;
    if (!items || !init_locks(queue)) {
        lors_free(items);
        lors_free(queue);
        return NULL;
    }
    queue->items = items;
    queue->capacity = capacity;
    return queue;
}

bool lors_queue_push(lors_queue *queue, void *item)
{
    assert(item); /* NULL is how pop says "closed" */
    pthread_mutex_lock(&queue->mutex);
    while (queue->count == queue->capacity && !queue->closed) {
        pthread_cond_wait(&queue->not_full, &queue->mutex);
    }
    bool open = !queue->closed;
    if (open) {
        queue->items[(queue->first + queue->count++) % queue->capacity] = item;
        pthread_cond_signal(&queue->not_empty);
    }
    pthread_mutex_unlock(&queue->mutex);
    return open;
}

void *lors_queue_pop(lors_queue *queue)
{
    void *item = NULL;
    pthread_mutex_lock(&queue->mutex);
    while (queue->count == 0 && !queue->closed) {
        pthread_cond_wait(&queue->not_empty, &queue->mutex);
    }
    if (queue->count > 0) {
        item = queue->items[queue->first];
        queue->first = (queue->first + 1) % queue->capacity;
        queue->count--;
        pthread_cond_signal(&queue->not_full);
    }
    pthread_mutex_unlock(&queue->mutex);
    return item;
}

void lors_queue_close(lors_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->closed = true;
    pthread_cond_broadcast(&queue->not_full);
    pthread_cond_broadcast(&queue->not_empty);
    pthread_mutex_unlock(&queue->mutex);
}

void lors_queue_free(lors_queue *queue)
{
    if (!queue) {
        return;
    }
    pthread_cond_destroy(&queue->not_empty);
    pthread_cond_destroy(&queue->not_full);
    pthread_mutex_destroy(&queue->mutex);
    lors_free(queue->items);
    lors_free(queue);
}

/* Not the number of processors of the machine: of those that taskset or a container left us. */
int32_t lors_processor_count(void)
{
    cpu_set_t sets[32]; /* 32768 processors; the kernel refuses a mask smaller than its own */
    CPU_ZERO_S(sizeof sets, sets);
    if (sched_getaffinity(0, sizeof sets, sets) != 0) {
        return 1;
    }
    int count = CPU_COUNT_S(sizeof sets, sets);
    return count > 0 ? (int32_t)count : 1;
}

double lors_seconds(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The start of a small file of the kernel, NUL-terminated; "" if it cannot be read. */
static void read_proc(const char *path, char *out, size_t n_bytes)
{
    size_t used = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC); /* lint-allow(raw-file): not a file of ours */
    while (fd >= 0 && used < n_bytes - 1) {
        ssize_t got = read(fd, out + used, n_bytes - 1 - used);
        if (got > 0) {
            used += (size_t)got;
        } else if (got == 0 || errno != EINTR) {
            break;
        }
    }
    out[used] = '\0';
    if (fd >= 0) {
        close(fd);
    }
}

/* VmHWM rather than getrusage, whose figure a process inherits from whoever started it. */
uint64_t lors_peak_memory(void)
{
    char status[8192];
    read_proc("/proc/self/status", status, sizeof status);
    const char *line = strstr(status, "\nVmHWM:");
    if (line) {
        return 1024 * (uint64_t)strtoull(line + strlen("\nVmHWM:"), NULL, 10);
    }
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0 || usage.ru_maxrss < 0) {
        return 0;
    }
    return 1024 * (uint64_t)usage.ru_maxrss;
}
