/* Dense projection, the part that all instruction sets share. Each defines, before it includes this file:
 *
 *   W, V8, V16                 floats of a vector, and of the vectors that hold 8 and 16 samples (no more than W)
 *   ROWWISE                    0, or the largest panel that its own permute(job, row, rows, b, stop, scratch) supports
 *   MULTIPLY_ADD(a, x, y)      a + x·y for vectors of W floats
 *   GAUSSIAN_VECTORS           vectors of columns in a tile of registers
 */
#include <string.h>

#include "job.h"
#include "matrix.h"

typedef float vector __attribute__((vector_size(4 * W), may_alias));
typedef float loose_vector __attribute__((vector_size(4 * W), may_alias, aligned(4)));

static void flush(struct job *job, int64_t count)
{
    float *restrict partial = job->partial;
    double *restrict total = job->total;
    for (int64_t i = 0; i < count; i++) {
        total[i] += (double)partial[i];
        partial[i] = 0;
    }
    job->pending = 0;
}

#define FIELDS 7
#define ENTRIES 176
/* Blocks whose tables fit into the first-level cache together. */
#define DEPTH 2
/* Columns that are processed together, except in lookup.h. */
#define STRIP 64
/* Blocks that permute() processes together. */
#define PERMUTE_BLOCKS 8

struct rademacher_scratch {
    float tables[PERMUTE_BLOCKS * ENTRIES * 4 > DEPTH * ENTRIES * PANEL ? PERMUTE_BLOCKS * ENTRIES * 4
                                                                        : DEPTH * ENTRIES * PANEL];
    float transposed[DEPTH * 32 * PANEL];
    uint32_t words[DEPTH * MAX_COLUMNS];
};
_Static_assert(sizeof(struct rademacher_scratch) <= SCRATCH, "scratch is too small");

typedef float four __attribute__((vector_size(16), may_alias));
typedef float loose_four __attribute__((vector_size(16), may_alias, aligned(4)));
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, (int __attribute__((vector_size(16)))){i, j, k, l})
#endif

/* Four rows of `count` coordinates, `stride` apart, to coordinates `lanes` apart, of which the rows are neighbours. */
static inline void transpose_four(const float *restrict g, int64_t stride, int64_t count, float *restrict to, int64_t lanes)
{
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const four a = *(const loose_four *)(g + i), b = *(const loose_four *)(g + stride + i);
        const four c = *(const loose_four *)(g + 2 * stride + i), d = *(const loose_four *)(g + 3 * stride + i);
        const four ab = SHUFFLE(a, b, 0, 4, 1, 5), cd = SHUFFLE(c, d, 0, 4, 1, 5);
        const four more_ab = SHUFFLE(a, b, 2, 6, 3, 7), more_cd = SHUFFLE(c, d, 2, 6, 3, 7);
        *(four *)(to + i * lanes) = SHUFFLE(ab, cd, 0, 1, 4, 5);
        *(four *)(to + (i + 1) * lanes) = SHUFFLE(ab, cd, 2, 3, 6, 7);
        *(four *)(to + (i + 2) * lanes) = SHUFFLE(more_ab, more_cd, 0, 1, 4, 5);
        *(four *)(to + (i + 3) * lanes) = SHUFFLE(more_ab, more_cd, 2, 3, 6, 7);
    }
    for (; i < count; i++)
        for (int j = 0; j < 4; j++)
            to[i * lanes + j] = g[j * stride + i];
}

#define LANES 4
#define V 4
#include "lookup.h"
#define LANES 8
#define V V8
#include "lookup.h"
#define LANES 16
#define V V16
#include "lookup.h"

#if ROWWISE
static void permute(const struct job *, int64_t row, int64_t rows, int64_t b, int64_t stop, struct rademacher_scratch *);
#endif

/* Blocks [b, stop) of all rows and columns. */
static void rademacher_blocks(const struct job *job, int64_t b, int64_t stop)
{
    struct rademacher_scratch *scratch = job->scratch;
    const int64_t tail = job->rows % PANEL;
    const int64_t rows = job->rows - (tail <= ROWWISE ? tail : 0);
#if ROWWISE
    if (rows < job->rows)
        permute(job, rows, tail, b, stop, scratch);
#endif
    if (rows == 0)
        return;
    for (; b < stop; b += DEPTH) {
        const int blocks = (int)least(DEPTH, stop - b);
        for (int d = 0; d < blocks; d++)
            hash_words(block_key(job->stream, (uint64_t)(b + d)), (uint32_t)job->column, job->columns,
                       scratch->words + d * MAX_COLUMNS);
        for (int64_t row = 0; row < rows; row += PANEL) {
            const int64_t count = least(PANEL, rows - row);
            if (count > 8)
                panel_16(job, row, count, b, blocks, scratch);
            else if (count > 4)
                panel_8(job, row, count, b, blocks, scratch);
            else
                panel_4(job, row, count, b, blocks, scratch);
        }
    }
}

