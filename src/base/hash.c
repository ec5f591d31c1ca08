/* hash.c - SHA-256 by OpenSSL, XXH3 by xxHash. */
#include "base/hash.h"

#include <stdbool.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <xxhash.h>

#include "base/error.h"
#include "base/memory.h"

static void hex_of(const uint8_t *bytes, size_t n_bytes, char *out)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < n_bytes; i++) {
        *out++ = hex[bytes[i] >> 4];
        *out++ = hex[bytes[i] & 15];
    }
    *out = '\0';
}

struct lors_sha256 {
    EVP_MD_CTX *context;
};

static lors_status sha256_start(lors_sha256 *state)
{
    /* It fetches the algorithm, which every OpenSSL has, into memory of its own. */
    if (EVP_DigestInit_ex(state->context, EVP_sha256(), NULL) != 1) {
        return lors_fail(LORS_ERR_LIMIT, "SHA-256: OpenSSL cannot begin, memory is short");
    }
    return LORS_OK;
}

lors_status lors_sha256_create(lors_sha256 **out)
{
    *out = NULL;
    lors_sha256 *state = lors_new(1, sizeof *state);
    if (!state) {
        return lors_fail_memory(sizeof *state);
    }
    /* Where memory is short when OpenSSL begins, its other functions would use what it has not. */
    bool has_begun = OSSL_LIB_CTX_get0_global_default() != NULL;
    state->context = has_begun ? EVP_MD_CTX_new() : NULL;
    lors_status status = state->context ? sha256_start(state) : lors_fail_memory(512);
    if (status != LORS_OK) {
        lors_sha256_free(state);
        return status;
    }
    *out = state;
    return LORS_OK;
}

lors_status lors_sha256_update(lors_sha256 *state, const void *bytes, size_t n_bytes)
{
    if (n_bytes > 0 && EVP_DigestUpdate(state->context, bytes, n_bytes) != 1) {
        return lors_fail(LORS_ERR_INTERNAL, "SHA-256: OpenSSL failed on %zu bytes", n_bytes);
    }
    return LORS_OK;
}

lors_status lors_sha256_finish(lors_sha256 *state, char out[LORS_SHA256_TEXT])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n_bytes = 0;
    out[0] = '\0';
    if (EVP_DigestFinal_ex(state->context, digest, &n_bytes) != 1 || n_bytes != 32) {
        return lors_fail(LORS_ERR_INTERNAL, "SHA-256: OpenSSL cannot finish the digest");
    }
    hex_of(digest, 32, out);
    return sha256_start(state);
}

lors_status lors_sha256_of(const void *bytes, size_t n_bytes, char out[LORS_SHA256_TEXT])
{
    lors_sha256 *state = NULL;
    lors_status status = lors_sha256_create(&state);
    if (status == LORS_OK) {
        status = lors_sha256_update(state, bytes, n_bytes);
    }
    if (status == LORS_OK) {
        status = lors_sha256_finish(state, out);
    }
    lors_sha256_free(state);
    return status;
}

void lors_sha256_free(lors_sha256 *state)
{
    if (state) {
        EVP_MD_CTX_free(state->context);
        lors_free(state);
    }
}

/* xxHash wants a pointer even to nothing. */
static const void *some(const void *bytes)
{
    return bytes ? bytes : "";
}

lors_xxh lors_xxh_of(const void *bytes, size_t n_bytes)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(some(bytes), n_bytes));
    lors_xxh hash;
    _Static_assert(sizeof canonical == sizeof hash, "128 bits both");
    for (size_t i = 0; i < sizeof hash.bytes; i++) {
        hash.bytes[i] = canonical.digest[i];
    }
    return hash;
}

void lors_xxh_text(lors_xxh hash, char out[LORS_XXH_TEXT])
{
    hex_of(hash.bytes, sizeof hash.bytes, out);
}

uint64_t lors_xxh64_of(const void *bytes, size_t n_bytes)
{
    return XXH3_64bits(some(bytes), n_bytes);
}
