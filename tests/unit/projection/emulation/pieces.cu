// Kernels that only tests use: single pieces of the device code, and two faulty kernels that an emulator must notice.

// One product: a (32, 4), b (32, 2) and sum (32, 4) by lane.
TRAK_KERNEL void try_mma(const u32* a, const u32* b, float* sum) {
    const int lane = threadIdx.x;
    u32 factor[4];
    float total[4];
    for (int i = 0; i < 4; i++) factor[i] = a[4 * lane + i], total[i] = sum[4 * lane + i];
    mma16816(total, factor, b[2 * lane], b[2 * lane + 1]);
    for (int i = 0; i < 4; i++) sum[4 * lane + i] = total[i];
}

TRAK_KERNEL void try_half(const float* x, u16* rounded, float* back, int count) {
    for (int i = threadIdx.x; i < count; i += 32) {
        rounded[i] = half_of(x[i]);
        back[i] = float_of_half(rounded[i]);
    }
}

// Each thread gives its number to the next one; a barrier is forgotten unless `wait`.
TRAK_KERNEL void try_race(float* out, int wait) {
    typedef float Given[64];
    TRAK_SHARED(Given, given);
    given[threadIdx.x] = (float)threadIdx.x;
    if (wait) block_barrier();
    out[threadIdx.x] = given[(threadIdx.x + 1) % 64];
}

// Half of a warp waits for the other half, which waits for the block.
TRAK_KERNEL void try_deadlock(float* out) {
    if (threadIdx.x < 16) warp_barrier();
    else block_barrier();
    out[threadIdx.x] = 1.0f;
}
