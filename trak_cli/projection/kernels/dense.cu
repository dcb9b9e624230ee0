// Dense projections on the tensor cores: gradient times a Rademacher or a Gaussian matrix that is never in memory.
//
// Three steps. `peak` finds the largest entry of each row. `pack` turns the rows into float16, scaled by a power of two
// to the top of its range, in the order in which the lanes of a warp need them. `project` multiplies: a lane computes the
// matrix entries it needs from hash words in its own registers; the packed gradient passes through shared memory.
//
// The product is computed transposed, (columns x coordinates) times (coordinates x samples), 16 x 8 x 16 at a time. Which
// coordinate sits in which of the 16 inner slots is free as long as both factors agree, and is chosen so that the four
// slots of quad lane q belong to one hash block: one Rademacher word then serves eight products.
#include "hash.cuh"
#include "numbers.cuh"
#include "reduce.cuh"
#include "warp_mma.cuh"

#define GROUP 128      // coordinates in a group: eight inner steps of 16, stored as four pairs
#define PACK_GROUPS 4  // groups that one thread block packs
#define THREADS 256
#define COLUMNS 256    // columns of a thread block; each of its eight warps has 32
#define FLUSH 128      // groups after which the sums of the tensor cores, which truncate, are added to rounded float32 sums

#define RADEMACHER 1
#define GAUSSIAN 2

template <int KIND>
struct Matrix;

template <>
struct Matrix<RADEMACHER> {
    enum { BLOCK = 32, KEYS = GROUP / 32 };
    // The coordinate, inside its group, of slot `slot` of quad lane q in step t. Slots 0, 1 are a lane's lower two.
    static TRAK_DEVICE int coordinate(int t, int q, int slot) { return 32 * q + 2 * t + (slot >> 1) + 16 * (slot & 1); }
};

template <>
struct Matrix<GAUSSIAN> {
    enum { BLOCK = 4, KEYS = GROUP / 4 };
    static TRAK_DEVICE int coordinate(int t, int q, int slot) { return 16 * t + 4 * q + slot; }
};

// A packed group: its block keys, then for each pair of steps, each tile of 8 samples and each lane 16 bytes: b0 and b1
// of the first step, b0 and b1 of the second.
TRAK_DEVICE i64 record_bytes(int keys, int tiles) { return keys * 8 + (i64)tiles * (GROUP * 16); }

// ---------------------------------------------------------------------------------------------------------------- peak

// peaks[row][part]: the largest magnitude in one of `parts` parts of a row, as the bits of a float32 (which order like
// the numbers; NaN comes after infinity). Grid (parts, rows), 256 threads.
template <class Type>
TRAK_DEVICE void peak(const typename Type::Stored* gradient, i64 stride, i64 width, u32* peaks) {
    typedef u32 Largest[THREADS];
    TRAK_SHARED(Largest, largest);
    const i64 parts = gridDim.x, part = blockIdx.x, row = blockIdx.y;
    const i64 per_part = (width + parts - 1) / parts;
    const i64 start = part * per_part;
    const i64 stop = start + per_part < width ? start + per_part : width;
    u32 mine = 0;
    for (i64 j = start + threadIdx.x; j < stop; j += THREADS) {
        const u32 bits = bits_of(Type::value(gradient[row * stride + j])) & 0x7fffffffu;
        mine = bits > mine ? bits : mine;
    }
    largest[threadIdx.x] = mine;
    for (int step = THREADS / 2; step > 0; step /= 2) {
        block_barrier();
        if (threadIdx.x < step) {
            const u32 other = largest[threadIdx.x + step];
            if (other > largest[threadIdx.x]) largest[threadIdx.x] = other;
        }
    }
    if (threadIdx.x == 0) peaks[row * parts + part] = largest[0];
}

// ---------------------------------------------------------------------------------------------------------------- pack

// The power of two that takes a row's peak into [2^14, 2^15): exponent of it. Zero for rows of zeros, and for rows with
// an infinity or a NaN, which must be preserved.
TRAK_DEVICE int scale_exponent(u32 peak) {
    if (peak == 0 || peak >= 0x7f800000u) return 0;
    const int exponent = 14 + 127 - (int)(peak >> 23);
    return exponent > 126 ? 126 : exponent;  // 2^126 and its inverse are both normal numbers
}

