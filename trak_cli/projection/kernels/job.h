/* The job of a kernel, and the layout of its sums in memory.
 *
 * A job is a rectangle of the result: all rows of one matrix of gradients times a range of columns of P. It receives one
 * gradient block after another. The order of the additions for a sample depends on constants of these files only, never on
 * the number of rows or columns of a job, so features are bit-identical for every batch size and number of threads.
 *
 * Sums are float32 over a segment of coordinates (`partial`), and segments are added up in float64 (`total`).
 */
#ifndef TRAK_JOB_H
#define TRAK_JOB_H

#include <stdint.h>

enum kind { RADEMACHER, GAUSSIAN, SJLT };

/* Declared again, field by field, in cpu/ctypes_binding.py. */
struct job {
    const float *gradient; /* (rows, length): row r begins at gradient + r * stride */
    int64_t stride;
    int64_t rows;
    int64_t offset; /* coordinate, inside the parameter, of the first one in `gradient` */
    int64_t length;
    uint64_t stream; /* S of the parameter */
    int64_t column;  /* the first column of this job */
    int64_t columns; /* at most MAX_COLUMNS for the dense kinds; all of them for sjlt */
    int64_t nonzeros;
    const float *table; /* the 256 values of the Gaussian matrix */
    int64_t pending; /* number of coordinates in `partial` so far */
    float *partial;  /* job_floats(...), zero at first, aligned to 64 bytes; so is `total` */
    double *total;
    void *scratch; /* SCRATCH bytes, aligned to 64 */
};

/* Gradients of a weight (rows, columns) as sums of outer products, Σ_t left_t right_tᵀ for each sample. Entry r of left_t of sample b
 * is at left + b * left_sample + t * left_term + r * left_row, and right_t begins at right + b * right_sample + t * right_term.
 * `columns` is a multiple of 16. Declared again in cpu/ctypes_binding.py. */
struct factors {
    const float *left;
    const float *right;
    int64_t terms;
    int64_t rows;
    int64_t columns;
    int64_t left_sample;
    int64_t left_term;
    int64_t left_row;
    int64_t right_sample;
    int64_t right_term;
};

/* The most columns of a dense job: their words for a few blocks fit into the second-level cache. */
#define MAX_COLUMNS 4096

/* Bytes of working memory of a kernel during one call. */
#define SCRATCH (256 * 1024)

/* Coordinates after which `partial` is added to `total`, at the next multiple of the segment length. SJLT
 * counts additions instead, of which there are nonzeros / columns to a coordinate. */
#define RADEMACHER_SEGMENT 1024
#define GAUSSIAN_SEGMENT 256
#define SJLT_ADDITIONS 256

/* Rows that the Rademacher kernel processes side by side. */
#define PANEL 16

/* Panels of at most this many rows are stored row by row; the number depends on the instruction set. */
struct variant {
    const char *name;
    int (*supported)(void);
    void (*project[3])(struct job *);
    void (*project_factors)(struct job *, const struct factors *); /* sjlt only */
    int64_t rowwise;
};

extern const struct variant portable_variant, avx2_variant, avx512_variant;

static inline int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Distance of two rows of sums. SJLT rows are spread over the cache sets. */
static inline int64_t row_width(int kind, int64_t columns)
{
    return kind == SJLT ? columns + 16 : round_up(columns, 64);
}

/* The number of samples side by side in a panel of `rows`; 0: rows are stored one after another, as for all other kinds. */
static inline int64_t panel_lanes(int64_t rowwise, int64_t rows)
{
    return rows <= rowwise ? 0 : rows <= 4 ? 4 : rows <= 8 ? 8 : PANEL;
}

/* The number of sums of a job, padding included. */
static inline int64_t job_floats(int64_t rowwise, int kind, int64_t rows, int64_t columns)
{
    const int64_t width = row_width(kind, columns);
    const int64_t tail = rows % PANEL;
    if (kind != RADEMACHER || tail == 0)
        return rows * width;
    return (rows - tail + most(panel_lanes(rowwise, tail), tail)) * width;
}

/* The index of the sum of row r and column c. */
static inline int64_t job_place(int64_t rowwise, int kind, int64_t rows, int64_t columns, int64_t r, int64_t c)
{
    const int64_t width = row_width(kind, columns);
    if (kind != RADEMACHER)
        return r * width + c;
    const int64_t first = r - r % PANEL;
    const int64_t lanes = panel_lanes(rowwise, least(rows - first, PANEL));
    return first * width + (lanes ? c * lanes + r - first : (r - first) * width + c);
}

#endif
