/* fiber.cpp - stacks to switch between, in a few instructions or by ucontext. */
#include "fiber.h"

#include "sanitizer.h"

#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(__x86_64__) && !defined(STANDIN_UCONTEXT)
#define STANDIN_UCONTEXT 1
#endif
#if defined(STANDIN_UCONTEXT)
#include <ucontext.h>
#endif

namespace standin
{

namespace
{

constexpr size_t stack_bytes = size_t{sanitizer::threads || sanitizer::addresses ? 256 : 64} << 10;

/* Who was left in the switch that is under way, and where the fiber that starts begins. */
fiber *left = nullptr;
void (*entry_point)() = nullptr;

void arrive(fiber &self)
{
    (void)self;
#if defined(STANDIN_ASAN)
    __sanitizer_finish_switch_fiber(self.fake_stack, &left->stack, &left->stack_size);
#endif
}

/* The fiber that `start` is about to run on. */
fiber *starting = nullptr;

[[noreturn]] void start()
{
    sanitizer::ignore_begin();
    arrive(*starting);
    entry_point();
    std::abort();
}

#if defined(STANDIN_UCONTEXT)

void prepare(fiber &made, char *bottom)
{
    ucontext_t *context = new ucontext_t;
    getcontext(context);
    context->uc_stack.ss_sp = bottom;
    context->uc_stack.ss_size = stack_bytes;
    context->uc_link = nullptr;
    makecontext(context, start, 0);
    made.saved = context;
}

void forget_saved(fiber &gone)
{
    delete static_cast<ucontext_t *>(gone.saved);
}

void jump(fiber &from, fiber &to)
{
    if (!from.saved) {
        from.saved = new ucontext_t;
    }
    swapcontext(static_cast<ucontext_t *>(from.saved), static_cast<ucontext_t *>(to.saved));
}

#else

/* standin_jump(&from.saved, to.saved): keeps what a call must keep, on the stack that it leaves. */
extern "C" void standin_jump(void **from, void *to);

__asm__(".text\n"
        ".p2align 4\n"
        ".type standin_jump, @function\n"
        "standin_jump:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size standin_jump, .-standin_jump\n");

/* The first jump pops six registers and returns into start(), with the stack as after a call. */
void prepare(fiber &made, char *bottom)
{
    void **top = reinterpret_cast<void **>(bottom + stack_bytes);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(start);
    for (int i = 0; i < 6; i++) {
        *--top = nullptr;
    }
    made.saved = top;
}

void forget_saved(fiber &)
{
}

void jump(fiber &from, fiber &to)
{
    standin_jump(&from.saved, to.saved);
}

#endif

} /* namespace */

fiber *new_fiber(void (*entry)(), const char *name)
{
    size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    size_t size = stack_bytes + guard;
    void *map = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (map == MAP_FAILED) {
        return nullptr;
    }
    mprotect(map, guard, PROT_NONE);
    fiber *made = new fiber;
    made->map = map;
    made->map_size = size;
    made->stack = static_cast<char *>(map) + guard;
    made->stack_size = stack_bytes;
    made->context = sanitizer::new_context(name);
    entry_point = entry;
    prepare(*made, static_cast<char *>(map) + guard);
    return made;
}

void delete_fiber(fiber *gone)
{
    forget_saved(*gone);
    sanitizer::drop_context(gone->context);
    sanitizer::unpoison(gone->map, gone->map_size);
    munmap(gone->map, gone->map_size);
    delete gone;
}

void become_fiber(fiber &root)
{
    root.context = sanitizer::current_context();
}

void switch_fiber(fiber &from, fiber &to)
{
    left = &from;
    starting = &to;
#if defined(STANDIN_ASAN)
    __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_size);
#endif
    sanitizer::enter_context(to.context);
    jump(from, to);
    arrive(from);
}

} /* namespace standin */
