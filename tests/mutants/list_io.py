"""list_io.py - faults of formats, files, the staging folder and the journal. See mutants.py."""
from mutant import of

FORMATS = [
    *of("parser", "src/io/st_parse.c", [
        ("st-dims", "if (n_seen > LORS_ST_MAX_DIMS) {", "if (n_seen > LORS_ST_MAX_DIMS + 1) {",
         "test_safetensors|fuzz_st_header"),
        ("st-product", "__builtin_mul_overflow(product, fields->shape[i], &product)",
         "(product = (int64_t)((uint64_t)product * (uint64_t)fields->shape[i]), false)",
         "test_safetensors|fuzz_st_header"),
        ("st-bits", "if (n_bits % 8 != 0) {", "if (n_bits % 8 == 9) {", "test_safetensors"),
        ("st-size", "if (n_bits / 8 != n_found) {", "if (n_bits / 8 > n_found) {",
         "test_safetensors|fuzz_st_header"),
        ("st-name-twice", "if (existing >= 0) {", "if (existing > 0) {",
         "test_safetensors|fuzz_st_header"),
        ("st-field-twice", "if (*seen) {", "if (*seen && read == read_dtype) {",
         "test_safetensors|fuzz_st_header"),
        ("st-metadata-twice", "if (p->has_metadata) {", "if (false) {",
         "test_safetensors|fuzz_st_header"),
        ("st-trailing", "if (lors_lexer_peek_token(lexer) != LORS_LEXER_END) {",
         "if (lors_lexer_peek_token(lexer) == '}') {", "test_safetensors|fuzz_st_header"),
        ("st-long-name", "if (n_name > LORS_ST_MAX_NAME) {",
         "if (n_name > LORS_ST_MAX_NAME + 1) {", "test_safetensors"),
    ]),
    *of("parser", "src/io/st_order.c", [
        ("st-hole", "if (tensor->begin > covered) {", "if (tensor->begin > covered + 8) {",
         "test_safetensors|fuzz_st_header"),
        ("st-overlap", "if (tensor->begin < covered) {", "if (tensor->end < covered) {",
         "test_safetensors|fuzz_st_header"),
        ("st-file-short", "file_end > header->file_bytes) {",
         "file_end > header->file_bytes + 1) {", "test_safetensors|fuzz_st_header"),
        ("st-file-long", "if (file_end < header->file_bytes) {",
         "if (file_end + 1 < header->file_bytes) {", "test_safetensors|fuzz_st_header"),
        ("st-order-of-empty", "end_a <= end_b)", "end_a >= end_b)",
         "test_safetensors|fuzz_st_header"),
    ]),
    *of("parser", "src/io/st_json.c", [
        ("json-overlong", "lead == 0xe0 ? 0xa0 :", "lead == 0xe0 ? 0x80 :",
         "test_safetensors|fuzz_st_header"),
        ("json-leading-zero", "if (n_digits > 1 && first == '0') {",
         "if (n_digits > 2 && first == '0') {", "test_safetensors|fuzz_st_header"),
        ("json-depth", "LORS_TRY(lors_lexer_ignore(lexer, depth + 1));",
         "LORS_TRY(lors_lexer_ignore(lexer, depth));", "test_safetensors"),
        ("json-lone-surrogate", "if (low < 0xdc00 || low > 0xdfff) {",
         "if (paired && (low < 0xdc00 || low > 0xdfff)) {", "test_safetensors|fuzz_st_header"),
        ("json-number-wraps", "__builtin_add_overflow(value, (uint64_t)(byte - '0'), &value)",
         "(value += (uint64_t)(byte - '0'), false)", "test_safetensors|fuzz_st_header"),
    ]),
    *of("parser", "src/io/st_write.c", [
        ("write-alignment", "while (header->length % alignment != 0",
         "while (header->length % 8 != 0", "test_st_layout"),
    ]),
    *of("index", "src/io/shard_index.c", [
        ("index-path", 'if (strpbrk(name, "/\\\\") ||', 'if (strpbrk(name, "\\\\") ||',
         "test_checkpoint|fuzz_index"),
        ("index-unlisted", "if (!json_object_get(index->weight_map, tensor->name)) {",
         "if (i > 0 && !json_object_get(index->weight_map, tensor->name)) {",
         "test_checkpoint|fuzz_index"),
        ("index-other-shard", ".name, shard) != 0) {", ".name, shard) == 1000) {",
         "test_checkpoint|fuzz_index"),
        ("index-total", "value && *total != (double)n_bytes;", "value && *total > (double)n_bytes;",
         "test_checkpoint|fuzz_index"),
    ]),
    *of("config", "src/io/model_config.c", [
        ("config-negative", "if (!json_is_integer(value) || json_integer_value(value) < 0) {",
         "if (!json_is_integer(value)) {", "test_model_folder|fuzz_side_json"),
    ]),
    *of("path", "src/io/links.c", [
        ("link-sibling", "return strncmp(path, folder, n_folder) == 0 && path[n_folder] == '/';",
         "return strncmp(path, folder, n_folder) == 0;", "test_checkpoint|test_model_folder"),
        ("link-hub", " &&\n            !strchr(rest + sizeof blobs - 1, '/')) {", ") {",
         "test_checkpoint|test_model_folder"),
        ("link-unchecked", "} else if (!follow_symlinks && lstat(path, &info) == 0 &&",
         "} else if (false && !follow_symlinks && lstat(path, &info) == 0 &&", "test_checkpoint"),
    ]),
    *of("path", "src/base/path.c", [
        ("path-slash", "size_t n_slash = n_folder > 0 && folder[n_folder - 1] != '/';",
         "size_t n_slash = n_folder > 0;", "test_text"),
    ]),
    *of("arithmetic", "src/base/memory.c", [
        ("memory-product", "__builtin_mul_overflow(count, n_bytes_each, &n_bytes)",
         "(n_bytes = count * n_bytes_each, false)", "test_memory"),
    ]),
    *of("limit", "src/io/ckpt_read.c", [
        ("read-range", "if (offset > tensor->n_bytes || n_bytes > tensor->n_bytes - offset) {",
         "if (offset > tensor->n_bytes) {", "test_checkpoint|test_transfer"),
    ]),
    *of("io", "src/io/checkpoint.c", [
        ("change-unnoticed", "if (!there || !lors_ckpt_file_is(file, &info)) {", "if (!there) {",
         "test_checkpoint|test_refusals"),
    ]),
]

