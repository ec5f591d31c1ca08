/* test_registry.c - where the registry looks for the library of a backend, what it says where there
 * is none or a wrong one, and which devices a name stands for.
 *
 * A process looks once: each case is this program once more, as its own child. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <lors/device.h>

#include "backend/backend_registry.h"

enum { ANSWER = 8192 };

static char self[4096], work[4096];

/* --- the child -------------------------------------------------------------------------------- */

/* "cuda:0 ready" or "cuda missing: why", but for the CPU; then what each name stands for. */
static int answer(void)
{
    const char *names = getenv("REGISTRY_NAMES");
    char *list = strdup(names ? names : "");
    for (int32_t i = 1; i < lors_device_count(); i++) {
        const lors_device_info *one = lors_device_at(i);
        printf("%s %s%s\n", one->name, one->available ? "ready" : "missing: ", one->reason);
    }
    if (lors_device_at(-1) || lors_device_at(lors_device_count())) {
        return 1;
    }
    for (char *rest = list, *name; (name = strsep(&rest, " "));) {
        lors_backend_choice choice;
        const char *wish = strcmp(name, "NULL") == 0 ? NULL : name;
        lors_status status = name[0] ? lors_backend_find(wish, &choice) : LORS_ERR_INTERNAL;
        if (name[0] && status == LORS_OK) {
            printf("%s is %s, %d of them\n", name, choice.label, choice.n_devices);
        } else if (name[0]) {
            printf("%s: %s: %s\n", name, lors_status_name(status), lors_last_error());
        }
    }
    free(list);
    return 0;
}

/* --- the parent ------------------------------------------------------------------------------- */

/* What the child says: as `path`, called `called`, with the library so and these names to find. */
static const char *ask(const char *path, const char *called, const char *library, const char *says,
                       const char *names)
{
    static char text[ANSWER];
    int ends[2], status;
    size_t n = 0;
    assert_int_equal(pipe(ends), 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        setenv("REGISTRY_CHILD", "1", 1);
        setenv("REGISTRY_LIBRARY", says ? says : "", 1);
        setenv("REGISTRY_NAMES", names ? names : "", 1);
        if (library) {
            setenv("LORS_CUDA_LIBRARY", library, 1);
        } else {
            unsetenv("LORS_CUDA_LIBRARY");
        }
        execl(path, called, (char *)NULL);
        _exit(126);
    }
    close(ends[1]);
    for (ssize_t got;
         n + 1 < sizeof text && (got = read(ends[0], text + n, sizeof text - 1 - n)) > 0;) {
        n += (size_t)got;
    }
    text[n] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    return text;
}

static const char *named(const char *library, const char *says, const char *names)
{
    return ask(self, self, library, says, names);
}

static void expect_start(const char *text, const char *start)
{
    if (strncmp(text, start, strlen(start)) != 0) {
        fprintf(stderr, "expected: %s\nfound: %s\n", start, text);
        fail();
    }
}

static void test_no_library(void **unused)
{
    (void)unused;
    expect_start(named("", NULL, "auto NULL cpu cuda"),
                 "cuda missing: LORS_CUDA_LIBRARY is empty\n"
                 "auto is cpu, 1 of them\nNULL is cpu, 1 of them\ncpu is cpu, 1 of them\n"
                 "cuda: ERR_DEVICE: device 'cuda' is not available: LORS_CUDA_LIBRARY is empty;");
    expect_start(named("/no/such/library.so", NULL, ""),
                 "cuda missing: the CUDA backend cannot be loaded: /no/such/library.so: ");
}

static void test_wrong_libraries(void **unused)
{
    static const char wrong[] = "cuda missing: liblors_cuda.so belongs to another version of lors";
    (void)unused;
    expect_start(named(FAKE_LIBRARY, "null", ""), wrong);
    expect_start(named(FAKE_LIBRARY, "abi", ""), wrong);
    expect_start(named(FAKE_LIBRARY, "table", ""), wrong);
    expect_start(named("libm.so.6", "1", ""), wrong); /* without the function */
    expect_start(named(FAKE_LIBRARY, "none", ""), "cuda missing: none is there\n");
    expect_start(named(FAKE_LIBRARY, "silent", "cuda"),
                 "cuda missing: \ncuda: ERR_DEVICE: device 'cuda' is not available: ; use");
}

static void test_names(void **unused)
{
    (void)unused;
    const char *text = named(FAKE_LIBRARY, "2",
                             "NULL auto cpu cuda cuda:1 cuda:1,0 cuda:all cuda:2 cuda:0,0 cuda: "
                             "cuda:0, cuda:x cuda:00001 cuda:0x cudax gpu cuda:-1");
    expect_start(text, "cuda:0 ready\ncuda:1 ready\n"
                       "NULL is cuda:0, 1 of them\nauto is cuda:0, 1 of them\n"
                       "cpu is cpu, 1 of them\ncuda is cuda:0, 1 of them\n"
                       "cuda:1 is cuda:1, 1 of them\ncuda:1,0 is cuda:1,0, 2 of them\n"
                       "cuda:all is cuda:0,1, 2 of them\n"
                       "cuda:2: ERR_DEVICE: there is no device cuda:2, only 2 of them;");
    assert_non_null(strstr(text, "\ncuda:0,0: ERR_USAGE: cuda:0,0: device cuda:0 is named twice"));
    static const char *const bad[] = {"cuda:",      "cuda:0,", "cuda:x",
                                      "cuda:00001", "cuda:0x", "cuda:-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char line[128];
        snprintf(line, sizeof line, "\n%s: ERR_USAGE: %s: write cuda, cuda:0,", bad[i], bad[i]);
        assert_non_null(strstr(text, line));
    }
    assert_non_null(strstr(text, "\ncudax: ERR_USAGE: unknown device 'cudax'"));
    assert_non_null(strstr(text, "\ngpu: ERR_USAGE: unknown device 'gpu'"));
}

