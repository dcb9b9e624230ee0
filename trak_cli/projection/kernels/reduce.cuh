// The last step of every projection that was split over the coordinates.
#pragma once
#include "portable.cuh"

// out[row][c] += partial[0][row][c] + partial[1][row][c] + ..., added in this order, so that runs are bit-identical.
// partial: (splits, rows, k) float32, contiguous. Grid (ceil(k / 256), rows), 256 threads.
TRAK_KERNEL void reduce(const float* partial, int splits, int rows, int k, float* out, i64 out_stride) {
    const i64 column = (i64)blockIdx.x * 256 + threadIdx.x;
    if (column >= k) return;
    const float* source = partial + (i64)blockIdx.y * k + column;
    float sum = 0.0f;
    for (int split = 0; split < splits; split++) sum += source[(i64)split * rows * k];
    out[(i64)blockIdx.y * out_stride + column] += sum;
}
