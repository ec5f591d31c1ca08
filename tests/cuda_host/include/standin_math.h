/* standin_math.h - stand-in for CUDA's intrinsics on bits and numbers, and min() and max(). */
#ifndef LORS_STANDIN_MATH_H
#define LORS_STANDIN_MATH_H

template <class To, class From> inline To standin_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "the bits of one are those of the other");
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}

inline unsigned __float_as_uint(float x)
{
    return standin_bits<unsigned>(x);
}

inline int __float_as_int(float x)
{
    return standin_bits<int>(x);
}

inline float __uint_as_float(unsigned x)
{
    return standin_bits<float>(x);
}

inline float __int_as_float(int x)
{
    return standin_bits<float>(x);
}

inline long long __double_as_longlong(double x)
{
    return standin_bits<long long>(x);
}

inline double __longlong_as_double(long long x)
{
    return standin_bits<double>(x);
}

inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

inline int __popcll(unsigned long long x)
{
    return __builtin_popcountll(x);
}

inline int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}

inline int __clzll(long long x)
{
    return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}

inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

inline int __ffsll(long long x)
{
    return __builtin_ffsll(x);
}

inline unsigned __umulhi(unsigned x, unsigned y)
{
    return static_cast<unsigned>((static_cast<uint64_t>(x) * y) >> 32);
}

inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y)
{
    __extension__ typedef unsigned __int128 wide;
    return static_cast<unsigned long long>((static_cast<wide>(x) * y) >> 64);
}

template <class T> inline T __ldg(const T *address)
{
    return *address;
}

inline float __fmaf_rn(float x, float y, float z)
{
    return std::fmaf(x, y, z);
}

inline double __fma_rn(double x, double y, double z)
{
    return std::fma(x, y, z);
}

/* One operation, rounded once: volatile keeps the compiler from making a fused one of two. */
#define STANDIN_ROUNDED(name, T, operation) \
    inline T name(T x, T y) \
    { \
        volatile T result = x operation y; \
        return result; \
    }

STANDIN_ROUNDED(__fadd_rn, float, +)
STANDIN_ROUNDED(__fsub_rn, float, -)
STANDIN_ROUNDED(__fmul_rn, float, *)
STANDIN_ROUNDED(__fdiv_rn, float, /)
STANDIN_ROUNDED(__dadd_rn, double, +)
STANDIN_ROUNDED(__dsub_rn, double, -)
STANDIN_ROUNDED(__dmul_rn, double, *)
STANDIN_ROUNDED(__ddiv_rn, double, /)

#undef STANDIN_ROUNDED

inline float __fsqrt_rn(float x)
{
    return std::sqrt(x);
}

inline double __dsqrt_rn(double x)
{
    return std::sqrt(x);
}

inline float rsqrtf(float x)
{
    return 1.0f / std::sqrt(x);
}

inline double rsqrt(double x)
{
    return 1.0 / std::sqrt(x);
}

#define STANDIN_MIN_MAX(T) \
    constexpr T min(T x, T y) \
    { \
        return y < x ? y : x; \
    } \
    constexpr T max(T x, T y) \
    { \
        return x < y ? y : x; \
    }

STANDIN_MIN_MAX(int)
STANDIN_MIN_MAX(unsigned)
STANDIN_MIN_MAX(long)
STANDIN_MIN_MAX(unsigned long)
STANDIN_MIN_MAX(long long)
STANDIN_MIN_MAX(unsigned long long)

#undef STANDIN_MIN_MAX

/* As the device's: the number, where one of the two is not a number. */
inline float min(float x, float y)
{
    return std::fmin(x, y);
}

inline float max(float x, float y)
{
    return std::fmax(x, y);
}

inline double min(double x, double y)
{
    return std::fmin(x, y);
}

inline double max(double x, double y)
{
    return std::fmax(x, y);
}

#endif
