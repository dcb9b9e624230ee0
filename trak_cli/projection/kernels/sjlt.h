/* Sparse projection, the part that all instruction sets share. Each defines, before it includes this file, a function
 * add_group(group, w1, sums) that adds the 16 floats of `group`, with the signs of w1 and in the places lane ^ (w1 & 15), to
 * sums[0..15].
 *
 * The destinations of a few hundred groups are computed once for all rows. Sums are computed in the order of the coordinates. */

#define CHUNK 512 /* groups hashed at once, at most */
#define PLAN 2048 /* (group, r) pairs hashed at once, at most */

/* Groups hashed at once for a single row, with one non-zero and with more: few enough that reads and hashing overlap.
 * The code for these two numbers is unrolled. */
#define SINGLE_ONE 16
#define SINGLE_MORE 64

/* How many groups ahead of their use a gradient is prefetched, except where the processor's own prefetching was measured to be
 * enough: two rows at once, each group used once. Prefetching beyond the end is harmless. */
#define AHEAD 32
#define PREFETCH(address) __builtin_prefetch((const void *)((uintptr_t)(address)))

/* Groups of a gradient that are computed at once from its factors; how many of them are neighbours in a row of the weight; and how
 * many groups of a right factor are needed for it: tiles, sums and right factors of two samples fit into the first-level cache. */
#define TILE_GROUPS 64
#define TILE_WIDTH 16
#define TILE_FACTORS 256

struct sjlt_scratch {
    uint32_t low[CHUNK], high[CHUNK];
    uint32_t w1[PLAN], place[PLAN]; /* [r * groups + g]; places in units of 8 bytes, so that 32 bits suffice */
    float edge[16];
    float tile[2][16 * TILE_GROUPS] __attribute__((aligned(64)));
};
_Static_assert(sizeof(struct sjlt_scratch) <= SCRATCH, "scratch is too small");

/* How the bucket ⌊w2·n / 2^32⌋ is computed: in 64 bits; in 32 bits, of which twice as many fit into a vector, for n below 2^16;
 * or, where n = 2^b for a b of 1 to 16, as the b highest bits of w2. */
enum bucket { WIDE_BUCKET, NARROW_BUCKET, SHIFTED_BUCKET };

static inline enum bucket bucket_way(uint32_t n)
{
    return n > 1 && n <= 65536 && (n & (n - 1)) == 0 ? SHIFTED_BUCKET : n < 65536 ? NARROW_BUCKET : WIDE_BUCKET;
}

/* The words of the r-th non-zero of every group, and the destination of its 16 floats. `way` is a constant. */
static inline __attribute__((always_inline)) void sjlt_words(
    struct sjlt_scratch *plan, int64_t groups, uint32_t r, uint32_t n, int64_t at, const enum bucket way)
{
    uint32_t *restrict w1 = plan->w1 + at, *restrict place = plan->place + at;
    const uint32_t even = GOLDEN32 * (2 * r), odd = GOLDEN32 * (2 * r + 1);
    const int unused = 1 + __builtin_clz(n); /* bits of w2 */
    for (int64_t i = 0; i < groups; i++) {
        w1[i] = fmix(fmix(even + plan->low[i]) + plan->high[i]);
        const uint32_t x = fmix(odd + plan->low[i]) + plan->high[i];
        const uint32_t w2 = way == SHIFTED_BUCKET ? fmix_upper(x) : fmix(x);
        const uint32_t bucket = way == SHIFTED_BUCKET  ? w2 >> unused
                                : way == NARROW_BUCKET ? ((w2 >> 16) * n + ((w2 & 65535) * n >> 16)) >> 16
                                                       : (uint32_t)((uint64_t)w2 * n >> 32);
        place[i] = 8 * (r * n + bucket);
    }
}

/* The keys of groups [g, g + groups), from place `at` on. */
static inline __attribute__((always_inline)) void sjlt_keys(
    const struct job *job, int64_t g, int64_t groups, int64_t at, struct sjlt_scratch *plan)
{
    for (int64_t i = 0; i < groups; i++) {
        const uint64_t key = block_key(job->stream, (uint64_t)(g + i));
        plan->low[at + i] = (uint32_t)key;
        plan->high[at + i] = (uint32_t)(key >> 32);
    }
}

/* Hashes the groups with these keys for the non-zeros [first, last). */
static inline __attribute__((always_inline)) void sjlt_hash(
    const struct job *job, int64_t groups, int64_t first, int64_t last, struct sjlt_scratch *plan)
{
    const uint32_t n = (uint32_t)(job->columns / (16 * job->nonzeros));
    for (int64_t r = first; r < last; r++)
        switch (bucket_way(n)) { /* each with its own loop */
        case SHIFTED_BUCKET: sjlt_words(plan, groups, (uint32_t)r, n, (r - first) * groups, SHIFTED_BUCKET); break;
        case NARROW_BUCKET: sjlt_words(plan, groups, (uint32_t)r, n, (r - first) * groups, NARROW_BUCKET); break;
        default: sjlt_words(plan, groups, (uint32_t)r, n, (r - first) * groups, WIDE_BUCKET);
        }
}

