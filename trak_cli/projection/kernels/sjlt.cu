// Sparse projection: every coordinate is added, with a sign, to s of the k columns.
//
// A warp is one worker, with one row, one run of the coordinates and a private tile of sums in shared memory. The 16
// coordinates of a block go to 16 different columns of one 16-wide bucket, so the lanes of a block never conflict and no
// atomics are needed. Each half of the warp takes every other block.
//
// AT_ONCE blocks of each half are read from the tile together and then written, so that they wait for it once. If two of them
// share a bucket, which is rare with many buckets, they are added one after another.
#include "hash.cuh"
#include "numbers.cuh"
#include "reduce.cuh"

#define LANES 16  // coordinates in a block, columns in a bucket, lanes of half a warp
#define ROUND 32  // blocks that a warp takes in turn, 16 for each half
#define AHEAD 2   // rounds by which the gradient is fetched before its use

// One gradient tensor, or a part of it.
template <class Type>
struct Rows {
    const typename Type::Stored* gradient;  // entry (row, j) at row * stride + j
    i64 stride, width;
    int rows, lead;  // entry j is coordinate 16 first_block + lead + j of the parameter
};

// Entry `lane` of the blocks block + half, block + half + 2, ... of a round of one row; zero outside of the row.
template <class Type>
TRAK_DEVICE void load(float (&x)[LANES], const Rows<Type>& of, const typename Type::Stored* row, i64 block, i64 stop) {
    const int lane = threadIdx.x;
    const i64 first = block * LANES - of.lead;
    if (block + ROUND <= stop && first >= 0 && first + ROUND * LANES <= of.width) {
        const typename Type::Stored* source = row + first + lane;
        TRAK_UNROLL
        for (int j = 0; j < LANES; j++) x[j] = Type::value(source[2 * LANES * j]);
        return;
    }
    TRAK_UNROLL
    for (int j = 0; j < LANES; j++) {
        const i64 at = first + 2 * LANES * j + lane;
        x[j] = block + 2 * j + lane / LANES < stop && at >= 0 && at < of.width ? Type::value(row[at]) : 0.0f;
    }
}

// The destinations of the blocks of a round, exchanged between the lanes: two words per block.
struct Plan {
    uint4 pair[2][LANES / 2];  // of a half; x, z: the column of coordinate 0, with which i is xored; y, w: the signs
};

#define CLASH 1u  // a bit that the signs leave free: two blocks of these 2 * AT_ONCE share a bucket

// Each lane computes the words of one block. Columns are relative to `first`.
template <int AT_ONCE>
TRAK_DEVICE void draw(Plan& plan, u64 key, u32 r, u32 buckets, u32 first) {
    const u32 lane = threadIdx.x;
    const u32 bits = word(key, 2 * r);
    const u32 bucket = r * buckets + multiply_high(word(key, 2 * r + 1), buckets);
    u32 clash = 0;
    TRAK_UNROLL
    for (u32 other = 1; other < 2u * AT_ONCE; other++) clash |= bucket == shuffle(bucket, lane ^ other, 32) ? CLASH : 0u;
    TRAK_UNROLL
    for (u32 other = 1; other < 2u * AT_ONCE; other *= 2) clash |= shuffle(clash, lane ^ other, 32);
    u32* own = (u32*)plan.pair[lane % 2] + lane / 2 * 2;
    own[0] = (bucket * LANES - first) ^ (bits & 15u);
    own[1] = (bits & 0xffff0000u) | clash;
    warp_barrier();
}

