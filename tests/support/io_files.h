/* io_files.h - files and folders for the tests of src/io, in a folder that is removed again. */
#ifndef LORS_TESTS_IO_FILES_H
#define LORS_TESTS_IO_FILES_H

#include <stdbool.h>
#include <stddef.h>

/* A new folder in the working directory; a path below it (one of 16 buffers, reused in turn). */
void io_folder_create(void);
void io_folder_remove(void);
const char *io_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

void io_write(const char *path, const void *bytes, size_t n_bytes);
void io_write_text(const char *path, const char *text);
void io_mkdir(const char *path);
void io_link(const char *target, const char *path);
/* Does the file hold exactly this text? */
bool io_holds(const char *path, const char *text);
bool io_exists(const char *path);
/* The number of entries of a folder, hidden ones included. */
int io_count(const char *path);

/* A safetensors file: the header's JSON as given, then n_data bytes 0, 1, 2, ... */
void io_write_tensors(const char *path, const char *json, size_t n_data);

#endif
