/* reference_internal.h - what the files of the reference backend share: it and its queues, and the
 * way of operands to the device and back. */
#ifndef LORS_BACKEND_REFERENCE_INTERNAL_H
#define LORS_BACKEND_REFERENCE_INTERNAL_H

#include "backend/backend_reference.h"
#include "cpu/cpu_internal.h"

/* Begins as the CPU's own does, so that its operations can be called with it. */
typedef struct reference {
    lors_backend cpu;
    const lors_backend_ops *ops; /* of the device */
    lors_backend *device;
} reference;

typedef struct reference_queue {
    lors_queue cpu;
    reference *owner;
    lors_queue *device;
} reference_queue;

/* Memory for operands on their way, and there with results and scratch. */
typedef struct trip {
    lors_memory *staging, *there;
} trip;

lors_status lors_reference_begin_trip(reference *r, uint64_t staged, uint64_t there, trip *t);
void lors_reference_end_trip(reference *r, trip *t);

/* reference_dense.c */
uint64_t lors_reference_multiply_bytes(int64_t rows, int64_t cols, int64_t depth);
lors_status lors_reference_multiply(lors_queue *queue, lors_view out, const lors_product *p);
uint64_t lors_reference_eigen_bytes(int64_t n, int64_t count);
lors_status lors_reference_eigen(lors_queue *queue, lors_view matrix, int64_t n, int64_t count,
                                 lors_view vectors, double *values, lors_view scratch);
uint64_t lors_reference_solve_bytes(int64_t n, int64_t rows);
lors_status lors_reference_solve(lors_queue *queue, lors_view matrix, int64_t n, double shift,
                                 lors_view x, int64_t rows, bool *solved, lors_view scratch);
lors_status lors_reference_dot_rows(lors_queue *queue, const lors_factor *a, const lors_factor *b,
                                    int64_t rows, int64_t cols, double *dots, lors_view scratch);

#endif