FILES = [
    *of("io", "src/base/file.c", [
        ("read-short", "done += (size_t)n;\n        } else if (n == 0) {\n"
         "            return fail_truncated",
         "done = n_bytes;\n        } else if (n == 0) {\n            return fail_truncated",
         "test_file"),
        ("read-truncated", "return fail_truncated(fd, path, at, n_bytes - done);",
         "return LORS_OK;", "test_file"),
        ("read-interrupted", '} else if (errno != EINTR) {\n'
         '            return fail_at(path, "cannot be read"',
         '} else {\n            return fail_at(path, "cannot be read"', "test_file"),
        ("open-pipe", "if (!S_ISREG(info->st_mode)) {", "if (S_ISDIR(info->st_mode)) {",
         "test_file"),
        ("create-over", "O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666",
         "O_WRONLY | O_CREAT | O_CLOEXEC, 0666", "test_file"),
        ("sync-again", "{\n    if (lors_file_table()->fsync(fd) != 0) {",
         "{\n    if (lors_file_table()->fsync(fd) != 0 && lors_file_table()->fsync(fd) != 0) {",
         "test_file"),
        ("remove-follows", "if (lstat(at->text, &info) != 0) {",
         "if (stat(at->text, &info) != 0) {", "test_file"),
        ("direct-lead", "return done > lead ? done - lead : 0;", "return done;", "test_direct"),
    ]),
    *of("io", "src/io/transfer.c", [
        ("transfer-status", "request->status = status;", "request->status = LORS_OK;",
         "test_transfer"),
        ("transfer-not-awaited",
         "while (request->state == LORS_TRANSFER_QUEUED || request->state == "
         "LORS_TRANSFER_RUNNING) {", "while (request->state == LORS_TRANSFER_QUEUED) {",
         "test_transfer|test_io"),
        ("transfer-hash", "hash_chunks(request, at, at + n_bytes);",
         "hash_chunks(request, at, at + n_bytes - 1);", "test_transfer"),
    ]),
    *of("hash", "src/base/hash.c", [
        ("hash-hex", "*out++ = hex[bytes[i] & 15];", "*out++ = hex[bytes[i] & 7];", "test_hash"),
    ]),
    *of("threads", "src/base/threads.c", [
        ("queue-wraps", "queue->first = (queue->first + 1) % queue->capacity;",
         "queue->first = (queue->first + 1) % (queue->capacity + 1);", "test_base_threads"),
    ]),
]

