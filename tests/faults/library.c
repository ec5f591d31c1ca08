/* library.c - the shared object in which the registry finds the device of the fault loops. */
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "backend/backend_ops.h"
#include "device.h"

__attribute__((visibility("default"))) const lors_backend_library *lors_backend_library_get(
    const lors_backend_host *host);

/* The program that loads it holds the table, which is made of the operations linked into it. */
const lors_backend_library *lors_backend_library_get(const lors_backend_host *host)
{
    lors_backend_entry entry = NULL;
    void *symbol = dlsym(RTLD_DEFAULT, DEVICE_LIBRARY_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry);
    return entry ? entry(host) : NULL;
}
