/* standin.h - control of the stand-in for the CUDA runtime: faults, seed, what is still alive.
 *
 * Plain C, default visibility: a test may link it or look the functions up with dlsym(). Every
 * function may be called from any thread at any time.
 */
#ifndef LORS_STANDIN_H
#define LORS_STANDIN_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STANDIN_API __attribute__((visibility("default")))

/* What standin_fail_at() injects where a call is no allocation. */
enum standin_fault {
    STANDIN_FAULT_ALTERNATE = 0, /* odd calls as PLAIN, even calls as STICKY */
    STANDIN_FAULT_PLAIN = 1,     /* cudaErrorUnknown, once */
    STANDIN_FAULT_STICKY = 2     /* cudaErrorLaunchFailure from then on, as of a lost device */
};

struct standin_counts {
    size_t device_allocations;
    size_t device_bytes;
    size_t host_allocations;
    size_t host_bytes;
    size_t streams;
    size_t events;
    size_t handles; /* of cuBLAS and cuSOLVER, parameters too */
    size_t pending; /* operations that were enqueued and did not run */
    size_t complaints;
};

/* Makes the n-th fallible call from now on fail (1 is the next one; 0: none). Counts from 0 again
 * and revives lost devices. */
STANDIN_API void standin_fail_at(long n);

/* Which fault the calls that allocate nothing get. */
STANDIN_API void standin_fail_kind(int fault);

/* Fallible calls since the start or the last standin_fail_at(). */
STANDIN_API long standin_calls(void);

/* Faults injected since the start of the program. */
STANDIN_API long standin_faults(void);

/* Takes the sticky errors from all devices. What was pending on a lost device never ran. */
STANDIN_API void standin_revive(void);

/* Starts the random numbers anew; they choose every order that CUDA leaves open. */
STANDIN_API void standin_seed(unsigned long seed);

/* Fills `counts` (may be NULL); returns the number of objects alive: 0 when nothing leaked. */
STANDIN_API size_t standin_report(struct standin_counts *counts);

/* Misuses found so far; each was described on the standard error. */
STANDIN_API size_t standin_complaints(void);

#ifdef __cplusplus
}
#endif

#endif
