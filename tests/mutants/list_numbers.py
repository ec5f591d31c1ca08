"""list_numbers.py - faults of arithmetic, selection, sums, methods and low rank. See mutants.py."""
from mutant import of

ARITHMETIC = [
    *of("rounding", "src/base/dtype.c", [
        ("round-half-up", "kept += rest > half || (rest == half && (kept & 1) != 0);",
         "kept += rest >= half;", "test_dtype"),
        ("nan-canonical", "return nan ? infinity | 1u << (n_fraction - 1) : sign | infinity;",
         "return sign | infinity | (nan ? 1u << (n_fraction - 1) : 0);", "test_dtype"),
        ("round-least", "if (exponent == 0 || shift > 53) {", "if (exponent == 0 || shift > 52) {",
         "test_dtype"),
    ]),
    *of("rounding", "src/backend/arithmetic.h", [
        ("minus-zero", "return copysign(rounded, x);", "return rounded;", "test_store"),
    ]),
    *of("rounding", "src/cpu/eights.h", [
        ("eights-minus-zero",
         "return _mm256_or_pd(_mm256_andnot_pd(sign, rounded), _mm256_and_pd(sign, x));",
         "return rounded;", "test_store|test_merge_stack"),
        ("eights-digits", "rounded->high = lors_round4(exact->high, 11, 0x1p-14);",
         "rounded->high = lors_round4(exact->high, 12, 0x1p-14);", "test_store"),
    ]),
    *of("rounding", "src/cpu/store_kernels.c", [
        ("store-zero-update",
         "return _mm256_blendv_pd(_mm256_add_pd(b, acc), b, lors_zero4(acc));",
         "return _mm256_add_pd(b, acc);", "test_store"),
        ("store-overflow", "block->n_overflow += isfinite(exact[i]) != 0;", "", "test_store"),
        ("store-agree", "for (int32_t m = 1; m < from->n_models; m++) {",
         "for (int32_t m = 1; m < from->n_models - 1; m++) {", "test_store"),
    ]),
    *of("nonfinite", "src/cpu/convert_kernels.c", [
        ("widen-nan", "if (!_mm_testz_si128(found, found)) {", "if (false) {", "test_convert"),
    ]),
    *of("sums", "src/cpu/sums.h", [
        ("two-sum", "*lost += (*sum - (total - part)) + (term - part);", "*lost += part - part;",
         "test_sums"),
        ("two-sum-minus-zero", "lors_wide_choose(sum, is_lost & is_finite, *sum + *lost, *sum);",
         "lors_wide_choose(sum, is_finite, *sum + *lost, *sum);", "test_sums"),
    ]),
    *of("sums", "src/cpu/sum_kernels.c", [
        ("divisor", "sum_of[i] = sum_of[i] * scale / divisor;", "sum_of[i] = sum_of[i] * scale;",
         "test_sums|test_linear"),
        ("divisor-of-none", "(fabs(weight_of[i]) <= least ? 1 : weight_of[i]);",
         "(fabs(weight_of[i]) < 0 ? least : weight_of[i]);", "test_sums"),
        ("elected-zero", "convertvector(signs, lors_wide) > 0;",
         "convertvector(signs, lors_wide) >= 0;", "test_sums"),
        ("elect-tie", "lors_flags plus = tied | (total[v] >= 0);",
         "lors_flags plus = total[v] > LORS_TIED * magnitude[v];", "test_sums"),
        ("rounding-unnoticed", "may_be_exact = !has_rounded();", "may_be_exact = true;",
         "test_sums"),
        ("sum-tail", "memcpy(last, acc + first, (size_t)rest * sizeof *last);", "", "test_sums"),
    ]),
    *of("bound", "src/cpu/merge_kernels.c", [
        ("bound-zero",
         "f->narrow_bound = (float)(((n + 6) * 0x1p-24 * largest + agreeing) * 1.01);",
         "f->narrow_bound = 0;", "test_merge_stack"),
        ("bound-zero-wide",
         "f->wide_bound = ((n + 12) * 0x1p-53 * largest + agreeing) * 1.01;",
         "f->wide_bound = 0;", "test_merge_stack"),
        ("bound-of-zeros", "f->opens_zeros = !m->base || m->keeps_equal;",
         "f->opens_zeros = false;", "test_merge_stack"),
        ("leftover-place", "left->at[j] + __builtin_ctz(unsure);",
         "left->at[j] + __builtin_ctz(unsure) % 8;", "test_merge_stack"),
        ("merge-unmeasured", "return is_measured(m, &measured, update, loss);", "return true;",
         "test_merge_stack"),
    ]),
    *of("selection", "src/cpu/select.c", [
        ("select-bin", "uint32_t bin = pass == 0 ? BINS - 1 : 1023;",
         "uint32_t bin = pass == 0 ? BINS - 1 : 1022;", "test_select"),
        ("select-ties", "bool tie = k == key && left > 0;", "bool tie = k == key;", "test_select"),
        ("select-nan", "mask[i] = (k > key && k < LORS_NAN_KEY) || tie;",
         "mask[i] = k > key || tie;", "test_select"),
        ("select-k", "s->k = s->k < s->n_numbers ? s->k : s->n_numbers;", "", "test_select"),
        ("select-cut", "s->cut_rank = (uint32_t)left;", "s->cut_rank = (uint32_t)left + 1;",
         "test_select"),
    ]),
    *of("selection", "src/cpu/select_kernels.c", [
        ("select-least", "int32_t below = (int32_t)least - 1,", "int32_t below = (int32_t)least,",
         "test_select"),
        ("select-infinity", "counts[INFINITE_BIN] = n_infinite;", "counts[INFINITE_BIN] = 0;",
         "test_select"),
    ]),
    *of("random", "src/cpu/random.c", [
        ("rank-turned", "uint32_t i = (uint32_t)order[rank];",
         "uint32_t i = (uint32_t)order[n - 1 - rank];", "test_random"),
        ("rank-times", "x[i] = (float)((double)x[i] / p);", "x[i] = (float)((double)x[i] * p);",
         "test_random"),
    ]),
    *of("random", "src/cpu/random_kernels.c", [
        ("philox-rounds", "round < 10;", "round < 9;", "test_random"),
        ("random-lane", "int64_t at = -(int64_t)(first % 4);", "int64_t at = 0;", "test_random"),
    ]),
]

