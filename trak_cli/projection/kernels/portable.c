/* The kernels in portable C (GCC's and Clang's vector extension): vectors of four floats, which every machine has or fakes. */
#define W 4
#define V8 4
#define V16 4
#define ROWWISE 0
#define GAUSSIAN_VECTORS 2
#define MULTIPLY_ADD(a, x, y) ((a) + (x) * (y))

#include "dense.h"

static inline void add_group(const float *group, uint32_t w1, float *restrict sums)
{
    uint32_t bits[16];
    float value[16];
    memcpy(bits, group, sizeof bits);
    for (int lane = 0; lane < 16; lane++)
        bits[lane] ^= w1 << (15 - lane) & 0x80000000u;
    memcpy(value, bits, sizeof value);
    for (int lane = 0; lane < 16; lane++)
        sums[lane ^ (w1 & 15)] += value[lane];
}

#include "sjlt.h"

static int supported(void)
{
    return 1;
}

const struct variant portable_variant = {"c-portable", supported, {project_rademacher, project_gaussian, project_sjlt}, ROWWISE};
