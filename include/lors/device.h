/* device.h - where a merge can be computed. */
#ifndef LORS_DEVICE_H
#define LORS_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <lors/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lors_device_info {
    const char *name;     /* "cpu", "cuda:0": what --device takes */
    const char *detail;   /* processor or card, and the BLAS in use */
    bool available;
    const char *reason;   /* why it is not available; "" where it is */
    uint64_t memory_bytes; /* physical memory; 0 if unknown */
} lors_device_info;

/* Number of devices known to this build (missing ones are listed with a reason), and the i-th
 * (0-based; NULL if out of range). Valid for the life of the program. */
LORS_API int32_t lors_device_count(void);
LORS_API const lors_device_info *lors_device_at(int32_t index);

#ifdef __cplusplus
}
#endif
#endif