static inline __attribute__((always_inline)) void sjlt_keys_and_words(
    const struct job *job, int64_t g, int64_t groups, int64_t first, int64_t last, struct sjlt_scratch *plan)
{
    sjlt_keys(job, g, groups, 0, plan);
    sjlt_hash(job, groups, first, last, plan);
}

static void sjlt_plan(const struct job *job, int64_t g, int64_t groups, int64_t first, int64_t last, struct sjlt_scratch *plan)
{
    switch (groups) { /* a constant lets the compiler unroll */
    case SINGLE_ONE: sjlt_keys_and_words(job, g, SINGLE_ONE, first, last, plan); break;
    case SINGLE_MORE: sjlt_keys_and_words(job, g, SINGLE_MORE, first, last, plan); break;
    default: sjlt_keys_and_words(job, g, groups, first, last, plan);
    }
}

static inline float *at(float *sums, uint32_t place)
{
    return (float *)((char *)sums + 8 * (uint64_t)place);
}

static inline __attribute__((always_inline)) void sjlt_row(
    const struct sjlt_scratch *plan, const float *gradient, int64_t groups, int64_t nonzeros, float *restrict sums)
{
    for (int64_t i = 0; i < groups; i++) {
        PREFETCH(gradient + 16 * (i + AHEAD));
        for (int64_t r = 0; r < nonzeros; r++)
            add_group(gradient + 16 * i, plan->w1[r * groups + i], at(sums, plan->place[r * groups + i]));
    }
}

static inline __attribute__((always_inline)) void sjlt_two_rows(
    const struct sjlt_scratch *plan, const float *one, const float *two, int64_t groups, int64_t nonzeros, float *restrict sums,
    float *restrict more)
{
    for (int64_t i = 0; i < groups; i++) {
        if (nonzeros > 1) {
            PREFETCH(one + 16 * (i + AHEAD));
            PREFETCH(two + 16 * (i + AHEAD));
        }
        for (int64_t r = 0; r < nonzeros; r++) {
            const uint32_t w1 = plan->w1[r * groups + i];
            const uint32_t place = plan->place[r * groups + i];
            add_group(one + 16 * i, w1, at(sums, place));
            add_group(two + 16 * i, w1, at(more, place));
        }
    }
}

static inline __attribute__((always_inline)) void sjlt_all_rows(
    const struct sjlt_scratch *plan, const float *gradient, int64_t stride, int64_t rows, int64_t groups, int64_t nonzeros,
    float *sums, int64_t width)
{
    for (; rows >= 2; rows -= 2, gradient += 2 * stride, sums += 2 * width)
        sjlt_two_rows(plan, gradient, gradient + stride, groups, nonzeros, sums, sums + width);
    if (rows)
        sjlt_row(plan, gradient, groups, nonzeros, sums);
}

/* The planned groups of `rows` rows from `row` on; the first of them begins at `gradient`. */
static void sjlt_rows(const struct job *job, const float *gradient, int64_t stride, int64_t row, int64_t rows, int64_t groups,
                      int64_t nonzeros, const struct sjlt_scratch *plan)
{
    const int64_t width = row_width(SJLT, job->columns);
    float *sums = job->partial + row * width;
    switch (nonzeros) { /* a constant lets the compiler unroll */
    case 1: sjlt_all_rows(plan, gradient, stride, rows, groups, 1, sums, width); break;
    case 2: sjlt_all_rows(plan, gradient, stride, rows, groups, 2, sums, width); break;
    case 4: sjlt_all_rows(plan, gradient, stride, rows, groups, 4, sums, width); break;
    case 8: sjlt_all_rows(plan, gradient, stride, rows, groups, 8, sums, width); break;
    default: sjlt_all_rows(plan, gradient, stride, rows, groups, nonzeros, sums, width);
    }
}

/* Coordinates [at, next) inside one group, which is padded with zeros. */
static void sjlt_edge(const struct job *job, int64_t at, int64_t next, int64_t nonzeros, struct sjlt_scratch *plan)
{
    for (int64_t r = 0; r < job->rows; r++) {
        memset(plan->edge, 0, sizeof plan->edge);
        memcpy(plan->edge + at % 16, job->gradient + r * job->stride + (at - job->offset), (size_t)(next - at) * sizeof(float));
        sjlt_rows(job, plan->edge, 0, r, 1, 1, nonzeros, plan);
    }
}

