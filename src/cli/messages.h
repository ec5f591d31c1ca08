/* messages.h - everything the program prints goes through here: results on stdout, the rest on
 * stderr, names from files made harmless, and every failed write noticed. */
#ifndef LORS_CLI_MESSAGES_H
#define LORS_CLI_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lors/status.h>

enum { CLI_ESCAPED_MAX = 1024 };

#define CLI_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* Call first: a closed stdin, stdout or stderr must not become the number of a model's file. */
void cli_messages_start(void);

/* Results, on stdout. */
void cli_out(const char *format, ...) CLI_PRINTF(1, 2);
void cli_out_bytes(const char *bytes, size_t n_bytes);

/* On stderr: "lors: error: SENTENCE", "lors: warning: SENTENCE", "lors: SENTENCE" (one prefix for
 * every line of the sentence), and plain text without a prefix. */
void cli_error(const char *format, ...) CLI_PRINTF(1, 2);
void cli_warning(const char *format, ...) CLI_PRINTF(1, 2);
void cli_note(const char *format, ...) CLI_PRINTF(1, 2);
void cli_plain(const char *format, ...) CLI_PRINTF(1, 2);

/* Print the library's sentence for a failure, and return the exit code that belongs to it. */
int cli_fail(lors_status status);
/* Print a sentence of our own about a wrong use, and where the help is; returns its exit code. */
int cli_fail_usage(const char *command, const char *format, ...) CLI_PRINTF(2, 3);

/* The line on a terminal that is drawn over and over; "" removes it. */
void cli_redraw(const char *line);
/* Can stderr show such a line? */
bool cli_can_redraw(void);

/* Flush stdout. The exit code to leave with: `exit_code`, or that of an I/O error if something
 * could not be written (and exit_code was no worse). */
int cli_messages_finish(int exit_code);

/* `text` with control characters, text-direction marks and invalid UTF-8 written as \xNN, cut after
 * 200 bytes with "..."; into `out` of CLI_ESCAPED_MAX bytes. Returns out. */
char *cli_escape(const char *text, char *out);

/* "1.5 GB", "640 kB", "12 B": decimal units, three digits. Returns out. */
char *cli_format_bytes(uint64_t n_bytes, char out[32]);
/* The same for a rate in bytes a second: "1.21 GB/s". */
char *cli_format_rate(double bytes_per_second, char out[32]);

#endif
