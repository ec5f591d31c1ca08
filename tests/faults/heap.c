/* heap.c - a library to preload: the FAIL_AT-th allocation of the process fails, whoever makes it.
 *
 * Environment: FAIL_AT=N, FAIL_ON=1 (all later ones, too), FAIL_COUNT=1 (say how many there were).
 * For glibc, whose own functions it calls. */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t n_bytes);
extern void *__libc_calloc(size_t count, size_t n_bytes);
extern void *__libc_realloc(void *block, size_t n_bytes);
extern void *__libc_memalign(size_t alignment, size_t n_bytes);

static atomic_ulong n_made;
static unsigned long fail_at;
static bool sticky, ready;

__attribute__((constructor)) static void begin(void)
{
    const char *at = getenv("FAIL_AT");
    fail_at = at ? strtoul(at, NULL, 10) : 0;
    sticky = getenv("FAIL_ON") != NULL;
    n_made = 0;
    ready = true;
}

__attribute__((destructor)) static void end(void)
{
    char text[64];
    int n = snprintf(text, sizeof text, "allocations %lu\n", (unsigned long)n_made);
    if (getenv("FAIL_COUNT") && write(2, text, (size_t)n) != n) {
        _exit(1);
    }
}

/* What is allocated after main is not the program's, but of who counts its lines. */
typedef int (*main_fn)(int argc, char **argv, char **environment);
typedef int (*start_fn)(main_fn main, int argc, char **argv, void (*init)(void), void (*fini)(void),
                        void (*rtld_fini)(void), void *stack_end);
static main_fn program;

static int watched(int argc, char **argv, char **environment)
{
    int exit_code = program(argc, argv, environment);
    ready = false;
    return exit_code;
}

__attribute__((visibility("default"))) int __libc_start_main(main_fn main, int argc, char **argv,
                                                             void (*init)(void), void (*fini)(void),
                                                             void (*rtld_fini)(void),
                                                             void *stack_end);

int __libc_start_main(main_fn main, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end)
{
    start_fn start;
    void *symbol = dlsym(RTLD_NEXT, "__libc_start_main");
    memcpy(&start, &symbol, sizeof start);
    program = main;
    return start(watched, argc, argv, init, fini, rtld_fini, stack_end);
}

static bool refused(void)
{
    unsigned long n = ready ? ++n_made : 0;
    bool hit = n > 0 && fail_at > 0 && (n == fail_at || (sticky && n > fail_at));
    errno = hit ? ENOMEM : errno;
    return hit;
}

#define EXPORT __attribute__((visibility("default")))

EXPORT void *malloc(size_t n_bytes)
{
    return refused() ? NULL : __libc_malloc(n_bytes);
}

EXPORT void *calloc(size_t count, size_t n_bytes)
{
    return refused() ? NULL : __libc_calloc(count, n_bytes);
}

EXPORT void *realloc(void *block, size_t n_bytes)
{
    return refused() ? NULL : __libc_realloc(block, n_bytes);
}

EXPORT void *aligned_alloc(size_t alignment, size_t n_bytes)
{
    return refused() ? NULL : __libc_memalign(alignment, n_bytes);
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t n_bytes)
{
    void *block = refused() ? NULL : __libc_memalign(alignment, n_bytes);
    *out = block ? block : *out;
    return block ? 0 : ENOMEM;
}