TRAK_DEVICE float power_of_two(int exponent) { return float_of((u32)(exponent + 127) << 23); }

// Grid (ceil(groups / 4), tiles), 256 threads. Entry j of a row is coordinate BLOCK * first_block + lead + j. With
// `parts` = 0 rows are not scaled. unscale[8 * tiles]: the inverse of each row's scale.
template <int KIND, class Type>
TRAK_DEVICE void pack(const typename Type::Stored* gradient, i64 stride, i64 width, int rows, int lead, u64 stream,
                      u64 first_block, i64 groups, const u32* peaks, int parts, unsigned char* records, float* unscale) {
    typedef u16 Entries[8][PACK_GROUPS * GROUP + 2];
    TRAK_SHARED(Entries, entries);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int tile = blockIdx.y, tiles = gridDim.y;
    const i64 first = (i64)blockIdx.x * PACK_GROUPS;
    const i64 bytes = record_bytes(Matrix<KIND>::KEYS, tiles);

    const i64 row = 8 * tile + warp;
    u32 largest = 0;
    if (row < rows) {
        for (int part = lane; part < parts; part += 32) {
            const u32 other = peaks[row * parts + part];
            largest = other > largest ? other : largest;
        }
    }
    TRAK_UNROLL
    for (int step = 16; step > 0; step /= 2) {
        const u32 other = shuffle(largest, lane ^ step, 32);
        largest = other > largest ? other : largest;
    }
    const int exponent = scale_exponent(largest);
    const float scale = power_of_two(exponent);
    if (blockIdx.x == 0 && lane == 0) unscale[row] = power_of_two(-exponent);
    TRAK_UNROLL
    for (int i = 0; i < PACK_GROUPS * GROUP; i += 32) {
        const i64 at = first * GROUP + i + lane - lead;
        const bool inside = row < rows && at >= 0 && at < width;
        entries[warp][i + lane] = inside ? Type::half(gradient[row * stride + at], scale) : (u16)0;
    }
    block_barrier();

    for (int piece = threadIdx.x; piece < PACK_GROUPS * 4 * 32; piece += THREADS) {
        const int group = piece / 128, pair = piece / 32 % 4;
        if (first + group >= groups) break;
        const u16* sample = entries[piece % 32 / 4] + group * GROUP;
        u32 words[4];
        TRAK_UNROLL
        for (int i = 0; i < 4; i++) {
            const int t = 2 * pair + i / 2, slot = 2 * (i % 2), q = piece % 4;
            const u32 low = sample[Matrix<KIND>::coordinate(t, q, slot)];
            words[i] = low | (u32)sample[Matrix<KIND>::coordinate(t, q, slot + 1)] << 16;
        }
        uint4* fragments = (uint4*)(records + (first + group) * bytes + Matrix<KIND>::KEYS * 8);
        uint4 fragment;
        fragment.x = words[0], fragment.y = words[1], fragment.z = words[2], fragment.w = words[3];
        fragments[(pair * tiles + tile) * 32 + piece % 32] = fragment;
    }
    if (tile != 0) return;
    for (int i = threadIdx.x; i < PACK_GROUPS * Matrix<KIND>::KEYS; i += THREADS) {
        const i64 group = first + i / Matrix<KIND>::KEYS;
        if (group >= groups) break;
        u64* keys = (u64*)(records + group * bytes);
        keys[i % Matrix<KIND>::KEYS] = block_key(stream, first_block + (u64)(first * Matrix<KIND>::KEYS + i));
    }
}

// ------------------------------------------------------------------------------------------------------------- project

// Two Rademacher entries: 1 with the sign bits `bit` and `bit + 16` of a word.
TRAK_DEVICE u32 signs(u32 word, int bit) { return ((word << (15 - bit)) & 0x80008000u) | 0x3C003C00u; }

// Two Gaussian entries, indexed by bytes `byte` and `byte + 1` of a word.
TRAK_DEVICE u32 normals(const u16* table, u32 word, int byte) {
    const u32 low = table[(word >> (8 * byte)) & 255u];
    return low | (u32)table[(word >> (8 * byte + 8)) & 255u] << 16;
}

