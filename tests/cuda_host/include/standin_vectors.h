/* standin_vectors.h - stand-in for CUDA's short vectors, aligned as the device needs them. */
#ifndef LORS_STANDIN_VECTORS_H
#define LORS_STANDIN_VECTORS_H

#define STANDIN_VECTOR2(T, name) \
    struct __attribute__((aligned(2 * sizeof(T)))) name { \
        T x, y; \
    }; \
    inline name make_##name(T x, T y) \
    { \
        return {x, y}; \
    }

#define STANDIN_VECTOR4(T, name) \
    struct __attribute__((aligned(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)))) name { \
        T x, y, z, w; \
    }; \
    inline name make_##name(T x, T y, T z, T w) \
    { \
        return {x, y, z, w}; \
    }

STANDIN_VECTOR2(float, float2)
STANDIN_VECTOR2(double, double2)
STANDIN_VECTOR2(int, int2)
STANDIN_VECTOR2(unsigned, uint2)
STANDIN_VECTOR2(unsigned short, ushort2)
STANDIN_VECTOR2(long long, longlong2)
STANDIN_VECTOR2(unsigned long long, ulonglong2)
STANDIN_VECTOR4(float, float4)
STANDIN_VECTOR4(double, double4)
STANDIN_VECTOR4(int, int4)
STANDIN_VECTOR4(unsigned, uint4)
STANDIN_VECTOR4(unsigned short, ushort4)
STANDIN_VECTOR4(unsigned char, uchar4)

#undef STANDIN_VECTOR2
#undef STANDIN_VECTOR4

#endif
