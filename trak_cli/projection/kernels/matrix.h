/* The hash of trak_cli/projection/definition.py, bit by bit. A change of a constant must raise MATRIX_VERSION there. */
#ifndef TRAK_MATRIX_H
#define TRAK_MATRIX_H

#include <stdint.h>

#define GOLDEN64 0x9E3779B97F4A7C15u
#define GOLDEN32 0x9E3779B1u

static inline uint64_t mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* The upper 16 bits are those of fmix(x). */
static inline uint32_t fmix_upper(uint32_t x)
{
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    return (x ^ (x >> 13)) * 0xC2B2AE35u;
}

static inline uint32_t fmix(uint32_t x)
{
    x = fmix_upper(x);
    return x ^ (x >> 16);
}

/* K of block b; the stream is S. */
static inline uint64_t block_key(uint64_t stream, uint64_t b)
{
    return mix64(stream + (b + 1) * GOLDEN64);
}

/* W(b, c) for `count` columns from `column` on: a loop that compilers vectorise. */
static inline void hash_words(uint64_t key, uint32_t column, int64_t count, uint32_t *restrict words)
{
    const uint32_t low = (uint32_t)key, high = (uint32_t)(key >> 32);
    uint32_t step = GOLDEN32 * column + low;
    for (int64_t i = 0; i < count; i++) {
        words[i] = fmix(fmix(step) + high);
        step += GOLDEN32;
    }
}

#endif
