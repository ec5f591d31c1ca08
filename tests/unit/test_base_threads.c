/* test_base_threads.c - the queue under contention and at its end; what the machine reports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/threads.h"

enum { N_THREADS = 4, N_ITEMS = 5000 };

static int items[N_THREADS][N_ITEMS];

typedef struct worker {
    lors_queue *queue;
    int index;
    int64_t n_popped;
    bool in_order; /* items of one producer arrive at each consumer in their order */
} worker;

static void *produce(void *argument)
{
    worker *self = argument;
    for (int i = 0; i < N_ITEMS; i++) {
        items[self->index][i] = 1;
        if (!lors_queue_push(self->queue, &items[self->index][i])) {
            break;
        }
    }
    return NULL;
}

static void *consume(void *argument)
{
    worker *self = argument;
    int *last[N_THREADS] = {0}, *item;
    self->in_order = true;
    while ((item = lors_queue_pop(self->queue)) != NULL) {
        ptrdiff_t producer = (item - &items[0][0]) / N_ITEMS;
        self->in_order = self->in_order && item > last[producer];
        last[producer] = item;
        *item += 1;
        self->n_popped++;
    }
    return NULL;
}

static void every_item_passes_once(void **state)
{
    (void)state;
    const size_t capacities[] = {0, 1, 3, 64};
    for (size_t c = 0; c < sizeof capacities / sizeof *capacities; c++) {
        lors_queue *queue = lors_queue_create(capacities[c]);
        pthread_t producers[N_THREADS], consumers[N_THREADS];
        worker in[N_THREADS], out[N_THREADS];
        for (int i = 0; i < N_THREADS; i++) {
            in[i] = out[i] = (worker){.queue = queue, .index = i};
            assert_int_equal(pthread_create(&producers[i], NULL, produce, &in[i]), 0);
            assert_int_equal(pthread_create(&consumers[i], NULL, consume, &out[i]), 0);
        }
        for (int i = 0; i < N_THREADS; i++) {
            pthread_join(producers[i], NULL);
        }
        lors_queue_close(queue);
        int64_t n_popped = 0;
        for (int i = 0; i < N_THREADS; i++) {
            pthread_join(consumers[i], NULL);
            n_popped += out[i].n_popped;
            assert_true(out[i].in_order);
        }
        assert_int_equal(n_popped, N_THREADS * N_ITEMS);
        for (int i = 0; i < N_THREADS * N_ITEMS; i++) {
            assert_int_equal(items[i / N_ITEMS][i % N_ITEMS], 2);
        }
        lors_queue_free(queue);
    }
}

static void close_drains_and_refuses(void **state)
{
    (void)state;
    int a, b, c;
    lors_queue *queue = lors_queue_create(3);
    assert_true(lors_queue_push(queue, &a));
    assert_true(lors_queue_push(queue, &b));
    lors_queue_close(queue);
    lors_queue_close(queue);
    assert_false(lors_queue_push(queue, &c));
    assert_ptr_equal(lors_queue_pop(queue), &a);
    assert_ptr_equal(lors_queue_pop(queue), &b);
    assert_null(lors_queue_pop(queue));
    assert_null(lors_queue_pop(queue));
    lors_queue_free(queue);
    lors_queue_free(NULL);
}

static void wait_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

/* A producer that waits for room and a consumer that waits for items both wake at close. */
static void close_wakes_who_waits(void **state)
{
    (void)state;
    pthread_t thread;
    worker blocked = {.queue = lors_queue_create(2)};
    assert_int_equal(pthread_create(&thread, NULL, produce, &blocked), 0);
    wait_a_little();
    lors_queue_close(blocked.queue);
    pthread_join(thread, NULL);
    lors_queue_free(blocked.queue);
    blocked = (worker){.queue = lors_queue_create(2)};
    assert_int_equal(pthread_create(&thread, NULL, consume, &blocked), 0);
    wait_a_little();
    lors_queue_close(blocked.queue);
    pthread_join(thread, NULL);
    assert_int_equal(blocked.n_popped, 0);
    lors_queue_free(blocked.queue);
}

static void queue_without_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 2; n++) {
        lors_alloc_fail_at(n, false);
        assert_null(lors_queue_create(4));
    }
    lors_alloc_fail_at(0, false);
    volatile size_t huge = SIZE_MAX;
    assert_null(lors_queue_create(huge));
}

static void processors_are_those_left_to_us(void **state)
{
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_int_equal(lors_processor_count(), CPU_COUNT(&all));
    size_t first = 0;
    while (!CPU_ISSET(first, &all)) {
        first++;
    }
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(lors_processor_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

static void the_clock_moves(void **state)
{
    (void)state;
    double before = lors_seconds();
    wait_a_little();
    double passed = lors_seconds() - before;
    assert_true(passed >= 0.019 && passed < 60);
}

static void peak_memory_grows_with_use(void **state)
{
    (void)state;
    enum { N_BYTES = 64 << 20 };
    uint64_t before = lors_peak_memory();
    assert_true(before > 100000);
    char *block = lors_alloc(N_BYTES);
    assert_non_null(block);
    memset(block, 1, N_BYTES);
    assert_true(((volatile char *)block)[N_BYTES / 2] == 1);
    uint64_t after = lors_peak_memory();
    lors_free(block);
    assert_true(after >= before);
    assert_true(after >= N_BYTES);
    assert_true(lors_peak_memory() >= after - (4 << 20)); /* a peak, not the present use */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_passes_once),
        cmocka_unit_test(close_drains_and_refuses),
        cmocka_unit_test(close_wakes_who_waits),
        cmocka_unit_test(queue_without_memory),
        cmocka_unit_test(processors_are_those_left_to_us),
        cmocka_unit_test(the_clock_moves),
        cmocka_unit_test(peak_memory_grows_with_use),
    };
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
