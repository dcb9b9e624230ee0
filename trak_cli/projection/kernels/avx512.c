/* The kernels for x86 processors with AVX-512. */
#include "job.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2,prefer-vector-width=512")
#endif

#define W 16
#define V8 8
#define V16 16
#define ROWWISE 4
#define GAUSSIAN_VECTORS 4
#define GAUSSIAN_FILL
#define MULTIPLY_ADD(a, x, y) ((vector)_mm512_fmadd_ps((__m512)(x), (__m512)(y), (__m512)(a)))

#include "dense.h"

/* For few rows: the tables of a sample are in registers, and the words of 16 columns index a table in a single instruction. */

/* The tables of one block: two vectors for each field of five bits, one for each of four. Entries are the sums of lookup.h. */
static void permute_tables(const float *g, __m512 *table)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 minus = _mm512_set1_ps(-0.0f);
    for (int field = 0; field < FIELDS; field++) {
        __m512 sum = _mm512_set1_ps(g[0]);
        sum = _mm512_mask_xor_ps(sum, 0xAAAA, sum, minus);
        for (int j = 1; j < 4; j++) {
            const __m512 x = _mm512_set1_ps(g[j]);
            const __mmask16 negative = _mm512_test_epi32_mask(lane, _mm512_set1_epi32(1 << j));
            sum = _mm512_mask_sub_ps(_mm512_add_ps(sum, x), negative, sum, x);
        }
        if (field < 4) {
            const __m512 x = _mm512_set1_ps(g[4]);
            *table++ = _mm512_add_ps(sum, x);
            *table++ = _mm512_sub_ps(sum, x);
            g += 5;
        } else {
            *table++ = sum;
            g += 4;
        }
    }
}

/* Keeps the compiler from delaying an addition, which would spill its operands to the stack. */
#define STAY(x) __asm__ volatile("" : "+v"(x))

/* A field of five bits: the word, shifted, is the index; its higher bits are ignored. `rows` is a constant. */
#define WIDE(shift)                                                                                                            \
    {                                                                                                                          \
        __m512i index[4];                                                                                                      \
        for (int v = 0; v < 4; v++)                                                                                            \
            index[v] = _mm512_srli_epi32(w[v], shift);                                                                         \
        for (int r = 0; r < rows; r++) {                                                                                       \
            const __m512 low = table[r * stride], high = table[r * stride + 1];                                                \
            for (int v = 0; v < 4; v++) {                                                                                      \
                a[r][v] = _mm512_add_ps(a[r][v], _mm512_permutex2var_ps(low, index[v], high));                                 \
                STAY(a[r][v]);                                                                                                 \
            }                                                                                                                  \
        }                                                                                                                      \
        table += 2;                                                                                                            \
    }
#define NARROW(shift)                                                                                                          \
    {                                                                                                                          \
        __m512i index[4];                                                                                                      \
        for (int v = 0; v < 4; v++)                                                                                            \
            index[v] = _mm512_srli_epi32(w[v], shift);                                                                         \
        for (int r = 0; r < rows; r++) {                                                                                       \
            const __m512 low = table[r * stride];                                                                              \
            for (int v = 0; v < 4; v++) {                                                                                      \
                a[r][v] = _mm512_add_ps(a[r][v], _mm512_permutexvar_ps(index[v], low));                                        \
                STAY(a[r][v]);                                                                                                 \
            }                                                                                                                  \
        }                                                                                                                      \
        table += 1;                                                                                                            \
    }

/* fmix of definition.py in three steps, for the words of the next block. They are interleaved with the look-ups of this one, so
 * that the ports that shift and permute and those that multiply and add are always busy. */
#define STEP(expression)                                                                                                       \
    for (int v = 0; v < 4; v++) {                                                                                              \
        __m512i x = next[v];                                                                                                   \
        x = expression;                                                                                                        \
        STAY(x);                                                                                                               \
        next[v] = x;                                                                                                           \
    }
#define SHIFTED(x, n) _mm512_xor_si512(x, _mm512_srli_epi32(x, n))
#define FMIX_1 STEP(_mm512_mullo_epi32(SHIFTED(x, 16), _mm512_set1_epi32((int)0x85EBCA6Bu)))
#define FMIX_2 STEP(_mm512_mullo_epi32(SHIFTED(x, 13), _mm512_set1_epi32((int)0xC2B2AE35u)))
#define FMIX_3 STEP(SHIFTED(x, 16))
#define PLUS(key) STEP(_mm512_add_epi32(x, _mm512_set1_epi32((int)(key))))

/* Adds `blocks` blocks to STRIP columns, from `column` on, of `rows` rows. Hashing in the same loop keeps all ports busy. */
static inline __attribute__((always_inline)) void permute_strip(
    const __m512 *table, const uint64_t *keys, int64_t blocks, uint32_t column, float *sums, int64_t width, const int rows)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const int stride = PERMUTE_BLOCKS * 11;
    __m512i step[4], next[4];
    __m512 a[4][4];
    for (int v = 0; v < 4; v++)
        step[v] = _mm512_mullo_epi32(_mm512_add_epi32(_mm512_set1_epi32((int)(column + 16 * (uint32_t)v)), lane),
                                     _mm512_set1_epi32((int)GOLDEN32));
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++)
            a[r][v] = _mm512_load_ps(sums + r * width + 16 * v);
    for (int v = 0; v < 4; v++)
        next[v] = step[v];
    PLUS(keys[0])
    FMIX_1 FMIX_2 FMIX_3
    PLUS(keys[0] >> 32)
    FMIX_1 FMIX_2 FMIX_3
    for (int64_t d = 0; d < blocks; d++) {
        const uint64_t key = keys[d + 1];
        __m512i w[4];
        for (int v = 0; v < 4; v++) {
            w[v] = next[v];
            next[v] = step[v];
        }
        WIDE(0)
        PLUS(key)
        FMIX_1
        WIDE(5)
        FMIX_2
        WIDE(10)
        FMIX_3
        PLUS(key >> 32)
        WIDE(15)
        FMIX_1
        NARROW(20)
        FMIX_2
        NARROW(24)
        FMIX_3
        NARROW(28)
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++)
            _mm512_store_ps(sums + r * width + 16 * v, a[r][v]);
}

