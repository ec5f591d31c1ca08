/* memory.h - device and pinned host memory: poison, guard pages, quarantine, limits.
 *
 * Private to the stand-in; needs the machine's lock. The first pages of device memory cannot be
 * accessed unless an operation of its device runs.
 */
#ifndef LORS_STANDIN_MEMORY_H
#define LORS_STANDIN_MEMORY_H

#include "machine.h"

namespace standin
{

constexpr int on_host = -1;

struct allocation {
    char *base = nullptr; /* what the client has; a guard page lies within a page of its end */
    size_t size = 0;
    char *map = nullptr; /* guard page, pages, guard page */
    size_t map_size = 0;
    int device = on_host;
    bool alive = true;
};

/* nullptr where it does not fit. */
void *allocate(size_t size, int device);

/* False where `base` is not what a living allocation of the device (or the host) begins with.
 * Complains of bytes written before or after it. */
bool release_memory(void *base, int device);

/* The allocation, alive or not, that holds the address or ends at it. */
const allocation *find_allocation(const void *address);

/* Whether [address, address + size) lies in one living allocation of the device. */
bool is_device_range(const void *address, size_t size, int device);

/* The same, with a complaint that says what the range is instead. */
cudaError_t check_device_range(const void *address, size_t size, int device, const char *what);

/* For messages: "freed memory of device 0", "memory of the host". */
std::string describe(const void *address);

void open_memory(device &owner);
void close_memory();

void count_allocations(struct standin_counts &counts);

} /* namespace standin */

#endif
