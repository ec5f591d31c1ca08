/* sanitizer.h - what the sanitizers must be told; nothing at all in a build without them.
 *
 * Thread sanitizer: every stream and every CUDA thread is a context of its own, which knows of
 * another's accesses only what release() and acquire() carry. The stand-in's own accesses are
 * ignored in every context (runtime_scope), those of kernels and copies are not (client_scope).
 */
#ifndef LORS_STANDIN_SANITIZER_H
#define LORS_STANDIN_SANITIZER_H

#include <cstddef>
#include <cstdint>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STANDIN_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define STANDIN_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define STANDIN_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define STANDIN_TSAN 1
#endif

#if defined(STANDIN_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(STANDIN_TSAN)
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
void AnnotateIgnoreSyncBegin(const char *file, int line);
void AnnotateIgnoreSyncEnd(const char *file, int line);
void __tsan_read_range(void *address, unsigned long size);
void __tsan_write_range(void *address, unsigned long size);
void __tsan_java_init(unsigned long begin, unsigned long size);
void __tsan_java_alloc(unsigned long address, unsigned long size);
}
#endif

namespace standin::sanitizer
{

#if defined(STANDIN_TSAN)
constexpr bool threads = true;
#else
constexpr bool threads = false;
#endif

#if defined(STANDIN_ASAN)
constexpr bool addresses = true;

inline void poison(const void *address, size_t size)
{
    __asan_poison_memory_region(address, size);
}

inline void unpoison(const void *address, size_t size)
{
    __asan_unpoison_memory_region(address, size);
}
#else
constexpr bool addresses = false;

inline void poison(const void *, size_t)
{
}

inline void unpoison(const void *, size_t)
{
}
#endif

#if defined(STANDIN_TSAN)
inline void ignore_begin()
{
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}

inline void ignore_end()
{
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

/* Between these the host's locks and reference counts order nothing. */
inline void no_order_begin()
{
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
}

inline void no_order_end()
{
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
}

inline void *new_context(const char *name)
{
    void *context = __tsan_create_fiber(0);
    __tsan_set_fiber_name(context, name);
    return context;
}

inline void *current_context()
{
    return __tsan_get_current_fiber();
}

inline void enter_context(void *context)
{
    __tsan_switch_to_fiber(context, __tsan_switch_to_fiber_no_sync);
}

/* A context that was left in the stand-in's own code: none may end while it ignores. */
inline void drop_context(void *context)
{
    void *here = current_context();
    enter_context(context);
    ignore_end();
    enter_context(here);
    __tsan_destroy_fiber(context);
}

inline void release(const void *address)
{
    __tsan_release(const_cast<void *>(address));
}

inline void acquire(const void *address)
{
    __tsan_acquire(const_cast<void *>(address));
}

inline void reads(const void *address, size_t size)
{
    __tsan_read_range(const_cast<void *>(address), size);
}

inline void writes(const void *address, size_t size)
{
    __tsan_write_range(const_cast<void *>(address), size);
}

/* Must be called once before forget(), with a range of no more than a few megabytes: reports of
 * races in it search it. */
inline void start_forgetting(const void *begin, size_t size)
{
    uintptr_t first = reinterpret_cast<uintptr_t>(begin) & ~uintptr_t{7};
    __tsan_java_init(first, (size + 15) & ~size_t{7});
}

/* Forgets what was accessed at the address, as if it were new memory. */
inline void forget(const void *address, size_t size)
{
    uintptr_t first = reinterpret_cast<uintptr_t>(address) & ~uintptr_t{7};
    uintptr_t end = (reinterpret_cast<uintptr_t>(address) + size + 7) & ~uintptr_t{7};
    __tsan_java_alloc(first, end - first);
}
#else
inline void ignore_begin()
{
}

inline void ignore_end()
{
}

inline void no_order_begin()
{
}

inline void no_order_end()
{
}

inline void *new_context(const char *)
{
    return nullptr;
}

inline void drop_context(void *)
{
}

inline void *current_context()
{
    return nullptr;
}

inline void enter_context(void *)
{
}

inline void release(const void *)
{
}

inline void acquire(const void *)
{
}

inline void reads(const void *, size_t)
{
}

inline void writes(const void *, size_t)
{
}

inline void start_forgetting(const void *, size_t)
{
}

inline void forget(const void *, size_t)
{
}
#endif

/* Accesses in here are the stand-in's own. */
struct runtime_scope {
    runtime_scope()
    {
        ignore_begin();
    }
    ~runtime_scope()
    {
        ignore_end();
    }
    runtime_scope(const runtime_scope &) = delete;
    runtime_scope &operator=(const runtime_scope &) = delete;
};

/* Accesses in here are those of the program that is tested. */
struct client_scope {
    client_scope()
    {
        ignore_end();
    }
    ~client_scope()
    {
        ignore_begin();
    }
    client_scope(const client_scope &) = delete;
    client_scope &operator=(const client_scope &) = delete;
};

} /* namespace standin::sanitizer */

#endif