/* More devices than a choice holds: all of them are the first sixteen. */
static void test_many_devices(void **unused)
{
    (void)unused;
    const char *text =
        named(FAKE_LIBRARY, "20", "cuda:all cuda:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 cuda:19");
    assert_non_null(strstr(text, "\ncuda:15 ready\n"
                                 "cuda:all is cuda:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15, 16 of"));
    assert_non_null(strstr(text, ",16: ERR_DEVICE: there is no device cuda:16, only 20 of them"));
    assert_non_null(strstr(text, "cuda:19 is cuda:19, 1 of them\n"));
}

/* --- without a name: beside the program ------------------------------------------------------- */

static void copy(const char *from, const char *to)
{
    char command[9000];
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s')\" && cp '%s' '%s'", to, from, to);
    assert_int_equal(system(command), 0);
}

static void test_places(void **unused)
{
    static const char *const places[] = {"bin/liblors_cuda.so", "lib/liblors_cuda.so",
                                         LORS_LIBDIR "/liblors_cuda.so"};
    char program[4200], library[4200];
    (void)unused;
    snprintf(program, sizeof program, "%s/bin/program", work);
    copy(self, program);
    unsetenv("LD_LIBRARY_PATH");
    expect_start(ask(program, program, NULL, "1", ""),
                 "cuda missing: this build has no CUDA backend (liblors_cuda.so)\n");
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(library, sizeof library, "%s/%s", work, places[i]);
        copy(FAKE_LIBRARY, library);
        unsetenv("LD_LIBRARY_PATH");
        const char *text = ask(program, program, NULL, "1", "");
        bool found = strcmp(text, "cuda:0 ready\n") == 0; /* where a driver is installed */
        if (!found) {
            expect_start(text, "cuda missing: the NVIDIA driver is missing (libcuda.so.1)\n");
        }
        snprintf(library, sizeof library, "%s/driver/libcuda.so.1", work);
        copy(FAKE_LIBRARY, library);
        snprintf(library, sizeof library, "%s/driver", work);
        setenv("LD_LIBRARY_PATH", library, 1);
        expect_start(ask(program, program, NULL, "1", ""), "cuda:0 ready\n");
        snprintf(library, sizeof library, "%s/%s", work, places[i]);
        assert_int_equal(unlink(library), 0);
    }
    snprintf(library, sizeof library, "%s/driver/liblors_cuda.so", work);
    copy(FAKE_LIBRARY, library); /* where the loader looks */
    expect_start(ask(program, program, NULL, "1", ""), "cuda:0 ready\n");
    unsetenv("LD_LIBRARY_PATH");
}

/* A program that was found on the PATH knows no folder of its own, and a name may be any. */
static void test_odd_names_of_the_program(void **unused)
{
    char program[4200], library[4200], *name = malloc(5000);
    (void)unused;
    assert_non_null(name);
    snprintf(program, sizeof program, "%s/bin/program", work);
    snprintf(library, sizeof library, "%s/bin/liblors_cuda.so", work);
    copy(FAKE_LIBRARY, library);
    snprintf(library, sizeof library, "%s/driver", work);
    setenv("LD_LIBRARY_PATH", library, 1);
    assert_int_equal(chdir(work), 0);
    assert_int_equal(unlink("driver/liblors_cuda.so"), 0);
    assert_int_equal(chdir("bin"), 0);
    copy("/proc/self/maps", "liblors_cuda.so"); /* no library at all */
    expect_start(ask(program, program, NULL, "1", ""),
                 "cuda missing: the CUDA backend cannot be loaded: ");
    copy(FAKE_LIBRARY, "liblors_cuda.so");
    expect_start(ask("./program", "program", NULL, "1", ""), "cuda:0 ready\n");
    memset(name, 'x', 4990);
    memcpy(name + 4980, "/program", 9);
    expect_start(ask(program, name, NULL, "1", ""), "cuda missing: this build has no CUDA");
    free(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_library), cmocka_unit_test(test_wrong_libraries),
        cmocka_unit_test(test_names),      cmocka_unit_test(test_many_devices),
        cmocka_unit_test(test_places),     cmocka_unit_test(test_odd_names_of_the_program),
    };
    if (getenv("REGISTRY_CHILD")) {
        return answer();
    }
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || !getcwd(work, sizeof work - 20)) {
        return 1;
    }
    strcat(work, "/registry-work");
    char command[9000]; /* what an earlier run left would be found */
    snprintf(command, sizeof command, "rm -rf '%s' && mkdir '%s'", work, work);
    if (system(command) != 0) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
