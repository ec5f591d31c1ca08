/* device.h - a device whose operations are those of the CPU, one of which goes wrong.
 *
 * It comes as CUDA's does: out of a library of its own (library.c), which the registry loads. */
#ifndef LORS_TESTS_DEVICE_H
#define LORS_TESTS_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#define DEVICE_LIBRARY_SYMBOL "fault_device_library"

typedef enum device_way {
    DEVICE_ONCE, /* the operation says that it failed */
    DEVICE_GONE, /* so do all later ones */
    DEVICE_LATE, /* it is never done, and nothing on its queue after it; the next wait says so */
    DEVICE_WAYS
} device_way;

/* What every sentence of a failure holds. */
#define DEVICE_SAYS "the device of the test"

/* From now on the registry finds this device as "cuda:0". */
void device_use(void);
/* `apart`: its memory is not the host's, it takes two matrices at once and whole ranges. The n-th
 * operation from now on fails in this way; 0: none does. */
void device_arm(bool apart, uint64_t n, device_way way);
/* Operations since then. */
uint64_t device_count(void);
/* The name of the one that failed; NULL: none did. */
const char *device_failed(void);
/* Did it, or one after it, matter? A wait with nothing queued before it does not, and a merge may
 * begin anew with less memory, where that is not the host's. */
bool device_matters(void);
/* What was opened, allocated or queued and not given back. */
int device_held(void);

#endif
