/* Dense projection, the part that every instruction set shares. Before it is included: W, the floats of a vector, and, where
 * there is something better for few rows, ROWWISE rows for a function permute(). */
#include <string.h>

#include "job.h"
#include "matrix.h"

#define FIELDS 7
#define ENTRIES 176

/* Blocks whose tables lie in the first-level cache together. */
#ifndef DEPTH
#define DEPTH 2
#endif

struct dense_scratch {
    float tables[DEPTH * ENTRIES * PANEL];
    float transposed[DEPTH * 32 * PANEL];
    uint32_t words[DEPTH * MAX_COLUMNS];
};

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