// The sums of one warp: 32 columns (two tiles of 16) by 8 * TILES samples.
template <int TILES>
struct Sums {
    float at[2][TILES][4];
};

template <int TILES>
TRAK_DEVICE void clear(Sums<TILES>& sums) {
    TRAK_UNROLL
    for (int m = 0; m < 2; m++) {
        TRAK_UNROLL
        for (int n = 0; n < TILES; n++) {
            TRAK_UNROLL
            for (int i = 0; i < 4; i++) sums.at[m][n][i] = 0.0f;
        }
    }
}

// Adds the product of one group to the sums of a warp whose columns begin with `column`.
template <int KIND, int TILES>
TRAK_DEVICE void multiply(Sums<TILES>& sums, const unsigned char* record, const u16* table, u32 column) {
    const int lane = threadIdx.x % 32, q = lane % 4;
    const u64* keys = (const u64*)record;
    const uint4* fragments = (const uint4*)(record + Matrix<KIND>::KEYS * 8);
    column += lane / 4;
    u32 drawn[4];  // a lane's words: of its columns column, + 8, + 16, + 24
    if (KIND == RADEMACHER) {
        TRAK_UNROLL
        for (int c = 0; c < 4; c++) drawn[c] = word(keys[q], column + 8 * c);
    }
    TRAK_UNROLL
    for (int pair = 0; pair < 4; pair++) {
        u32 a[2][2][4];  // step of the pair, column tile, register
        TRAK_UNROLL
        for (int i = 0; i < 2; i++) {
            const int t = 2 * pair + i;
            TRAK_UNROLL
            for (int c = 0; c < 4; c++) {
                if (KIND == RADEMACHER) {
                    a[i][c / 2][c % 2] = signs(drawn[c], 2 * t);
                    a[i][c / 2][c % 2 + 2] = signs(drawn[c], 2 * t + 1);
                } else {
                    const u32 bits = word(keys[4 * t + q], column + 8 * c);
                    a[i][c / 2][c % 2] = normals(table, bits, 0);
                    a[i][c / 2][c % 2 + 2] = normals(table, bits, 2);
                }
            }
        }
        TRAK_UNROLL
        for (int n = 0; n < TILES; n++) {
            const uint4 b = fragments[(pair * TILES + n) * 32 + lane];
            mma16816(sums.at[0][n], a[0][0], b.x, b.y);
            mma16816(sums.at[1][n], a[0][1], b.x, b.y);
            mma16816(sums.at[0][n], a[1][0], b.z, b.w);
            mma16816(sums.at[1][n], a[1][1], b.z, b.w);
        }
    }
}

// The output of a split.
struct Target {
    float* out;  // entry (row, column) at row * stride + column
    i64 stride;
    int rows, k;
    const float* unscale;
};

template <int TILES>
TRAK_DEVICE void flush(const Sums<TILES>& sums, const Target& target, u32 column, bool add) {
    const int lane = threadIdx.x % 32;
    TRAK_UNROLL
    for (int n = 0; n < TILES; n++) {
        TRAK_UNROLL
        for (int i = 0; i < 4; i++) {
            const int row = 8 * n + 2 * (lane % 4) + i % 2;
            TRAK_UNROLL
            for (int m = 0; m < 2; m++) {
                const u32 c = column + 16 * m + lane / 4 + 8 * (i / 2);
                if (row >= target.rows || c >= (u32)target.k) continue;
                float* entry = target.out + row * target.stride + c;
                const float value = sums.at[m][n][i] * target.unscale[row];
                *entry = add ? *entry + value : value;
            }
        }
    }
}

template <int KIND, int TILES>
TRAK_DEVICE void fetch(unsigned char* shared, const unsigned char* records, int group) {
    const int bytes = (int)record_bytes(Matrix<KIND>::KEYS, TILES);
    records += (i64)group * bytes;
    for (int at = threadIdx.x * 16; at < bytes; at += THREADS * 16) copy16(shared + at, records + at);
}

