/* standin_atomics.h - stand-in for CUDA's atomic functions: relaxed atomics of the host.
 *
 * They order nothing, as on the device, but for writes that a __threadfence() went after.
 */
#ifndef LORS_STANDIN_ATOMICS_H
#define LORS_STANDIN_ATOMICS_H

/* Replaces *address by change(*address) in one step; returns what was there. */
template <class Word, class Change> inline Word standin_atomic(Word *address, Change change)
{
    Word old = __atomic_load_n(address, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(address, &old, change(old), false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
    }
    if (standin_fenced) {
        standin_observe_fence();
    }
    return old;
}

/* The same for floating-point numbers, whose atomics are those of their bits. */
template <class Word, class T, class Change>
inline T standin_atomic_float(T *address, Change change)
{
    static_assert(sizeof(Word) == sizeof(T), "the word holds the number");
    auto number = [](Word word) {
        T value;
        std::memcpy(&value, &word, sizeof(value));
        return value;
    };
    /* The device's atomics know no types: the word may alias the number. */
    typedef Word __attribute__((may_alias)) aliased;
    return number(standin_atomic(reinterpret_cast<aliased *>(address), [&](Word old) {
        T value = change(number(old));
        Word word;
        std::memcpy(&word, &value, sizeof(word));
        return word;
    }));
}

inline float atomicAdd(float *address, float value)
{
    return standin_atomic_float<unsigned>(address, [=](float old) { return old + value; });
}

inline double atomicAdd(double *address, double value)
{
    return standin_atomic_float<unsigned long long>(address,
                                                    [=](double old) { return old + value; });
}

inline float atomicExch(float *address, float value)
{
    return standin_atomic_float<unsigned>(address, [=](float) { return value; });
}

/* The integer functions, for one type. Sums wrap, as the device's do. */
#define STANDIN_ATOMICS(T, U) \
    inline T atomicAdd(T *address, T value) \
    { \
        return standin_atomic(address, [=](T old) { \
            return static_cast<T>(static_cast<U>(old) + static_cast<U>(value)); \
        }); \
    } \
    inline T atomicMax(T *address, T value) \
    { \
        return standin_atomic(address, [=](T old) { return old < value ? value : old; }); \
    } \
    inline T atomicMin(T *address, T value) \
    { \
        return standin_atomic(address, [=](T old) { return value < old ? value : old; }); \
    } \
    inline T atomicOr(T *address, T value) \
    { \
        return standin_atomic(address, [=](T old) { return old | value; }); \
    } \
    inline T atomicAnd(T *address, T value) \
    { \
        return standin_atomic(address, [=](T old) { return old & value; }); \
    } \
    inline T atomicExch(T *address, T value) \
    { \
        return standin_atomic(address, [=](T) { return value; }); \
    } \
    inline T atomicCAS(T *address, T compare, T value) \
    { \
        return standin_atomic(address, [=](T old) { return old == compare ? value : old; }); \
    }

STANDIN_ATOMICS(int, unsigned)
STANDIN_ATOMICS(unsigned, unsigned)
STANDIN_ATOMICS(unsigned long long, unsigned long long)

#undef STANDIN_ATOMICS

inline int atomicSub(int *address, int value)
{
    return atomicAdd(address, static_cast<int>(0u - static_cast<unsigned>(value)));
}

inline unsigned atomicSub(unsigned *address, unsigned value)
{
    return atomicAdd(address, 0u - value);
}

#endif
