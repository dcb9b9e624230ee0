/* The functions that cpu/ctypes_binding.py calls through ctypes. Building them needs no headers of Python or NumPy. */
#include "job.h"

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* Raised with every change of struct job or of these functions, so that a stale build is refused. */
#define INTERFACE 3

static const struct variant *const variants[] = {&avx512_variant, &avx2_variant, &portable_variant};

EXPORT int64_t trak_interface(void)
{
    return INTERFACE;
}

/* Best first; null after the last. */
EXPORT const char *trak_variant_name(int64_t variant)
{
    return variant < (int64_t)(sizeof variants / sizeof *variants) ? variants[variant]->name : 0;
}

EXPORT int64_t trak_variant_supported(int64_t variant)
{
    return variants[variant]->supported();
}

EXPORT int64_t trak_scratch_bytes(void)
{
    return SCRATCH;
}

EXPORT int64_t trak_max_columns(void)
{
    return MAX_COLUMNS;
}

/* The number of floats in `partial` (and of doubles in `total`) for such a job. */
EXPORT int64_t trak_floats(int64_t variant, int64_t kind, int64_t rows, int64_t columns)
{
    return job_floats(variants[variant]->rowwise, (int)kind, rows, columns);
}

/* Adds the gradient block of the job to its sums. */
EXPORT void trak_project(int64_t variant, int64_t kind, struct job *job)
{
    variants[variant]->project[kind](job);
}

/* The parameter is a matrix with rows of job->length coordinates; job->gradient holds the gradients of `count` of its rows, one
 * after another, of a single sample. */
EXPORT void trak_project_rows(int64_t variant, int64_t kind, struct job *job, const int64_t *rows, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        job->offset = rows[i] * job->length;
        variants[variant]->project[kind](job);
        job->gradient += job->length;
    }
}

/* Adds gradients that are given as factors to the sums of a job of kind sjlt. */
EXPORT void trak_project_factors(int64_t variant, struct job *job, const struct factors *factors)
{
    variants[variant]->project_factors(job, factors);
}

/* Adds the sums times `factor` to out: (rows, columns), row r at out + r * stride. The job can continue afterwards. */
EXPORT void trak_read(int64_t variant, int64_t kind, const struct job *job, double factor, float *out, int64_t stride)
{
    for (int64_t r = 0; r < job->rows; r++)
        for (int64_t c = 0; c < job->columns; c++) {
            const int64_t at = job_place(variants[variant]->rowwise, (int)kind, job->rows, job->columns, r, c);
            out[r * stride + c] += (float)((job->total[at] + (double)job->partial[at]) * factor);
        }
}

/* Python requires this name in an extension module; it is never imported. */
EXPORT void *PyInit__cpu(void)
{
    return 0;
}
