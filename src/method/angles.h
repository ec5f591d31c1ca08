/* angles.h - the products of models, and what is made of them: between angles.c, which drives, and
 * angles_coefficients.c, which knows the formulas. */
#ifndef LORS_METHOD_ANGLES_H
#define LORS_METHOD_ANGLES_H

#include "method/method_table.h"

enum { LORS_ANGLES_MOST = 64 }; /* models: of the table of their products */

/* Of the x_k, which are models or task vectors, as one vector each: dot products and norms. */
typedef struct lors_products {
    double of[LORS_ANGLES_MOST][LORS_ANGLES_MOST], norm[LORS_ANGLES_MOST];
    int32_t n;
} lors_products;

/* The coefficients c[n] of the result sum_k c_k x_k; parameters from the call. */
typedef void lors_angles_fn(const lors_call *call, const lors_products *p, double *c);
lors_angles_fn lors_angles_nuslerp, lors_angles_multislerp, lors_angles_karcher,
    lors_angles_model_stock, lors_angles_metagpt, lors_angles_geometric_median;

#endif
