/* standin_launch.h - stand-in for kernel<<<grid, block, 0, stream>>>(...): standin_launch().
 *
 * The arguments are converted to the kernel's parameter types and copied at the launch; the kernel
 * runs when something waits for it. Included by cuda_runtime.h.
 */
#ifndef LORS_STANDIN_LAUNCH_H
#define LORS_STANDIN_LAUNCH_H

#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <vector>

/* A word of an argument that may be an address: is_pointer says that it must be one. */
struct standin_word {
    uintptr_t value;
    bool is_pointer;
};

/* Enqueues; the result is what cudaGetLastError() reports after a launch. `body` is called once
 * for every CUDA thread. */
__attribute__((visibility("default"))) cudaError_t standin_enqueue_kernel(
    const char *name, const void *kernel, dim3 grid, dim3 block, cudaStream_t stream,
    std::function<void()> body, std::vector<standin_word> words);

template <class T>
inline void standin_add_words(std::vector<standin_word> &words, const T &argument)
{
    static_assert(std::is_trivially_copyable<T>::value, "kernel arguments are copied as bytes");
    if constexpr (std::is_pointer<T>::value) {
        if constexpr (!std::is_function<typename std::remove_pointer<T>::type>::value) {
            words.push_back({reinterpret_cast<uintptr_t>(argument), true});
        }
    } else {
        for (size_t at = 0; at + sizeof(uintptr_t) <= sizeof(T); at += sizeof(uintptr_t)) {
            uintptr_t value;
            std::memcpy(&value, reinterpret_cast<const char *>(&argument) + at, sizeof(value));
            words.push_back({value, false});
        }
    }
}

template <class... P, class... A>
inline cudaError_t standin_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                                  cudaStream_t stream, A &&...arguments)
{
    static_assert(sizeof...(P) == sizeof...(A), "a kernel gets all of its arguments");
    std::tuple<P...> copies(static_cast<P>(arguments)...);
    std::vector<standin_word> words;
    std::apply([&words](const P &...each) { (standin_add_words(words, each), ...); }, copies);
    return standin_enqueue_kernel(
        name, reinterpret_cast<const void *>(kernel), grid, block, stream,
        [kernel, copies]() { std::apply(kernel, copies); }, std::move(words));
}

#endif