METHODS = [
    *of("methods", "src/method/method_common.c", [
        ("keep-count", "double count = floor(density * (double)size);",
         "double count = ceil(density * (double)size);", "test_ties|test_sparse"),
        ("mask-seed", "lors_philox_at(call->key, (uint64_t)model,",
         "lors_philox_at(0 * call->key, (uint64_t)model,", "test_sparse|test_families"),
        ("mask-of-model", "lors_philox_at(call->key, (uint64_t)model,",
         "lors_philox_at(call->key, 0 * (uint64_t)model,", "test_sparse|test_families"),
        ("weights-cancel", "fabs(sum) > LORS_CANCELLED * magnitudes) {", "magnitudes >= 0) {",
         "test_linear|test_task_arithmetic|test_refusals"),
    ]),
    *of("methods", "src/method/linear.c", [
        ("linear-divisor", ".divisor = normalize ? LORS_DIVIDE_CONSTANT : LORS_DIVIDE_NOT,",
         ".divisor = normalize ? LORS_DIVIDE_NOT : LORS_DIVIDE_NOT,", "test_linear"),
    ]),
    *of("methods", "src/method/task_arithmetic.c", [
        ("arithmetic-base", ".base = call->base,", ".base = LORS_NO_VIEW,",
         "test_task_arithmetic"),
        ("arithmetic-lambda", ".scale = lors_call_number(call, LAMBDA, 0)};", ".scale = 1};",
         "test_task_arithmetic"),
    ]),
    *of("sparse", "src/method/sparse.c", [
        ("dare-rescale", "call->constants[k] = 1 / density_of(call, k);",
         "call->constants[k] = density_of(call, k);", "test_sparse"),
        ("breadcrumbs-window", "kept[k] = kept_count(call, k) + dropped[k];",
         "kept[k] = kept_count(call, k);", "test_sparse"),
        ("compat-one", "return count == 0 && at_least_one ? 1 : count;",
         "return count == 0 && at_least_one ? 0 : count;", "test_sparse"),
        ("norm-rescale", "call->constants[k] = counts ? all / kept : 1;",
         "call->constants[k] = counts ? kept / all : 1;", "test_sparse"),
        ("ties-divisor", "row_of(call)->elects ? LORS_DIVIDE_KEPT : LORS_DIVIDE_CONSTANT;",
         "row_of(call)->elects ? LORS_DIVIDE_CONSTANT : LORS_DIVIDE_CONSTANT;", "test_ties"),
    ]),
    *of("angles", "src/method/slerp.c", [
        ("slerp-sides", "call->constants[0] = sin((1 - t) * omega) / sine;",
         "call->constants[0] = sin(t * omega) / sine;", "test_slerp"),
        ("slerp-parallel", "if (fabs(cosine) <= 0.9995) {", "if (fabs(cosine) <= 1.1) {",
         "test_slerp"),
    ]),
    *of("angles", "src/method/angles_coefficients.c", [
        ("nuslerp-share", "? 0.5 : second / (first + second);", "? 0.5 : first / (first + second);",
         "test_angles"),
        ("multislerp-size", "c[k] = unit[k] / norm * size;", "c[k] = unit[k] / norm;",
         "test_angles"),
        ("karcher-tangent", "tangent[j] -= pull * cosine * a[j];",
         "tangent[j] += pull * cosine * a[j];", "test_angles"),
        ("stock-count", "fabs(divisor) < 1e-6 ? 0 : n * cosine / divisor;",
         "fabs(divisor) < 1e-6 ? 0 : cosine / divisor;", "test_angles"),
        ("metagpt-square", "lambda * p->of[k][k] / sum : 0;", "lambda * p->norm[k] / sum : 0;",
         "test_angles"),
        ("median-stays", "double stays = here > 0 && !arrived ? here / pull : 0;",
         "double stays = here > 0 && !arrived ? 1 : 0;", "test_angles"),
    ]),
    *of("columns", "src/backend/columns.h", [
        ("nearswap-below", "d = lors_real_choose(d < -limit, LORS_REAL_OF(-limit), d);", "",
         "test_combine|test_columns"),
        ("ram-mean", "return lors_real_choose(n_active > 1, total / n_active, total);",
         "return lors_real_choose(n_active > 1, total, total);", "test_combine|test_columns"),
        ("magmax-tie", "((size == best) & (term > largest));",
         "((size == best) & (term < largest));", "test_combine|test_columns"),
    ]),
    *of("sce", "src/method/sce.c", [
        ("sce-share", "floor(lors_call_number(call, TOP, 0) * differing);",
         "floor(lors_call_number(call, TOP, 0) * (double)call->n_elements + 0 * differing);",
         "test_sce"),
        ("sce-weights", "uniform ? 1.0 / call->n_models : call->constants[k] / total;",
         "uniform ? 1.0 / call->n_models : 1.0 / call->n_models;", "test_sce"),
    ]),
    *of("chain", "src/method/chain.c", [
        ("chain-family", "return &rows[sparsify > 0 ? sparsify - 1 : 0]",
         "return &rows[sparsify > 0 ? sparsify % 4 : 0]", "test_families"),
        ("chain-residual", "bool all = result->certificate.rank >= shortest || kept ==",
         "bool all = kept > 0 || result->certificate.rank >= shortest || kept ==",
         "test_families|golden"),
    ]),
    *of("spectral", "src/method/lors.c", [
        ("lors-residual",
         "LORS_TRY(ops->subtract(call->queue, delta, delta, call->stride, low, call->stride,\n"
         "                           selection->n_slices, n));", "(void)low;", "test_lors"),
        ("lors-base", "sum.base = lors_view_at(call->base, at);", "sum.base = call->base;",
         "test_lors|test_families"),
        ("lors-fresh", ".add = !call->fresh,", ".add = false,", "test_lors"),
    ]),
    *of("spectral", "src/method/spectral.c", [
        ("polar-root", "roots[i] = counts ? 1 / sqrt(sqrt(s->values[i])) : 0;",
         "roots[i] = counts ? 1 / sqrt(s->values[i]) : 0;", "test_tsv_m|test_iso_c"),
        ("null-direction", "sigma[i] = sigma[i] > nothing ? sigma[i] : 0;",
         "sigma[i] = sigma[i] > 0 * nothing ? sigma[i] : 0;",
         "test_tsv_m|test_iso_cts"),
    ]),
    *of("spectral", "src/method/tsv_m.c", [
        ("tsv-boost", "sigma[i] = least;", "sigma[i] = sigma[i] + 0 * least;", "test_tsv_m"),
    ]),
    *of("spectral", "src/method/iso.c", [
        ("iso-mean", "/ (double)s->n_short;\n", "/ (double)s->n_long;\n", "test_iso_c"),
        ("iso-projection", "part.alpha = -1;", "part.alpha = 1;", "test_iso_cts"),
    ]),
    *of("spectral", "src/method/star.c", [
        ("star-rescale", "*scale = kept > 0 ? total / kept : 0;", "*scale = kept > 0 ? 1 : 0;",
         "test_star"),
    ]),
    *of("spectral", "src/method/wudi.c", [
        ("wudi-ridge", "* n / (double)call->n_cols;", "* n / (double)call->n_rows;", "test_wudi"),
    ]),
    *of("angles", "src/method/angles.c", [
        ("columns-group", "call->first / (uint64_t)(LORS_ROW_GROUP * call->n_cols);",
         "0 * call->first / (uint64_t)(LORS_ROW_GROUP * call->n_cols);", "formulas"),
    ]),
    *of("columns", "src/method/columns.c", [
        ("ramplus-share", "(all - alone) /", "all /", "test_columns"),
    ]),
    *of("spectral", "src/method/svc.c", [
        ("svc-weight", "l->products[r] / (weight * l->squares[r])",
         "l->products[r] / l->squares[r]", "test_svc"),
        ("svc-null", "> LORS_NULL * first;", "> 0 * first;", "test_svc"),
        ("svc-stays", "l->counts[r] > 0 ? n_models / l->counts[r] - 1 : 0",
         "l->counts[r] > 0 ? n_models / l->counts[r] - 1 : -1", "test_svc"),
    ]),
    *of("spectral", "src/cpu/dense.c", [
        ("solve-shift", "a[i * n + i] += shift;", "a[i * n + i] += shift * (i > 0);", "test_dense"),
    ]),
    *of("spectral", "src/method/knots.c", [
        ("knots-root", "l->sigma[i] = counts ? sqrt(l->sigma[i]) : 0;",
         "l->sigma[i] = counts ? l->sigma[i] : 0;", "test_knots"),
    ]),
]

