/* fiber.h - stacks to switch between: one for every CUDA thread that is on its way.
 *
 * Private to the stand-in. A fiber keeps its stack, and to the thread sanitizer its context, for
 * good: what runs on it changes.
 */
#ifndef LORS_STANDIN_FIBER_H
#define LORS_STANDIN_FIBER_H

#include <cstddef>

namespace standin
{

struct fiber {
    void *saved = nullptr; /* the stack pointer, or a ucontext_t, while another one runs */
    void *map = nullptr;   /* guard page, stack; none for the thread that began */
    size_t map_size = 0;
    const void *stack = nullptr; /* bounds for the address sanitizer */
    size_t stack_size = 0;
    void *fake_stack = nullptr;
    void *context = nullptr; /* of the thread sanitizer */
    unsigned thread = 0;     /* the CUDA thread on it */
};

/* `entry` runs at the first switch and never returns. nullptr without memory. */
fiber *new_fiber(void (*entry)(), const char *name);
void delete_fiber(fiber *gone);

/* The fiber for whoever calls: the one to come back to. */
void become_fiber(fiber &root);

/* Leaves `from`, which runs, for `to`; returns when something switches back. */
void switch_fiber(fiber &from, fiber &to);

} /* namespace standin */

#endif