static void project_sjlt(struct job *job)
{
    struct sjlt_scratch *plan = job->scratch;
    const int64_t end = job->offset + job->length;
    const int64_t chunk = job->rows > 1 ? CHUNK : job->nonzeros > 1 ? SINGLE_MORE : SINGLE_ONE;
    const int64_t most_groups = most(1, least(chunk, PLAN / job->nonzeros));
    const int64_t segment = SJLT_ADDITIONS * (job->columns / job->nonzeros); /* a multiple of 16 */
    int64_t segment_end = round_up(job->offset, segment);
    for (int64_t at = job->offset; at < end;) {
        if (at == segment_end) {
            segment_end += segment;
            if (job->pending >= segment)
                flush(job, job_floats(ROWWISE, SJLT, job->rows, job->columns));
        }
        /* Complete groups, or a part of one. */
        const int64_t groups = at % 16 ? 0 : least(most_groups, (least(segment_end, end) - at) / 16);
        const int64_t next = groups ? at + 16 * groups : least((at / 16 + 1) * 16, end);
        for (int64_t first = 0; first < job->nonzeros; first += PLAN) {
            const int64_t last = least(first + PLAN, job->nonzeros);
            sjlt_plan(job, at / 16, most(groups, 1), first, last, plan);
            if (groups)
                sjlt_rows(job, job->gradient + (at - job->offset), job->stride, 0, job->rows, groups, last - first, plan);
            else
                sjlt_edge(job, at, next, last - first, plan);
        }
        job->pending += next - at;
        at = next;
    }
}

/* The product of `rows` rows of the left factor of a sample and `vectors` vectors of the right one, both constants. Each entry is
 * summed in the order of the terms. */
static inline __attribute__((always_inline)) void outer_block(
    const struct factors *f, const float *left, const float *right, float *restrict tile, int64_t stride, const int rows,
    const int vectors)
{
    vector a[4][2];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            a[r][v] = (vector){0};
    for (int64_t t = 0; t < f->terms; t++, left += f->left_term, right += f->right_term) {
        vector x[2];
        for (int v = 0; v < vectors; v++)
            x[v] = *(const loose_vector *)(right + W * v);
        for (int r = 0; r < rows; r++) {
            const vector g = left[r * f->left_row] - (vector){0}; /* in all lanes */
            for (int v = 0; v < vectors; v++)
                a[r][v] = MULTIPLY_ADD(a[r][v], g, x[v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            *(vector *)(tile + r * stride + W * v) = a[r][v];
}

static inline __attribute__((always_inline)) void outer_rows(
    const struct factors *f, const float *left, const float *right, int64_t floats, float *restrict tile, const int rows)
{
    int64_t c = 0;
    for (; c + 2 * W <= floats; c += 2 * W)
        outer_block(f, left, right + c, tile + c, floats, rows, 2);
    for (; c < floats; c += W)
        outer_block(f, left, right + c, tile + c, floats, rows, 1);
}

/* Entries of the gradient of a sample: `rows` rows of the weight from `row` on, `floats` of each from `column` on. */
static void outer_tile(
    const struct factors *f, int64_t sample, int64_t row, int64_t rows, int64_t column, int64_t floats, float *restrict tile)
{
    const float *left = f->left + sample * f->left_sample + row * f->left_row;
    const float *right = f->right + sample * f->right_sample + column;
    for (; rows >= 4; rows -= 4, left += 4 * f->left_row, tile += 4 * floats)
        outer_rows(f, left, right, floats, tile, 4);
    for (; rows > 0; rows--, left += f->left_row, tile += floats)
        outer_rows(f, left, right, floats, tile, 1);
}

/* Adds the gradients Σ_t left_t right_tᵀ of a weight whose rows consist of complete groups. They exist one tile at a time. The
 * order of the tiles depends on the shape of the weight and the number of terms alone. */
static void project_sjlt_factors(struct job *job, const struct factors *f)
{
    struct sjlt_scratch *plan = job->scratch;
    const int64_t width = row_width(SJLT, job->columns), groups_of_row = f->columns / 16;
    const int64_t tile_groups = most(1, least(TILE_GROUPS, PLAN / job->nonzeros));
    const int64_t segment = SJLT_ADDITIONS * (job->columns / job->nonzeros);
    const int64_t widest = least(most(2, least(TILE_WIDTH, TILE_FACTORS / most(1, f->terms))), tile_groups);
    for (int64_t g = 0, wide; g < groups_of_row; g += wide) {
        wide = least(widest, groups_of_row - g);
        for (int64_t row = 0, rows; row < f->rows; row += rows) {
            rows = least(tile_groups / wide, f->rows - row);
            const int64_t groups = rows * wide;
            if (job->pending >= segment)
                flush(job, job->rows * width);
            for (int64_t r = 0; r < rows; r++)
                sjlt_keys(job, (row + r) * groups_of_row + g, wide, r * wide, plan);
            for (int64_t first = 0; first < job->nonzeros; first += PLAN) {
                const int64_t last = least(first + PLAN, job->nonzeros);
                if (groups == TILE_GROUPS) /* a constant lets the compiler unroll */
                    sjlt_hash(job, TILE_GROUPS, first, last, plan);
                else
                    sjlt_hash(job, groups, first, last, plan);
                for (int64_t sample = 0; sample < job->rows; sample += 2) {
                    const int64_t count = least(2, job->rows - sample);
                    for (int64_t i = 0; i < count; i++)
                        outer_tile(f, sample + i, row, rows, 16 * g, 16 * wide, plan->tile[i]);
                    sjlt_rows(job, plan->tile[0], 16 * TILE_GROUPS, sample, count, groups, last - first, plan);
                }
            }
            job->pending += 16 * groups;
        }
    }
}
