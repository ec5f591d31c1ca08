/* threads.h - the few thread shapes the library uses. */
#ifndef LORS_BASE_THREADS_H
#define LORS_BASE_THREADS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <lors/status.h>

/* A bounded queue of pointers between threads. Push blocks while it is full, pop while it is empty;
 * after lors_queue_close push returns false and pop drains what is left, then returns NULL. */
typedef struct lors_queue lors_queue;
lors_queue *lors_queue_create(size_t capacity); /* NULL: out of memory */
bool lors_queue_push(lors_queue *queue, void *item);
void *lors_queue_pop(lors_queue *queue);
void lors_queue_close(lors_queue *queue);
void lors_queue_free(lors_queue *queue);

int32_t lors_processor_count(void); /* those this process may run on; at least 1 */
double lors_seconds(void);          /* monotonic clock */
uint64_t lors_peak_memory(void);    /* most resident bytes of this process so far; 0 if unknown */

#endif
