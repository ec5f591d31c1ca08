"""list_merge.py - faults of recipes, plans, runs, reports and the program. See mutants.py."""
from mutant import of

RECIPES = [
    *of("recipe", "src/recipe/recipe_values.c", [
        ("value-open-end", "param->minimum_open ? *out <= param->minimum : *out < param->minimum;",
         "*out < param->minimum;", "test_recipe_errors|test_recipe|test_recipe_layers"),
        ("value-maximum", "if (low || *out > param->maximum) {", "if (low) {",
         "test_recipe_errors|test_recipe"),
        ("value-octal", "if (whole > 1 && *p == '0') {", "if (whole > 2 && *p == '0') {",
         "test_recipe_errors|test_recipe"),
        ("value-too-small", "if (*out == 0 && strcspn", "if (*out < 0 && strcspn",
         "test_recipe_errors|test_recipe"),
        ("value-percent", "out->number /= 100;", "out->number /= 10;",
         "test_recipe|test_recipe_errors"),
        ("value-never-used", "if (out->n_cases > 0 && !out->cases[out->n_cases - 1].filter) {",
         "if (false) {", "test_recipe_errors|test_recipe"),
    ]),
    *of("recipe", "src/recipe/recipe.c", [
        ("precedence", "{&at->slice->settings, &at->module->settings,\n"
         "                                     &recipe->settings};",
         "{&recipe->settings, &at->module->settings, &at->slice->settings};",
         "test_recipe_layers"),
        ("precedence-filter",
         "if (!item->filter || lors_selector_matches(item->filter, subject)) {",
         "if (item->filter == NULL || k > 0 ||\n"
         "                lors_selector_matches(item->filter, subject)) {",
         "test_recipe|test_recipe_layers"),
        ("gradient-ends", "return (double)layer / (double)(n_layers - 1);",
         "return (double)layer / (double)n_layers;", "test_recipe|test_recipe_layers"),
        ("gradient-turned", "(1 - part) * a + part * b", "part * a + (1 - part) * b",
         "test_recipe"),
    ]),
    *of("recipe", "src/recipe/recipe_parameters.c", [
        ("parameter-of-model", "if (of_source && !recipe->method->params[index].per_model) {",
         "if (false) {", "test_recipe_errors"),
    ]),
    *of("recipe", "src/recipe/recipe_check.c", [
        ("too-few-models", "if (n < method->min_models && !only_base) {",
         "if (n + 1 < method->min_models && !only_base) {", "test_recipe_errors|test_recipe"),
    ]),
    *of("expression", "src/recipe/recipe_expression.c", [
        ("expression-minus", "scale(p, &right, *at == '-' ? -1 : 1);", "scale(p, &right, 1);",
         "test_recipe_layers"),
        ("expression-sign", "sign = *p->at++ == '-' ? -sign : sign;", "sign += 0 * *p->at++;",
         "test_recipe_layers"),
        ("expression-quotient", "a->weights[k] /= b->number;", "a->weights[k] *= b->number;",
         "test_recipe_layers"),
        ("expression-precedence", "value right;\n        LORS_TRY(parse_product(p, &right));",
         "value right;\n        LORS_TRY(parse_factor(p, &right));", "test_recipe_layers"),
        ("expression-depth", "if (++p->n_nested > MOST_NESTED) {",
         "if (++p->n_nested > 100 * MOST_NESTED) {", "test_recipe_errors|test_recipe_layers"),
    ]),
    *of("recipe", "src/recipe/selector.c", [
        ("selector-last-layer", "name->layer >= t->from && name->layer <= t->to;",
         "name->layer >= t->from && name->layer < t->to;", "test_selector"),
        ("selector-twice-not", "next->negate ^= *p == '!';", "next->negate |= *p == '!';",
         "test_selector"),
        ("selector-backreference", "*p >= '1' && *p <= '9'", "*p >= '2' && *p <= '9'",
         "test_selector"),
    ]),
]

