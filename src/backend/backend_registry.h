/* backend_registry.h - which backends there are. The only host file that will ever load another. */
#ifndef LORS_BACKEND_BACKEND_REGISTRY_H
#define LORS_BACKEND_BACKEND_REGISTRY_H

#include "backend/backend_ops.h"

/* The table and device index for "auto", "cpu" or another device's name. Errors: ERR_DEVICE, with
 * the reason why the device is missing; ERR_USAGE for a name that no build knows. */
lors_status lors_backend_find(const char *device, const lors_backend_ops **ops, int32_t *index);

#endif