#define TILE 64 /* coordinates of a tile of the Gaussian matrix, which has STRIP columns */

struct gaussian_scratch {
    float tile[TILE * STRIP];
    uint32_t words[STRIP];
    uint16_t halves[256];
};
_Static_assert(sizeof(struct gaussian_scratch) <= SCRATCH, "scratch is too small");

#ifndef GAUSSIAN_FILL
/* The four rows of one block. */
static void gaussian_fill(const struct job *job, const uint32_t *restrict words, struct gaussian_scratch *unused, float *restrict to)
{
    (void)unused;
    for (int c = 0; c < STRIP; c++) {
        const uint32_t w = words[c];
        to[c] = job->table[w & 255];
        to[STRIP + c] = job->table[w >> 8 & 255];
        to[2 * STRIP + c] = job->table[w >> 16 & 255];
        to[3 * STRIP + c] = job->table[w >> 24];
    }
}
#else
static void gaussian_fill(const struct job *, const uint32_t *restrict, struct gaussian_scratch *, float *restrict);
#endif

/* sums (rows, STRIP) += gradient (rows, count) · tile (count, STRIP), coordinate after coordinate; `rows` is a constant. */
static inline __attribute__((always_inline)) void multiply(
    const struct job *job, const float *gradient, int64_t count, const float *restrict tile, float *sums, const int rows)
{
    const int64_t width = row_width(GAUSSIAN, job->columns);
    for (int c = 0; c < STRIP; c += W * GAUSSIAN_VECTORS) {
        vector a[4][GAUSSIAN_VECTORS];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < GAUSSIAN_VECTORS; v++)
                a[r][v] = *(const vector *)(sums + r * width + c + v * W);
        for (int64_t i = 0; i < count; i++)
            for (int r = 0; r < rows; r++) {
                const vector g = gradient[r * job->stride + i] - (vector){0};
                for (int v = 0; v < GAUSSIAN_VECTORS; v++)
                    a[r][v] = MULTIPLY_ADD(a[r][v], g, *(const vector *)(tile + i * STRIP + c + v * W));
            }
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < GAUSSIAN_VECTORS; v++)
                *(vector *)(sums + r * width + c + v * W) = a[r][v];
    }
}

/* Blocks [b, stop), at most a tile of them, of all rows and columns. */
static void gaussian_blocks(const struct job *job, int64_t b, int64_t stop)
{
    struct gaussian_scratch *scratch = job->scratch;
    const int64_t low = most(b * 4, job->offset), high = least(stop * 4, job->offset + job->length);
    const float *tile = scratch->tile + (low - b * 4) * STRIP;
    const float *gradient = job->gradient + (low - job->offset);
    for (int64_t c = 0; c < job->columns; c += STRIP) {
        for (int64_t block = b; block < stop; block++) {
            hash_words(block_key(job->stream, (uint64_t)block), (uint32_t)(job->column + c), STRIP, scratch->words);
            gaussian_fill(job, scratch->words, scratch, scratch->tile + (block - b) * 4 * STRIP);
        }
        for (int64_t r = 0; r < job->rows; r += 4) {
            const float *g = gradient + r * job->stride;
            float *sums = job->partial + r * row_width(GAUSSIAN, job->columns) + c;
            switch (least(4, job->rows - r)) {
            case 1: multiply(job, g, high - low, tile, sums, 1); break;
            case 2: multiply(job, g, high - low, tile, sums, 2); break;
            case 3: multiply(job, g, high - low, tile, sums, 3); break;
            default: multiply(job, g, high - low, tile, sums, 4);
            }
        }
    }
}

/* Passes the gradient to `blocks`, cut at the multiples of `step` coordinates, and flushes at the end of a segment. */
static void dense(struct job *job, int kind, int64_t block, int64_t step, int64_t segment,
                  void (*blocks)(const struct job *, int64_t, int64_t))
{
    const int64_t end = job->offset + job->length;
    for (int64_t at = job->offset; at < end;) {
        if (at % segment == 0 && job->pending >= segment)
            flush(job, job_floats(ROWWISE, kind, job->rows, job->columns));
        const int64_t next = least((at / step + 1) * step, end);
        blocks(job, at / block, (next + block - 1) / block);
        job->pending += next - at;
        at = next;
    }
}

static void project_rademacher(struct job *job)
{
    dense(job, RADEMACHER, 32, RADEMACHER_SEGMENT, RADEMACHER_SEGMENT, rademacher_blocks);
}

static void project_gaussian(struct job *job)
{
    struct gaussian_scratch *scratch = job->scratch;
    for (int i = 0; i < 256; i++) {
        uint32_t bits;
        memcpy(&bits, job->table + i, sizeof bits);
        scratch->halves[i] = (uint16_t)(bits >> 16);
    }
    dense(job, GAUSSIAN, 4, TILE, GAUSSIAN_SEGMENT, gaussian_blocks);
}
