/* dot_kernels.c - differences, and dot products of blocks. */
#include "cpu/cpu_internal.h"
#include "cpu/lanes.h"

void LORS_KERNEL(subtract)(float *out, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = a[i] - b[i];
    }
}

static void add_dots(lors_lanes8 sums[3], const lors_lanes8 *x, const lors_lanes8 *y)
{
    lors_lanes8_add(&sums[0], x, x);
    lors_lanes8_add(&sums[1], x, y);
    lors_lanes8_add(&sums[2], y, y);
}

/* Eight lanes a sum, folded in a fixed order. */
void LORS_KERNEL(dots_block)(double dots[3], const float *a, const float *b, int64_t n)
{
    lors_lanes8 sums[3] = {{{0}, {0}}}, x, y;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        lors_lanes8_widen(&x, a + i);
        lors_lanes8_widen(&y, b + i);
        add_dots(sums, &x, &y);
    }
    if (i < n) {
        lors_lanes8_widen_rest(&x, a + i, n - i);
        lors_lanes8_widen_rest(&y, b + i, n - i);
        add_dots(sums, &x, &y);
    }
    for (int d = 0; d < 3; d++) {
        dots[d] = lors_lanes8_fold(&sums[d]);
    }
}
