/* The kernels for x86 processors with AVX2 and FMA. */
#include "job.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi2")
#endif

#define W 8
#define V8 8
#define V16 8
#define ROWWISE 0
#define GAUSSIAN_VECTORS 2
#define MULTIPLY_ADD(a, x, y) ((vector)_mm256_fmadd_ps((__m256)(x), (__m256)(y), (__m256)(a)))

#include "dense.h"

static inline void add_group(const float *group, uint32_t w1, float *restrict sums)
{
    const __m256i word = _mm256_set1_epi32((int)w1), sign = _mm256_set1_epi32((int)0x80000000u);
    const __m256i order = _mm256_xor_si256(word, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256i low = _mm256_and_si256(_mm256_sllv_epi32(word, _mm256_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8)), sign);
    const __m256i high = _mm256_and_si256(_mm256_sllv_epi32(word, _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0)), sign);
    const __m256 one = _mm256_xor_ps(_mm256_loadu_ps(group), _mm256_castsi256_ps(low));
    const __m256 two = _mm256_xor_ps(_mm256_loadu_ps(group + 8), _mm256_castsi256_ps(high));
    float *to = sums + (w1 & 8), *other = sums + (~w1 & 8);
    _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), _mm256_permutevar8x32_ps(one, order)));
    _mm256_storeu_ps(other, _mm256_add_ps(_mm256_loadu_ps(other), _mm256_permutevar8x32_ps(two, order)));
}

#include "sjlt.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static int supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

const struct variant avx2_variant = {"c-avx2", supported, {project_rademacher, project_gaussian, project_sjlt}, project_sjlt_factors, ROWWISE};
#else
static int supported(void)
{
    return 0;
}

const struct variant avx2_variant = {"c-avx2", supported, {0, 0, 0}, 0, 0};
#endif
