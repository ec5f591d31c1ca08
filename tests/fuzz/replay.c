/* replay.c - a main for a fuzz target without libFuzzer: every seed, and mutations of each.
 *
 *   fuzz_x SEEDS MUTATIONS   run the seeds of a file and so many mutations of each, always alike
 *   fuzz_x --split SEEDS DIR write each seed into a file of its own: libFuzzer's corpus
 *   fuzz_x --input FILE ...  run what libFuzzer found
 *
 * A file of seeds is text: a line "=== NAME" before each; %XX (two capital hexadecimal digits) is a
 * byte that text cannot hold. The newline at a seed's end is not part of it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

enum { NAME_MAX_BYTES = 100, INPUT_MAX = 65536, SECONDS_PER_INPUT = 20 };

typedef struct seed {
    char name[NAME_MAX_BYTES];
    uint8_t bytes[INPUT_MAX];
    size_t size;
} seed;

/* --- what is running, should it crash or hang ------------------------------------------------ */

static char now_running[NAME_MAX_BYTES + 64];

/* A sanitizer ends the program without a signal: it is asked to tell, where there is one. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void tell(void)
{
    char text[sizeof now_running + 16];
    int n = snprintf(text, sizeof text, "\nin %s\n", now_running);
    ssize_t unused = write(2, text, (size_t)n);
    (void)unused;
}

static void on_signal(int signal_number)
{
    tell();
    signal(signal_number, SIG_DFL); /* abort and alarm come again and end the program */
    raise(signal_number);
}

static void run_input(const char *name, uint64_t mutation, const uint8_t *bytes, size_t size)
{
    /* Of exactly this size, so that a sanitizer sees a step beyond it. */
    uint8_t *copy = malloc(size + (size == 0));
    FUZZ_NEED(copy, "no memory for %zu bytes", size);
    memcpy(copy, bytes, size);
    snprintf(now_running, sizeof now_running, "%s, mutation %llu", name,
             (unsigned long long)mutation);
    alarm(SECONDS_PER_INPUT);
    LLVMFuzzerTestOneInput(copy, size);
    alarm(0);
    free(copy);
}

/* --- seeds ---------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void append_line(seed *to, const char *line)
{
    for (const char *c = line; *c; c++) {
        int high = *c == '%' ? hex_digit(c[1]) : -1, low = high >= 0 ? hex_digit(c[2]) : -1;
        FUZZ_NEED(to->size < sizeof to->bytes, "seed %s is too long", to->name);
        to->bytes[to->size++] = (uint8_t)(low >= 0 ? high << 4 | low : *c);
        c += low >= 0 ? 2 : 0;
    }
}

typedef void (*seed_fn)(const seed *one, void *user);

static int each_seed(const char *path, seed_fn each, void *user)
{
    static seed one;
    char *line = NULL;
    size_t room = 0;
    int n_seeds = 0;
    FILE *file = fopen(path, "r");
    FUZZ_NEED(file, "%s cannot be read", path);
    for (ssize_t n = getline(&line, &room, file); n >= 0 || n_seeds > 0;
         n = getline(&line, &room, file)) {
        if (n_seeds > 0 && (n < 0 || strncmp(line, "=== ", 4) == 0)) {
            one.size -= one.size > 0; /* the newline before the next "===" */
            each(&one, user);
        }
        if (n < 0) {
            break;
        }
        if (strncmp(line, "=== ", 4) == 0) {
            snprintf(one.name, sizeof one.name, "%.*s", (int)strcspn(line + 4, "\n"), line + 4);
            one.size = 0;
            n_seeds++;
        } else if (n_seeds > 0) {
            append_line(&one, line);
        }
    }
    free(line);
    fclose(file);
    return n_seeds;
}

static void run_seed(const seed *one, void *n_mutations)
{
    static uint8_t input[INPUT_MAX];
    run_input(one->name, 0, one->bytes, one->size);
    if (fuzz_check_seed) {
        fuzz_check_seed(one->name, one->bytes, one->size);
    }
    for (uint64_t i = 1; i <= *(const uint64_t *)n_mutations; i++) {
        memcpy(input, one->bytes, one->size);
        size_t size = fuzz_mutate(input, one->size, sizeof input, i * 1000003);
        run_input(one->name, i, input, size);
    }
}

static void split_seed(const seed *one, void *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", (const char *)folder, one->name);
    fuzz_write(path, one->bytes, one->size);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--split") == 0) {
        return each_seed(argv[2], split_seed, argv[3]) > 0 ? 0 : 1;
    }
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal); /* it hangs */
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(tell);
    } else {
        signal(SIGSEGV, on_signal);
    }
    if (argc > 2 && strcmp(argv[1], "--input") == 0) {
        for (int i = 2; i < argc; i++) {
            size_t size = 0;
            char *bytes = fuzz_read(argv[i], &size);
            FUZZ_NEED(bytes, "%s cannot be read", argv[i]);
            run_input(argv[i], 0, (const uint8_t *)bytes, size);
            free(bytes);
        }
        return 0;
    }
    if (argc != 3) {
        fprintf(stderr, "usage: %s SEEDS MUTATIONS | --split SEEDS FOLDER | --input FILE ...\n",
                argv[0]);
        return 2;
    }
    uint64_t n_mutations = strtoull(argv[2], NULL, 10);
    int n_seeds = each_seed(argv[1], run_seed, &n_mutations);
    printf("%d seeds, %llu mutations of each\n", n_seeds, (unsigned long long)n_mutations);
    return n_seeds > 0 ? 0 : 1;
}
