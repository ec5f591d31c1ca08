/* io_files.c - files and folders for the tests of src/io, in a folder that is removed again. */
#include "io_files.h"

#include <dirent.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static char folder[PATH_MAX];

/* A helper that fails is a test that cannot run. */
static void need(bool good, const char *what, const char *path)
{
    if (!good) {
        perror(path);
        fprintf(stderr, "cannot %s %s\n", what, path);
        abort();
    }
}

void io_folder_create(void)
{
    char here[PATH_MAX - 32];
    need(getcwd(here, sizeof here) != NULL, "find", ".");
    snprintf(folder, sizeof folder, "%s/io_test_XXXXXX", here);
    need(mkdtemp(folder) != NULL, "create", folder);
}

void io_folder_remove(void)
{
    need(lors_file_remove_tree(folder) == LORS_OK, "remove", folder);
}

const char *io_path(const char *format, ...)
{
    static char paths[16][PATH_MAX];
    static int next;
    char *path = paths[next++ % 16];
    size_t n_folder = strlen(folder);
    memcpy(path, folder, n_folder);
    path[n_folder] = '/';
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path + n_folder + 1, PATH_MAX - n_folder - 1, format, arguments);
    va_end(arguments);
    return path;
}

void io_write(const char *path, const void *bytes, size_t n_bytes)
{
    FILE *file = fopen(path, "wb");
    need(file != NULL, "create", path);
    need(n_bytes == 0 || fwrite(bytes, 1, n_bytes, file) == n_bytes, "write", path);
    need(fclose(file) == 0, "close", path);
}

void io_write_text(const char *path, const char *text)
{
    io_write(path, text, strlen(text));
}

void io_mkdir(const char *path)
{
    need(mkdir(path, 0777) == 0, "create", path);
}

void io_link(const char *target, const char *path)
{
    need(symlink(target, path) == 0, "create", path);
}

bool io_holds(const char *path, const char *text)
{
    char *bytes = NULL;
    size_t n_bytes = 0;
    bool holds = lors_file_read_all(path, 1 << 26, &bytes, &n_bytes) == LORS_OK &&
                 n_bytes == strlen(text) && memcmp(bytes, text, n_bytes) == 0;
    free(bytes);
    return holds;
}

bool io_exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

int io_count(const char *path)
{
    int n = 0;
    DIR *entries = opendir(path);
    need(entries != NULL, "list", path);
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    closedir(entries);
    return n;
}

void io_write_tensors(const char *path, const char *json, size_t n_data)
{
    size_t n_json = strlen(json);
    unsigned char *bytes = malloc(8 + n_json + n_data);
    need(bytes != NULL, "hold", path);
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)((uint64_t)n_json >> (8 * i) & 0xff);
    }
    memcpy(bytes + 8, json, n_json);
    for (size_t i = 0; i < n_data; i++) {
        bytes[8 + n_json + i] = (unsigned char)(i & 0xff);
    }
    io_write(path, bytes, 8 + n_json + n_data);
    free(bytes);
}