// Adds the blocks of a round to the tile, which has `columns` columns; to each column in the order of the blocks.
template <int AT_ONCE>
TRAK_DEVICE void add(float* tile, u32 columns, const float (&x)[LANES], const Plan& plan) {
    const u32 lane = threadIdx.x % LANES, half = threadIdx.x / LANES;
    u32 column[LANES], signs[LANES];
    TRAK_UNROLL
    for (int j = 0; j < LANES / 2; j++) {
        const uint4 two = plan.pair[half][j];
        column[2 * j] = two.x ^ lane, signs[2 * j] = two.y;
        column[2 * j + 1] = two.z ^ lane, signs[2 * j + 1] = two.w;
    }
    TRAK_UNROLL
    for (int j = 0; j < LANES; j += AT_ONCE) {
        float value[AT_ONCE], sum[AT_ONCE];
        TRAK_UNROLL
        for (int i = 0; i < AT_ONCE; i++) {
            value[i] = float_of(bits_of(x[j + i]) ^ ((signs[j + i] << (15 - lane)) & 0x80000000u));
        }
        if (signs[j] & CLASH) {  // all lanes agree on it
            TRAK_UNROLL
            for (u32 i = 0; i < 2u * AT_ONCE; i++) {
                if (half == i % 2 && column[j + i / 2] < columns) tile[column[j + i / 2]] += value[i / 2];
                warp_barrier();
            }
        } else {
            TRAK_UNROLL
            for (int i = 0; i < AT_ONCE; i++) sum[i] = column[j + i] < columns ? tile[column[j + i]] : 0.0f;
            TRAK_UNROLL
            for (int i = 0; i < AT_ONCE; i++) {
                if (column[j + i] < columns) tile[column[j + i]] = sum[i] + value[i];
            }
            warp_barrier();  // another lane adds to these columns next
        }
    }
}

// Grid (rows * splits, ceil(k / tile)), 32 threads, shared memory for a tile. Split i takes `per_split` blocks from block
// i * per_split on. Sums times `factor` go to (or, with `add_to`, are added to) out + split * split_stride + row * out_stride
// + column.
template <class Type, int AT_ONCE>
TRAK_DEVICE void project_sjlt(Rows<Type> of, u64 stream, u64 first_block, i64 blocks, i64 per_split, int s, int k, int tile,
                              float factor, float* out, i64 out_stride, i64 split_stride, int add_to) {
    TRAK_DYNAMIC_SHARED(shared);
    TRAK_SHARED(Plan, plan);
    const int lane = threadIdx.x;
    const i64 first = (i64)blockIdx.y * tile;
    const int columns = k - first < tile ? (int)(k - first) : tile;
    float* sums = (float*)shared;
    for (int c = lane; c < columns; c += 32) sums[c] = 0.0f;
    warp_barrier();

    const int row = (int)(blockIdx.x % (u32)of.rows);
    const i64 split = blockIdx.x / (u32)of.rows;
    const i64 start = split * per_split;
    const i64 stop = start + per_split < blocks ? start + per_split : blocks;
    const typename Type::Stored* source = of.gradient + row * of.stride;

    float x[LANES], next[AHEAD][LANES];
    load(x, of, source, start, stop);
    TRAK_UNROLL
    for (int a = 0; a < AHEAD - 1; a++) load(next[a], of, source, start + (a + 1) * ROUND, stop);
    for (i64 block = start; block < stop; block += ROUND) {
        load(next[AHEAD - 1], of, source, block + AHEAD * ROUND, stop);
        const u64 key = block_key(stream, first_block + (u64)(block + lane));
        for (int r = 0; r < s; r++) {
            draw<AT_ONCE>(plan, key, (u32)r, (u32)(k / (LANES * s)), (u32)first);
            add<AT_ONCE>(sums, (u32)columns, x, plan);
        }
        TRAK_UNROLL
        for (int j = 0; j < LANES; j++) {
            x[j] = next[0][j];
            TRAK_UNROLL
            for (int a = 1; a < AHEAD; a++) next[a - 1][j] = next[a][j];
        }
    }

    float* target = out + split * split_stride + row * out_stride + first;
    for (int c = lane; c < columns; c += 32) {
        const float value = sums[c] * factor;
        target[c] = add_to ? target[c] + value : value;
    }
}

#define SJLT(name, Type, AT_ONCE)                                                                                      \
    TRAK_KERNEL void name(const Type::Stored* gradient, i64 stride, i64 width, int rows, int lead, u64 stream,          \
                          u64 first_block, i64 blocks, i64 per_split, int s, int k, int tile, float factor, float* out, \
                          i64 out_stride, i64 split_stride, int add_to) {                                               \
        const Rows<Type> of = {gradient, stride, width, rows, lead};                                                    \
        project_sjlt<Type, AT_ONCE>(of, stream, first_block, blocks, per_split, s, k, tile, factor, out, out_stride,    \
                                    split_stride, add_to);                                                              \
    }

SJLT(sjlt_float32_2, Float32, 2)
SJLT(sjlt_float32_4, Float32, 4)
SJLT(sjlt_float16_2, Float16, 2)
SJLT(sjlt_float16_4, Float16, 4)
SJLT(sjlt_bfloat16_2, BFloat16, 2)
SJLT(sjlt_bfloat16_4, BFloat16, 4)
