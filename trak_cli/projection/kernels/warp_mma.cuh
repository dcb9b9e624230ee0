// One 16 x 8 x 16 matrix product by a warp: float16 factors, float32 sums.
#pragma once
#include "numbers.cuh"

// sum += A B, for A (16, 16), B (16, 8), sum (16, 8), distributed over the 32 lanes as the mma.m16n8k16 instruction requires.
// With g = lane / 4 and q = lane % 4, a lane holds (two float16 to a word, the lower half first):
//   a[0] = A[g    ][2q, 2q + 1]    a[2] = A[g    ][2q + 8, 2q + 9]    b0 = B[2q,     2q + 1][g]
//   a[1] = A[g + 8][2q, 2q + 1]    a[3] = A[g + 8][2q + 8, 2q + 9]    b1 = B[2q + 8, 2q + 9][g]
//   sum[0, 1] = sum[g][2q, 2q + 1]                                    sum[2, 3] = sum[g + 8][2q, 2q + 1]
// All lanes of the warp must call it together.
#if defined(__CUDA_ARCH__)

TRAK_DEVICE void mma16816(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else  // sm_75 has only the product of half the depth
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

#elif defined(TRAK_EMULATED_MMA)

TRAK_DEVICE void mma16816(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) { emulated_mma(sum, a, b0, b1); }

#else  // any other machine: the same product by shuffles

TRAK_DEVICE float dot2(u32 x, u32 y, float sum) {
    sum += float_of_half((u16)x) * float_of_half((u16)y);
    return sum + float_of_half((u16)(x >> 16)) * float_of_half((u16)(y >> 16));
}

TRAK_DEVICE void mma16816(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    const int lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3;
    for (int s = 0; s < 4; s++) {  // quad lane s of each row holds four of the sixteen terms
        u32 row[4], low[2], high[2];
        TRAK_UNROLL
        for (int i = 0; i < 4; i++) row[i] = shuffle(a[i], 4 * g + s, 32);
        TRAK_UNROLL
        for (int j = 0; j < 2; j++) {
            low[j] = shuffle(b0, 4 * (2 * q + j) + s, 32);
            high[j] = shuffle(b1, 4 * (2 * q + j) + s, 32);
        }
        TRAK_UNROLL
        for (int j = 0; j < 2; j++) {
            sum[j] = dot2(row[2], high[j], dot2(row[0], low[j], sum[j]));
            sum[2 + j] = dot2(row[3], high[j], dot2(row[1], low[j], sum[2 + j]));
        }
    }
}

#endif