PLANS = [
    *of("slices", "src/plan/layers.c", [
        ("slice-behind-the-last", "if (layers->end <= count) {",
         "if (layers->end <= count + 1) {", "test_limits|fuzz_plan"),
    ]),
    *of("matching", "src/plan/match.c", [
        ("slice-other-layer", "described->layer - at->from + source->layers.first;",
         "described->layer + source->layers.first;", "cli|oracle"),
        ("match-tied", "if (at < 0 && tied) {", "if (at < -1 && tied) {", "test_outputs"),
        ("match-missing", "if (one->missing.count > 0) {", "if (one->missing.count > 1) {",
         "cli"),
        ("match-extra", "return one->extra.count > 0 ?", "return one->extra.count > 1 ?",
         "test_refusals"),
        ("match-shape", "memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof *a->shape) == 0;",
         "memcmp(a->shape, b->shape, (a->n_dims > 0) * sizeof *a->shape) == 0;",
         "test_limits|cli"),
        ("match-two-names", "if (existing >= 0) {\n            char a[",
         "if (false) {\n            char a[",
         "test_refusals"),
    ]),
    *of("plan", "src/plan/lay_out.c", [
        ("layout-order", ": strcmp(a->name, b->name);", ": strcmp(b->name, a->name);",
         "cli"),
        ("shard-limit", "filled + job->out_bytes > max_bytes) {", "filled > max_bytes) {",
         "test_limits|cli"),
        ("shard-offset", "out_offset = entries[i].offset;",
         "out_offset = entries[i].offset + 2;", "test_limits|cli"),
        ("memory-beside", "PROGRAM_BYTES + plan->beside", "PROGRAM_BYTES", "test_many_tensors"),
        ("memory-shards", "m.fixed += plan->shards[i].header.capacity + OF_SHARD;", "",
         "test_many_tensors"),
        ("memory-tensors", "m.fixed += remembered_bytes(job);", "", "test_many_tensors"),
        ("memory-workers", "m->states + n * (staged + m->compute + own);",
         "m->states + (staged + m->compute + own);", "test_limits|cli|test_refusals|test_stages"),
        ("memory-limit",
         "return m->peak <= plan->max_memory && m->device_peak <= plan->max_memory;",
         "return true;", "test_refusals|fuzz_plan"),
        ("unit-last",
         "index, phase, first, left < job->unit_elements ? left : job->unit_elements};",
         "index, phase, first, job->unit_elements};", "test_threads"),
        ("unit-order", "index, phase, first,", "index, job->n_phases - 1 - phase, first,",
         "test_threads"),
    ]),
    *of("plan", "src/plan/resolve.c", [
        ("scope-all", "return !r->method->info.uses_matrices || job->is_layer_matrix;",
         "return true;", "cli|golden"),
        ("rank-none", "count = count < 1 && value.number > 0 ? 1 : count;", "count += 0;",
         "cli|oracle|fuzz_plan"),
        ("seed-ignored", "strlen(described.canonical)) ^ r->plan->seed;",
         "strlen(described.canonical));", "golden|oracle"),
        ("default-share", "per_count ? 1.0 / job->n_inputs : info->fallback_value;",
         "per_count ? 1.0 : info->fallback_value;", "golden|oracle"),
        ("dtype-precedence", "r.dtype = has_out_dtype ? out_dtype : recipe->has_out_dtype ?",
         "r.dtype = has_out_dtype ? out_dtype : recipe->has_out_dtype && !recipe->has_dtype ?",
         "test_odd_runs|golden|oracle"),
        ("quantised", "if (looks_quantised(job->source)) {", "if (false) {", "test_refusals"),
        ("sinusoid-merged",
         "if (described->role == LORS_ROLE_SINUSOID && !recipe->merge_sinusoid) {",
         "if (false) {", "test_outputs"),
    ]),
]

