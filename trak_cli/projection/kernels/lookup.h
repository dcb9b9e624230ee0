/* Dense Rademacher by tables ("four Russians"), LANES samples side by side in vectors of V floats.
 *
 * The 32 bits of a word are cut into fields of 5, 5, 5, 5, 4, 4, 4 bits. For each field, the signed sums of its coordinates
 * are computed once for every value of the field; an entry of such a table is a row of LANES samples. A column then costs seven
 * additions of table rows for 32 coordinates. This file is included once for each value of LANES.
 */
#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define LOCAL(name) PASTE(name, LANES)
#define VEC LOCAL(lanes)
#define N (LANES / V)
#define ROW_BITS (LANES == 16 ? 6 : LANES == 8 ? 5 : 4)

typedef float VEC __attribute__((vector_size(4 * V), may_alias));

/* Coordinates [first, first + count) of `rows` rows from `row` on, transposed; missing rows are zero. */
static void LOCAL(transpose)(const struct job *job, int64_t row, int64_t rows, int64_t first, int64_t count, float *restrict out)
{
    const int64_t low = most(first, job->offset), high = least(first + count, job->offset + job->length);
    if (rows < LANES || high - low < count)
        memset(out, 0, (size_t)count * LANES * sizeof(float));
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4)
        transpose_four(job->gradient + (row + r) * job->stride + (low - job->offset), job->stride, high - low,
                       out + (low - first) * LANES + r, LANES);
    for (; r < rows; r++) {
        const float *restrict g = job->gradient + (row + r) * job->stride + (low - job->offset);
        float *restrict to = out + (low - first) * LANES + r;
        for (int64_t i = 0; i < high - low; i++)
            to[i * LANES] = g[i];
    }
}

/* The tables of one block from its 32 transposed coordinates. Sums are computed from the lowest bit upwards. */
static void LOCAL(build)(const VEC *restrict g, VEC *restrict table)
{
    for (int field = 0; field < FIELDS; field++) {
        const int bits = field < 4 ? 5 : 4;
        for (int v = 0; v < N; v++) {
            table[v] = g[v];
            table[N + v] = -g[v];
        }
        for (int j = 1; j < bits; j++) {
            const VEC *x = g + j * N;
            for (int m = 0; m < N << j; m++) {
                const VEC sum = table[m];
                table[m] = sum + x[m % N];
                table[(N << j) + m] = sum - x[m % N];
            }
        }
        g += bits * N;
        table += N << bits;
    }
}

/* Byte offset of a table row: a rotation moves the field to where it is a multiple of the size of a row of LANES floats. */
#define ROTATED(w, n) ((w) >> ((n) & 31) | (w) << (-(n) & 31))
#define FIELD(w, shift, bits) (ROTATED(w, (shift) - ROW_BITS) & ((uint32_t)((1 << (bits)) - 1) << ROW_BITS))
#define ADD_ENTRY(first, shift, bits)                                                                                          \
    {                                                                                                                          \
        const VEC *entry = (const VEC *)(table + (first) * LANES * 4 + FIELD(w, shift, bits));                                 \
        for (int v = 0; v < N; v++)                                                                                            \
            a[v] += entry[v];                                                                                                  \
    }

/* Adds `blocks` (a constant) blocks to the sums of all columns. */
static inline __attribute__((always_inline)) void LOCAL(add)(
    const VEC *restrict tables, const uint32_t *restrict words, VEC *restrict sums, int64_t columns, int blocks)
{
    for (int64_t c = 0; c < columns; c++) {
        VEC a[N];
        for (int v = 0; v < N; v++)
            a[v] = sums[c * N + v];
        for (int d = 0; d < blocks; d++) {
            const char *table = (const char *)(tables + d * ENTRIES * N);
            const uint32_t w = words[d * MAX_COLUMNS + c];
            ADD_ENTRY(0, 0, 5)
            ADD_ENTRY(32, 5, 5)
            ADD_ENTRY(64, 10, 5)
            ADD_ENTRY(96, 15, 5)
            ADD_ENTRY(128, 20, 4)
            ADD_ENTRY(144, 24, 4)
            ADD_ENTRY(160, 28, 4)
        }
        for (int v = 0; v < N; v++)
            sums[c * N + v] = a[v];
    }
}

/* Blocks [b, b + blocks), 1 ≤ blocks ≤ DEPTH, of one panel. */
static void LOCAL(panel)(const struct job *job, int64_t row, int64_t rows, int64_t b, int blocks, struct rademacher_scratch *scratch)
{
    VEC *tables = (VEC *)scratch->tables, *transposed = (VEC *)scratch->transposed;
    VEC *sums = (VEC *)(job->partial + row * row_width(RADEMACHER, job->columns));
    LOCAL(transpose)(job, row, rows, b * 32, 32 * blocks, scratch->transposed);
    for (int d = 0; d < blocks; d++)
        LOCAL(build)(transposed + d * 32 * N, tables + d * ENTRIES * N);
    if (blocks == DEPTH)
        LOCAL(add)(tables, scratch->words, sums, job->columns, DEPTH);
    else
        for (int d = 0; d < blocks; d++)
            LOCAL(add)(tables + d * ENTRIES * N, scratch->words + d * MAX_COLUMNS, sums, job->columns, 1);
}

#undef ADD_ENTRY
#undef FIELD
#undef ROTATED
#undef ROW_BITS
#undef N
#undef VEC
#undef LOCAL
#undef PASTE
#undef PASTE_
#undef LANES
#undef V
