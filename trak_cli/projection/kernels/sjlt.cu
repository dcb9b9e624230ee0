// Sparse projection: every coordinate is added, with a sign, to s of the k columns.
//
// Half a warp is one worker: it has one row, one run of the coordinates and a private tile of sums in shared memory.
// The 16 coordinates of a block go to 16 different columns of one 16-wide bucket, so no two lanes ever meet and no
// atomics are needed. A warp's two workers mostly hold two rows and the same coordinates; their tiles lie 16 banks
// apart, so that they do not meet in a bank either.
#include "hash.cuh"
#include "numbers.cuh"
#include "reduce.cuh"

#define LANES 16  // coordinates in a block, columns in a bucket, threads of a worker

// One gradient tensor, or a part of it.
template <class Type>
struct Rows {
    const typename Type::Stored* gradient;  // entry (row, j) at row * stride + j
    i64 stride, width;
    int rows, lead;  // entry j is coordinate 16 first_block + lead + j of the parameter
};

// The 16 entries of one worker's lane in blocks `block` to `block + 15` of its row; zero outside of the row.
template <class Type>
TRAK_DEVICE void load16(float (&x)[LANES], const Rows<Type>& of, const typename Type::Stored* row, i64 block, i64 stop) {
    const int lane = threadIdx.x % LANES;
    TRAK_UNROLL
    for (int j = 0; j < LANES; j++) {
        const i64 at = (block + j) * LANES + lane - of.lead;
        x[j] = block + j < stop && at >= 0 && at < of.width ? Type::value(row[at]) : 0.0f;
    }
}

// Adds 16 blocks to the tile: the r-th of the s entries of each coordinate. `tile` begins with column `first`.
TRAK_DEVICE void add16(float* tile, i64 first, int columns, const float (&x)[LANES], u64 key, u32 r, u32 buckets) {
    const int lane = threadIdx.x % LANES;
    // Each lane draws the words of one block and hands them round.
    const u32 own_bits = word(key, 2 * r);
    const u32 own_bucket = r * buckets + multiply_high(word(key, 2 * r + 1), buckets);
    TRAK_UNROLL
    for (int j = 0; j < LANES; j++) {
        const u32 bits = shuffle(own_bits, j, LANES);
        const i64 start = (i64)shuffle(own_bucket, j, LANES) * LANES - first;
        const u32 sign = (bits << (15 - lane)) & 0x80000000u;
        if (start >= 0 && start < columns) tile[start + (lane ^ (bits & 15u))] += float_of(bits_of(x[j]) ^ sign);
        warp_barrier();  // another lane adds to this column next
    }
}

// Grid (ceil(rows * splits / 2), ceil(k / tile)), 32 threads, shared memory for two tiles. Split i takes `per_split`
// blocks from block i * per_split on. Sums times `factor` go to (or, with `add`, are added to)
// out + split * split_stride + row * out_stride + column.
template <class Type>
TRAK_DEVICE void project_sjlt(Rows<Type> of, u64 stream, u64 first_block, i64 blocks, i64 per_split, int splits, int s,
                              int k, int tile, float factor, float* out, i64 out_stride, i64 split_stride, int add) {
    TRAK_DYNAMIC_SHARED(shared);
    const int lane = threadIdx.x % LANES, half = threadIdx.x / LANES;
    const i64 first = (i64)blockIdx.y * tile;
    const int columns = k - first < tile ? (int)(k - first) : tile;
    const int padded = tile + (tile % 32 == 0 ? LANES : 0);
    float* sums = (float*)shared + half * padded;
    for (int c = lane; c < columns; c += LANES) sums[c] = 0.0f;
    warp_barrier();

    const i64 worker = (i64)blockIdx.x * 2 + half;
    const int row = (int)(worker % of.rows);
    const i64 split = worker / of.rows;
    const i64 start = split * per_split;
    // A worker too many reads nothing (stop <= start) but keeps step with its neighbour.
    i64 stop = split < splits ? start + per_split : start;
    if (stop > blocks) stop = blocks;
    const typename Type::Stored* source = of.gradient + row * of.stride;

    float x[LANES], next[LANES];
    load16(x, of, source, start, stop);
    for (i64 done = 0; done < per_split; done += LANES) {
        load16(next, of, source, start + done + LANES, stop);
        const u64 key = block_key(stream, first_block + (u64)(start + done + lane));
        for (int r = 0; r < s; r++) add16(sums, first, columns, x, key, (u32)r, (u32)(k / (LANES * s)));
        TRAK_UNROLL
        for (int j = 0; j < LANES; j++) x[j] = next[j];
    }

    if (split >= splits) return;
    float* target = out + split * split_stride + row * out_stride + first;
    for (int c = lane; c < columns; c += LANES) {
        const float value = sums[c] * factor;
        target[c] = add ? target[c] + value : value;
    }
}

#define SJLT(name, Type)                                                                                               \
    TRAK_KERNEL void name(const Type::Stored* gradient, i64 stride, i64 width, int rows, int lead, u64 stream,          \
                          u64 first_block, i64 blocks, i64 per_split, int splits, int s, int k, int tile, float factor, \
                          float* out, i64 out_stride, i64 split_stride, int add) {                                      \
        const Rows<Type> of = {gradient, stride, width, rows, lead};                                                    \
        project_sjlt<Type>(of, stream, first_block, blocks, per_split, splits, s, k, tile, factor, out, out_stride,     \
                           split_stride, add);                                                                          \
    }

SJLT(sjlt_float32, Float32)
SJLT(sjlt_float16, Float16)
SJLT(sjlt_bfloat16, BFloat16)