COMMIT = [
    *of("staging", "src/io/staging.c", [
        ("staging-file-sync", "status = lors_file_sync(fd, path);", "status = LORS_OK;",
         "test_staging|faults_power"),
        ("staging-folder-sync", "LORS_TRY(lors_file_sync_folder(staging->staging));", "",
         "test_staging|faults_power"),
        ("staging-parent-sync",
         "lors_status status = lors_file_sync_folder(staging->parent);\n"
         "    if (status != LORS_OK) {\n        take_back",
         "lors_status status = LORS_OK;\n    if (status != LORS_OK) {\n        take_back",
         "test_staging|faults_power"),
        ("staging-no-exchange",
         "if (lors_file_table()->exchange(staging->staging, staging->out) == 0) {",
         "if (lors_file_remove_tree(staging->out) == LORS_OK &&\n"
         "        lors_file_table()->rename(staging->staging, staging->out) == 0) {",
         "test_staging"),
        ("staging-lock", "if (flock(fd, LOCK_EX | LOCK_NB) != 0) {",
         "if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno != EWOULDBLOCK) {", "test_staging"),
        ("staging-lock-gone", "held.st_ino != named.st_ino) {", "held.st_ino == 0) {",
         "test_staging_odd"),
        ("staging-no-force", "if (!staging->force) {", "if (false) {", "test_staging"),
        ("staging-failed", "if (staging->failed || staging->open_files != 0) {",
         "if (staging->open_files != 0) {", "test_staging"),
        ("staging-folders", "if (found.folders) {", "if (false) {", "test_staging_odd"),
        ("staging-not-taken-back", "take_back(staging, swap);\n", "", "test_staging"),
    ]),
    *of("staging", "src/io/staging_left.c", [
        ("staging-old-lost",
         "} else if (lors_file_table()->rename(staging->old, staging->out) != 0) {",
         "} else if (lors_file_remove_tree(staging->old) != LORS_OK) {", "test_staging"),
        ("staging-condemned", "if (!staging->owns_staging || staging->condemned ||",
         "if (!staging->owns_staging ||", "test_staging_left|test_resume"),
        ("staging-second-name", " && info.st_nlink == 1;", ";", "test_staging_left|test_resume"),
    ]),
    *of("staging", "src/run/shards.c", [
        ("shard-not-synced", "status = lors_file_sync(fd, shard->path);", "status = LORS_OK;",
         "faults_power"),
    ]),
    *of("journal", "src/io/journal.c", [
        ("journal-checksum", "if (memcmp(&sum, head + 4, sizeof sum) != 0) {", "if (false) {",
         "test_journal"),
        ("journal-no-chain", "lors_xxh both[2] = {*before, lors_xxh_of(record, n_bytes)};",
         "lors_xxh both[2] = {{{0}}, lors_xxh_of(record, n_bytes)};", "test_journal"),
        ("journal-not-synced", "LORS_TRY(lors_file_sync(journal->fd, journal->path));", "",
         "test_journal"),
        ("journal-length", "if (n == 0 || n > left - LORS_JOURNAL_HEAD) {", "if (n == 0) {",
         "test_journal"),
    ]),
    *of("journal", "src/run/journal_thread.c", [
        ("journal-before-data",
         "LORS_TRY(lors_run_shard_sync(run, plan->jobs[jobs[i]].shard));", "continue;",
         "test_resume|faults_power"),
    ]),
    *of("journal", "src/run/resume.c", [
        ("resume-unchecked",
         "whole = memcmp(&hash, &state->hashes[job->n_models + 1], sizeof hash) == 0;",
         "whole = sizeof hash > 0;", "test_resume"),
    ]),
    *of("journal", "src/run/identity.c", [
        ("resume-other-seed", "plan->seed, plan->exact,", "(uint64_t)0, plan->exact,",
         "test_odd_runs"),
    ]),
]

MUTANTS = FORMATS + FILES + COMMIT
