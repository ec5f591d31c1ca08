/* backend_registry.h - which backends and devices there are, by name. */
#ifndef LORS_BACKEND_BACKEND_REGISTRY_H
#define LORS_BACKEND_BACKEND_REGISTRY_H

#include "backend/backend_ops.h"

enum { LORS_CHOICE_MAX = 16 };

/* The devices of one backend that a run is to use. */
typedef struct lors_backend_choice {
    const lors_backend_ops *ops;
    int32_t n_devices;
    int32_t index[LORS_CHOICE_MAX];
    char name[LORS_CHOICE_MAX][32]; /* "cpu", "cuda:1" */
    char label[128];                /* all of them: "cuda:0,1" */
} lors_backend_choice;

/* What "auto" (or NULL), "cpu", "cuda", "cuda:1", "cuda:0,1" or "cuda:all" stands for. Errors:
 * ERR_DEVICE, with the reason why the device is missing; ERR_USAGE for a name that no build
 * knows. */
lors_status lors_backend_find(const char *device, lors_backend_choice *out);

#endif