LOW_RANK = [
    *of("low rank", "src/cpu/low_rank_exact.c", [
        ("exact-step", "out->vector_step = a->wide ? 1 : n;",
         "out->vector_step = a->wide ? n : 1;", "test_lors|test_truncate_rules"),
    ]),
    *of("low rank", "src/cpu/low_rank.c", [
        ("rank-order", "p->vectors + (int64_t)extra * p->a.n_short, p->values + extra,",
         "p->vectors, p->values + extra,", "test_lors|test_truncate_rules"),
        ("rank-energy", "while (rank < p->a.n_short && kept < target) {",
         "while (rank < p->a.n_short && kept < 0.9 * target) {", "test_lors|test_truncate_rules"),
        ("certificate-energy", "c->energy = kept < total ? kept / total : 1;", "c->energy = 1;",
         "test_lors|test_truncate_rules|test_truncate"),
        ("certificate-next", "c->sigma_next = root(next);", "c->sigma_next = c->sigma_last;",
         "test_truncate_rules|test_truncate"),
    ]),
    *of("low rank", "src/cpu/low_rank_krylov.c", [
        ("krylov-stop", "if (e.projection + e.by_noise <= most && k->excess <= 5e-7) {",
         "if (e.projection + e.by_noise <= 1e6 * most && k->excess <= 5e-2) {",
         "test_truncate_rules|test_truncate"),
        ("krylov-excess", "k->excess = 0.5 * e.energy / tail;", "k->excess = 0 * e.energy / tail;",
         "test_truncate_rules|test_truncate"),
    ]),
]

MUTANTS = ARITHMETIC + METHODS + LOW_RANK
