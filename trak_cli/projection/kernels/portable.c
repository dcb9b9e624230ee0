/* The kernels in portable C (GCC's and Clang's vector extension): vectors of four floats, which every machine has or emulates. */
#define W 4
#define V8 4
#define V16 4
#define ROWWISE 0
#define GAUSSIAN_VECTORS 2
#define MULTIPLY_ADD(a, x, y) ((a) + (x) * (y))

#include "dense.h"

/* All bits of a lane are set if `word` has the bit that `bits` has in that lane. */
typedef uint32_t lanes __attribute__((vector_size(16), may_alias));
#define WHERE(word, bits) ((lanes)(((word) & (bits)) == (bits)))

/* The two higher bits of lane ^ (w1 & 15) choose a vector, by its address. The two lower ones swap lanes inside it, by masks,
 * because machines without a table look-up cannot move lanes to positions that are known only at run time. */
static inline void add_group(const float *group, uint32_t w1, float *restrict sums)
{
    const lanes word = {w1, w1, w1, w1}, top = {0x80000000u, 0x80000000u, 0x80000000u, 0x80000000u};
    const lanes neighbours = WHERE(word, ((lanes){1, 1, 1, 1})), halves = WHERE(word, ((lanes){2, 2, 2, 2}));
    lanes sign = {1u << 16, 1u << 17, 1u << 18, 1u << 19};
    for (uint32_t v = 0; v < 4; v++, sign <<= 4) {
        lanes x = (lanes)*(const loose_four *)(group + 4 * v);
        x ^= WHERE(word, sign) & top;
        x ^= (x ^ SHUFFLE(x, x, 1, 0, 3, 2)) & neighbours;
        x ^= (x ^ SHUFFLE(x, x, 2, 3, 0, 1)) & halves;
        *(four *)(sums + ((4 * v) ^ (w1 & 12))) += (four)x;
    }
}

#include "sjlt.h"

static int supported(void)
{
    return 1;
}

const struct variant portable_variant = {"c-portable", supported, {project_rademacher, project_gaussian, project_sjlt}, project_sjlt_factors, ROWWISE};