RUNS = [
    *of("nonfinite", "src/run/worker_compute.c", [
        ("nonfinite-input", "if (found->n_nonfinite > 0 &&", "if (found->n_nonfinite > 1 &&",
         "test_refusals"),
        ("overflow", "if (bad > 0 && t->w->run->options",
         "if (bad > 0 && blocks[i].n_nan > 0 && t->w->run->options", "test_refusals"),
    ]),
    *of("threads", "src/run/worker.c", [
        ("phase-not-awaited", "LORS_TRY(lors_run_job_await(w->run, unit->job, unit->phase));", "",
         "test_threads"),
        ("write-not-awaited", "if (writes) {\n        LORS_TRY(await_write(w));\n    }", "",
         "test_threads|golden"),
        ("slot-shared", "LORS_TRY(begin_step(w, &w->steps[!now]));\n"
         "        LORS_TRY(await_step(w, &w->steps[now]));",
         "LORS_TRY(begin_step(w, &w->steps[!now]));", "test_threads|test_io"),
    ]),
    *of("hash", "src/run/verify.c", [
        ("verify-no-hash", "if (*n_bytes != (uint64_t)size || strcmp(hash, sha256) != 0) {",
         "if (*n_bytes != (uint64_t)size) {", "test_outputs"),
        ("verify-last-byte", "status = lors_sha256_update(state, piece, n);",
         "status = lors_sha256_update(state, piece, n - 1);", "test_outputs"),
        ("verify-unlisted", 'json_object_get(in->names, name) || strcmp(name, "lors.json") == 0',
         "true", "test_outputs"),
        ("verify-seal", "good = memcmp(text + length - end_length, end, end_length) == 0;",
         "good = end[0] != 0;", "test_outputs"),
    ]),
    *of("hash", "src/run/report.c", [
        ("hash-of-nothing", "hash_json(lors_xxh_of(all.bytes, all.length));",
         "hash_json(lors_xxh_of(all.bytes, 0));", "test_outputs"),
    ]),
    *of("hash", "src/run/outputs.c", [
        ("index-total-written", "total += plan->jobs[j].out_bytes;", "total += 1;",
         "test_limits|test_outputs"),
    ]),
    *of("run", "src/run/run.c", [
        ("change-not-asked", "LORS_TRY(check_unchanged(run->plan, &changed));", "",
         "test_refusals"),
        ("side-change-loses", "lors_run_check_side_files(run->plan, &changed);\n    }",
         "lors_run_check_side_files(run->plan, spoilt);\n    }", "test_resume"),
        ("memory-resumes", "status == LORS_ERR_LIMIT ||", "", "test_machine_fails"),
        ("device-resumes", "status == LORS_ERR_LIMIT ||\n           status == LORS_ERR_DEVICE;",
         "status == LORS_ERR_LIMIT;", "faults_ops"),
        ("end-not-asked", "LORS_TRY(lors_run_poll_now(run));", "", "test_machine_fails"),
        ("place-of-input", "LORS_TRY(check_input_place(out, model->path));", "", "test_refusals"),
    ]),
    *of("matching", "src/run/ties.c", [
        ("tie-unchecked", "*same = memcmp(pieces, pieces + PIECE, n) == 0;", "*same = true;",
         "test_outputs"),
    ]),
    *of("compare", "src/run/compare.c", [
        ("compare-infinite", "isinf(s.max_abs)", "false", "test_compare"),
        ("compare-sign", "d = fabs(a - b);", "d = a - b;", "cli"),
    ]),
    *of("exit code", "src/cli/cmd_compare.c", [
        ("exit-compare", "if (exit_code == 0 && self->n_findings > 0)", "if (false)", "cli"),
    ]),
    *of("exit code", "src/cli/cmd_verify.c", [
        ("exit-verify", "return cli_fail(status);", "return cli_fail(status), 0;", "cli"),
    ]),
    *of("exit code", "src/cli/main.c", [
        ("exit-nothing", "return lors_status_exit_code(LORS_ERR_USAGE);", "return 0;", "cli"),
    ]),
    *of("exit code", "src/base/status.c", [
        ("exit-unknown", "index < LORS_STATUS_COUNT ? index : LORS_ERR_INTERNAL",
         "index < LORS_STATUS_COUNT ? index : LORS_OK", "test_status"),
    ]),
]

MUTANTS = RECIPES + PLANS + RUNS
