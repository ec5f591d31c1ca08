/* spectral_properties.h - what must hold of the methods on whole spectra. */
#ifndef LORS_TESTS_SPECTRAL_PROPERTIES_H
#define LORS_TESTS_SPECTRAL_PROPERTIES_H

#include "method_properties.h"
#include "synth.h"

/* A merge of these models over a base of zeros, so that the task vectors are what is given. Free
 * with forget_models. */
merge spectral_merge(const lors_method_def *def, int64_t n_rows, int64_t n_cols, int32_t n_models,
                     synth_kind kind, uint64_t seed);
/* norm(acc - wanted) <= bound * norm(wanted). */
void expect_update(const merge *m, const double *wanted, double bound);
/* acc' acc or acc acc', whichever is smaller, has these eigenvalues: all the same. */
void expect_flat(const merge *m, double bound);

/* Of any of the methods: an unchanged model leaves no trace; the update scales by 2^k; rows and
 * columns in another order (and, where `transposes`, the transposed matrix) give the same but for
 * that; models in another order, too; zero task vectors, one row, one column; the same bits
 * again. */
void property_spectral(const lors_method_def *def, bool transposes);

#endif