static void permute(const struct job *job, int64_t row, int64_t rows, int64_t b, int64_t stop, struct rademacher_scratch *scratch)
{
    const int64_t width = row_width(RADEMACHER, job->columns);
    __m512 *tables = (__m512 *)scratch->tables;
    for (; b < stop; b += PERMUTE_BLOCKS) {
        const int64_t blocks = least(PERMUTE_BLOCKS, stop - b);
        const int64_t low = most(b * 32, job->offset), high = least((b + blocks) * 32, job->offset + job->length);
        uint64_t keys[PERMUTE_BLOCKS + 1]; /* one is read ahead */
        for (int64_t d = 0; d <= blocks; d++)
            keys[d] = block_key(job->stream, (uint64_t)(b + d));
        for (int64_t r = 0; r < rows; r++) {
            float g[PERMUTE_BLOCKS * 32] = {0};
            memcpy(g + (low - b * 32), job->gradient + (row + r) * job->stride + (low - job->offset),
                   (size_t)(high - low) * sizeof(float));
            for (int64_t d = 0; d < blocks; d++)
                permute_tables(g + 32 * d, tables + (r * PERMUTE_BLOCKS + d) * 11);
        }
        for (int64_t c = 0; c < job->columns; c += STRIP) {
            float *sums = job->partial + row * width + c;
            const uint32_t column = (uint32_t)(job->column + c);
            switch (rows) {
            case 1: permute_strip(tables, keys, blocks, column, sums, width, 1); break;
            case 2: permute_strip(tables, keys, blocks, column, sums, width, 2); break;
            case 3: permute_strip(tables, keys, blocks, column, sums, width, 3); break;
            default: permute_strip(tables, keys, blocks, column, sums, width, 4);
            }
        }
    }
}

/* The upper halves of 16 floats' bits and of 16 more, looked up by a byte in each half of a word. */
static inline __m512i gaussian_halves(const __m512i table[4], __m512i byte)
{
    /* Entries −1 − j and j are of opposite sign: half a table is enough. */
    const __mmask32 negative = _mm512_testn_epi16_mask(byte, _mm512_set1_epi16(128));
    const __m512i mirrored = _mm512_xor_si512(byte, _mm512_maskz_set1_epi16(negative, 127));
    const __m512i low = _mm512_permutex2var_epi16(table[0], mirrored, table[1]);
    const __m512i high = _mm512_permutex2var_epi16(table[2], mirrored, table[3]);
    const __mmask32 upper = _mm512_test_epi16_mask(mirrored, _mm512_set1_epi16(64));
    const __m512i found = _mm512_mask_mov_epi16(low, upper, high);
    return _mm512_xor_si512(found, _mm512_maskz_set1_epi16(negative, (short)0x8000));
}

static void gaussian_fill(const struct job *job, const uint32_t *restrict words, struct gaussian_scratch *scratch, float *restrict to)
{
    (void)job;
    __m512i table[4];
    for (int v = 0; v < 4; v++)
        table[v] = _mm512_loadu_si512(scratch->halves + 128 + 32 * v);
    const __m512i bytes = _mm512_set1_epi32(0x00FF00FF), upper = _mm512_set1_epi32((int)0xFFFF0000u);
    for (int c = 0; c < STRIP; c += 16) {
        const __m512i w = _mm512_load_si512(words + c);
        const __m512i even = gaussian_halves(table, _mm512_and_si512(w, bytes));
        const __m512i odd = gaussian_halves(table, _mm512_and_si512(_mm512_srli_epi32(w, 8), bytes));
        _mm512_store_si512(to + c, _mm512_slli_epi32(even, 16));
        _mm512_store_si512(to + STRIP + c, _mm512_slli_epi32(odd, 16));
        _mm512_store_si512(to + 2 * STRIP + c, _mm512_and_si512(even, upper));
        _mm512_store_si512(to + 3 * STRIP + c, _mm512_and_si512(odd, upper));
    }
}

static inline void add_group(const float *group, uint32_t w1, float *restrict sums)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i left = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i word = _mm512_set1_epi32((int)w1), top = _mm512_set1_epi32((int)0x80000000u);
    /* 0x78: the first operand xor (the second and the third). */
    const __m512i x = _mm512_ternarylogic_epi32(_mm512_loadu_si512(group), _mm512_sllv_epi32(word, left), top, 0x78);
    const __m512 moved = _mm512_permutexvar_ps(_mm512_xor_si512(lane, word), _mm512_castsi512_ps(x));
    _mm512_store_ps(sums, _mm512_add_ps(_mm512_load_ps(sums), moved));
}

#include "sjlt.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static int supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

const struct variant avx512_variant = {"c-avx512", supported, {project_rademacher, project_gaussian, project_sjlt}, project_sjlt_factors, ROWWISE};
#else
static int supported(void)
{
    return 0;
}

const struct variant avx512_variant = {"c-avx512", supported, {0, 0, 0}, 0, 0};
#endif
