// The differences between compilers: NVRTC (CUDA), hipRTC (AMD) and a C++ compiler that emulates a GPU.
//
// No header is included: NVRTC has the vector types and intrinsics built in, and CuPy's wheels ship no CUDA headers.
// An emulator defines TRAK_EMULATED, and everything that the last #else branch names, before it includes this file.
#pragma once

typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

#if !defined(TRAK_EMULATED)
#define TRAK_DEVICE __device__ __forceinline__
#define TRAK_KERNEL extern "C" __global__
#define TRAK_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define TRAK_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define TRAK_SHARED(type, name) __shared__ type name
#define TRAK_UNROLL _Pragma("unroll")

#if defined(__HIPCC__) || defined(__HIPCC_RTC__)
// AMD's shuffles have no mask; a width of 32 makes a warp of each half of a 64-wide wave.
TRAK_DEVICE u32 shuffle(u32 value, int lane, int width) { return (u32)__shfl((int)value, lane, width); }
TRAK_DEVICE void warp_barrier() {
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
    __builtin_amdgcn_wave_barrier();
}
#else
TRAK_DEVICE u32 shuffle(u32 value, int lane, int width) { return __shfl_sync(0xffffffffu, value, lane, width); }
TRAK_DEVICE void warp_barrier() { __syncwarp(); }
#endif

// Copies 16 bytes from global to shared memory; they can be read after copy_wait() and a block barrier. From sm_80 on
// the copy is asynchronous.
TRAK_DEVICE void copy16(void* shared, const void* global) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    const u32 address = (u32)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
#else
    *(uint4*)shared = *(const uint4*)global;
#endif
}

TRAK_DEVICE void copy_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

TRAK_DEVICE u32 bits_of(float x) { return __float_as_uint(x); }
TRAK_DEVICE float float_of(u32 bits) { return __uint_as_float(bits); }
TRAK_DEVICE u32 multiply_high(u32 x, u32 y) { return __umulhi(x, y); }
TRAK_DEVICE void block_barrier() { __syncthreads(); }

#else  // an emulator defines: TRAK_DEVICE, TRAK_KERNEL, TRAK_BOUNDS, TRAK_DYNAMIC_SHARED, TRAK_SHARED, TRAK_UNROLL,
       // uint4, threadIdx, blockIdx, gridDim, shuffle, warp_barrier, copy16, copy_wait, bits_of, float_of, multiply_high, block_barrier
#endif