// Grid (ceil(k / 256), splits), 256 threads, shared memory for two records and, for Gaussian, the table's 512 bytes.
// Split i takes groups from i * per_split on and writes to (or, with `add`, adds to) out + i * split_stride.
template <int KIND, int TILES>
TRAK_DEVICE void project(const unsigned char* records, int groups, int per_split, const u16* normal_table, Target target,
                         i64 split_stride, bool add) {
    TRAK_DYNAMIC_SHARED(shared);
    const int bytes = (int)record_bytes(Matrix<KIND>::KEYS, TILES);
    u16* table = (u16*)(shared + 2 * bytes);
    if (KIND == GAUSSIAN) table[threadIdx.x] = normal_table[threadIdx.x];

    const u32 column = blockIdx.x * COLUMNS + threadIdx.x / 32 * 32;
    const int first = blockIdx.y * per_split;
    const int stop = first + per_split < groups ? first + per_split : groups;
    target.out += blockIdx.y * split_stride;
    Sums<TILES> sums;
    clear(sums);
    fetch<KIND, TILES>(shared, records, first);
    for (int group = first, begin = first; begin < stop; begin += FLUSH) {
        for (const int end = begin + FLUSH < stop ? begin + FLUSH : stop; group < end; group++) {
            const int parity = (group - first) % 2;
            copy_wait();
            block_barrier();  // all threads see the group, and none reads the other buffer any more
            if (group + 1 < stop) fetch<KIND, TILES>(shared + (1 - parity) * bytes, records, group + 1);
            if (column < (u32)target.k) multiply<KIND, TILES>(sums, shared + parity * bytes, table, column);
        }
        flush(sums, target, column, add || begin != first);
        clear(sums);
    }
}

// --------------------------------------------------------------------------------------------------------- entry points

#define PEAK(name, Type)                                                                        \
    TRAK_KERNEL void name(const Type::Stored* gradient, i64 stride, i64 width, u32* peaks) {    \
        peak<Type>(gradient, stride, width, peaks);                                             \
    }

PEAK(peak_float32, Float32)
PEAK(peak_bfloat16, BFloat16)

#define PACK(name, KIND, Type)                                                                                        \
    TRAK_KERNEL void name(const Type::Stored* gradient, i64 stride, i64 width, int rows, int lead, u64 stream,         \
                          u64 first_block, i64 groups, const u32* peaks, int parts, unsigned char* records,            \
                          float* unscale) {                                                                            \
        pack<KIND, Type>(gradient, stride, width, rows, lead, stream, first_block, groups, peaks, parts, records,      \
                         unscale);                                                                                     \
    }

PACK(pack_rademacher_float32, RADEMACHER, Float32)
PACK(pack_rademacher_float16, RADEMACHER, Float16)
PACK(pack_rademacher_bfloat16, RADEMACHER, BFloat16)
PACK(pack_gaussian_float32, GAUSSIAN, Float32)
PACK(pack_gaussian_float16, GAUSSIAN, Float16)
PACK(pack_gaussian_bfloat16, GAUSSIAN, BFloat16)

#define PROJECT(name, KIND, TILES)                                                                                    \
    TRAK_KERNEL void TRAK_BOUNDS(THREADS, 2)                                                                           \
        name(const unsigned char* records, int groups, int per_split, const u16* normal_table, const float* unscale,   \
             int rows, int k, float* out, i64 out_stride, i64 split_stride, int add) {                                 \
        const Target target = {out, out_stride, rows, k, unscale};                                                     \
        project<KIND, TILES>(records, groups, per_split, normal_table, target, split_stride, add != 0);                \
    }

PROJECT(project_rademacher_1, RADEMACHER, 1)
PROJECT(project_rademacher_2, RADEMACHER, 2)
PROJECT(project_rademacher_4, RADEMACHER, 4)
PROJECT(project_rademacher_8, RADEMACHER, 8)
PROJECT(project_gaussian_1, GAUSSIAN, 1)
PROJECT(project_gaussian_2, GAUSSIAN, 2)
PROJECT(project_gaussian_4, GAUSSIAN, 4)
PROJECT(project_gaussian_8, GAUSSIAN, 8)
