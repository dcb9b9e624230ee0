// 16-bit numbers as bit patterns, and the readers of gradient entries of each input type.
#pragma once
#include "portable.cuh"

// The float16 nearest to x, ties to even.
TRAK_DEVICE u16 half_of(float x) {
#if defined(__CUDA_ARCH__)
    u16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
#else
    const u32 bits = bits_of(x), magnitude = bits & 0x7fffffffu;
    const u32 sign = (bits >> 16) & 0x8000u;
    if (magnitude > 0x7f800000u) return (u16)(sign | 0x7e00u);   // NaN
    if (magnitude >= 0x477ff000u) return (u16)(sign | 0x7c00u);  // rounds to 65536 or more: infinite
    if (magnitude < 0x38800000u) {                               // subnormal: adding 1/2 rounds at 2^-24
        return (u16)(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u));
    }
    return (u16)(sign | ((magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13));
#endif
}

TRAK_DEVICE float float_of_half(u16 half) {
#if defined(__CUDA_ARCH__)
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
    return x;
#else
    const u32 sign = (u32)(half & 0x8000u) << 16, exponent = (half >> 10) & 31u, fraction = half & 0x3ffu;
    if (exponent == 0) return float_of(sign | bits_of((float)fraction * 5.9604644775390625e-8f));
    if (exponent == 31) return float_of(sign | 0x7f800000u | (fraction << 13));
    return float_of(sign | ((exponent + 112u) << 23) | (fraction << 13));
#endif
}

// Input types. `value` reads an entry as float32; `half` gives its float16 after multiplication with a power of two.
struct Float32 {
    typedef float Stored;
    static TRAK_DEVICE float value(float x) { return x; }
    static TRAK_DEVICE u16 half(float x, float scale) { return half_of(x * scale); }
};

struct Float16 {
    typedef u16 Stored;
    static TRAK_DEVICE float value(u16 x) { return float_of_half(x); }
    static TRAK_DEVICE u16 half(u16 x, float) { return x; }  // exact without scaling
};

struct BFloat16 {
    typedef u16 Stored;
    static TRAK_DEVICE float value(u16 x) { return float_of((u32)x << 16); }
    static TRAK_DEVICE u16 half(u16 x, float scale) { return half_of(value(x) * scale); }
};
