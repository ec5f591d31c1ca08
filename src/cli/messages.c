/* messages.c - the only file of the program that prints. */
#include "cli/messages.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    bool color;      /* of words on stderr */
    bool can_redraw; /* stderr is a terminal that knows how to clear a line */
    bool line_open;  /* the redrawn line is on the screen */
    int out_errno;   /* of the first write to stdout that failed; 0: none did */
} state;

/* With descriptor 1 closed, the next file opened gets number 1, and a result printed to stdout
 * would land in a model. A descriptor that cannot be written keeps the place and reports. */
static void hold_descriptor(int descriptor, int flags)
{
    if (fcntl(descriptor, F_GETFD) == -1) { /* for no other reason than that it is closed */
        int opened = open("/dev/null", flags);
        (void)opened; /* lower numbers are taken: it is `descriptor`, or there is nothing to do */
    }
}

void cli_messages_start(void)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    hold_descriptor(STDIN_FILENO, O_WRONLY);
    hold_descriptor(STDOUT_FILENO, O_RDONLY);
    hold_descriptor(STDERR_FILENO, O_RDONLY);
    state.can_redraw = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    state.color = state.can_redraw && (!no_color || !no_color[0]);
}

static void note_out_result(bool written)
{
    if (!written && state.out_errno == 0)
        state.out_errno = errno ? errno : EIO;
}

void cli_out(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    errno = 0;
    note_out_result(vprintf(format, arguments) >= 0);
    va_end(arguments);
}

void cli_out_bytes(const char *bytes, size_t n_bytes)
{
    errno = 0;
    note_out_result(fwrite(bytes, 1, n_bytes, stdout) == n_bytes);
}

void cli_redraw(const char *line)
{
    if (!state.can_redraw || (!line[0] && !state.line_open))
        return;
    fprintf(stderr, "\r%s\033[K", line);
    state.line_open = line[0] != '\0';
}

bool cli_can_redraw(void)
{
    return state.can_redraw;
}

/* Number of bytes of the valid UTF-8 sequence at `text`, its code point in *point; 0 if invalid. */
static size_t decode(const unsigned char *text, uint32_t *point)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n_bytes = text[0] < 0x80   ? 1
                     : text[0] < 0xc2 ? 0
                     : text[0] < 0xe0 ? 2
                     : text[0] < 0xf0 ? 3
                     : text[0] < 0xf5 ? 4
                                      : 0;
    if (n_bytes < 2) {
        *point = text[0];
        return n_bytes;
    }
    *point = text[0] & (0xffu >> (n_bytes + 1));
    for (size_t i = 1; i < n_bytes; ++i) {
        if ((text[i] & 0xc0) != 0x80) /* also the end of the text */
            return 0;
        *point = *point << 6 | (text[i] & 0x3fu);
    }
    if (*point < smallest[n_bytes] || *point > 0x10ffff || (*point >= 0xd800 && *point < 0xe000))
        return 0;
    return n_bytes;
}

/* Control characters, and the marks that make text read in another order than it is stored. */
static bool is_harmful(uint32_t point)
{
    return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x61c || point == 0x200e ||
           point == 0x200f || (point >= 0x2028 && point <= 0x202e) ||
           (point >= 0x2066 && point <= 0x2069);
}

/* Names in sentences of the library are escaped already, but for paths that the user wrote. This is
 * the second lock on that door. */
static void print_line(const char *line, size_t n_bytes)
{
    const unsigned char *at = (const unsigned char *)line, *end = at + n_bytes;
    while (at < end) {
        uint32_t point;
        size_t step = decode(at, &point);
        bool plain = step > 0 && !is_harmful(point);
        for (size_t left = step > 0 ? step : 1; left > 0; --left, ++at) {
            if (plain)
                fputc(*at, stderr);
            else
                fprintf(stderr, "\\x%02x", (unsigned)*at);
        }
    }
    fputc('\n', stderr);
}

typedef struct message_kind {
    const char *word;  /* "error: " */
    const char *color; /* escape sequence that switches its colour on */
} message_kind;

static void print_message(const message_kind *kind, const char *format, va_list arguments)
{
    char *text = NULL;
    const char *line;
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    /* On a terminal both streams mix: keep the order in which things happened. */
    errno = 0;
    note_out_result(fflush(stdout) == 0);
    cli_redraw("");
    line = text ? text : "out of memory";
    do {
        size_t n_bytes = strcspn(line, "\n");
        if (kind->word[0] && state.color)
            fprintf(stderr, "lors: %s%s\033[0m", kind->color, kind->word);
        else
            fprintf(stderr, "lors: %s", kind->word);
        print_line(line, n_bytes);
        line += n_bytes + (line[n_bytes] == '\n');
    } while (*line);
    free(text);
}

#define PRINT_MESSAGE(word, color) \
    do { \
        static const message_kind kind = {word, color}; \
        va_list arguments; \
        va_start(arguments, format); \
        print_message(&kind, format, arguments); \
        va_end(arguments); \
    } while (0)

void cli_error(const char *format, ...)
{
    PRINT_MESSAGE("error: ", "\033[1;31m");
}

void cli_warning(const char *format, ...)
{
    PRINT_MESSAGE("warning: ", "\033[1;33m");
}

void cli_note(const char *format, ...)
{
    PRINT_MESSAGE("", "");
}

void cli_plain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    cli_redraw("");
    vfprintf(stderr, format, arguments);
    va_end(arguments);
}

int cli_fail(lors_status status)
{
    const char *sentence = lors_last_error();
    cli_error("%s", sentence[0] ? sentence : lors_status_meaning(status));
    return lors_status_exit_code(status);
}

int cli_fail_usage(const char *command, const char *format, ...)
{
    PRINT_MESSAGE("error: ", "\033[1;31m");
    cli_note("'lors %s%s--help' says more", command, command[0] ? " " : "");
    return lors_status_exit_code(LORS_ERR_USAGE);
}

int cli_messages_finish(int exit_code)
{
    errno = 0;
    note_out_result(fflush(stdout) == 0);
    errno = 0;
    /* Some file systems report a full disk only when the file is closed. A closed stdout to which
     * nothing was written is nobody's loss, hence the check of what was noted before. */
    if (close(STDOUT_FILENO) != 0 && errno != EBADF)
        note_out_result(false);
    if (state.out_errno == 0)
        return exit_code;
    cli_error("standard output: %s; what was to be printed there is not complete",
              strerror(state.out_errno));
    return exit_code > 1 ? exit_code : lors_status_exit_code(LORS_ERR_IO);
}

char *cli_escape(const char *text, char *out)
{
    enum { CUT_AFTER = 200 };
    const unsigned char *in = (const unsigned char *)text;
    size_t used = 0;
    while (*in) {
        uint32_t point;
        size_t n_bytes = decode(in, &point);
        bool plain = n_bytes > 0 && !is_harmful(point);
        size_t step = n_bytes > 0 ? n_bytes : 1;
        if ((size_t)(in - (const unsigned char *)text) + step > CUT_AFTER) {
            memcpy(out + used, "...", 3);
            used += 3;
            break;
        }
        for (size_t i = 0; i < step; ++i, ++in) {
            if (plain)
                out[used++] = (char)*in;
            else
                used += (size_t)snprintf(out + used, 5, "\\x%02x", (unsigned)*in);
        }
    }
    out[used] = '\0';
    return out;
}

/* Three digits and a unit. 999.5 is already 1000 when printed with three digits. */
static void format_scaled(double value, const char *end, char out[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1000.0;
        ++unit;
    }
    if (unit == 0)
        snprintf(out, 32, "%.0f %s%s", value, units[unit], end);
    else
        snprintf(out, 32, "%.*f %s%s",
                 value < 9.995   ? 2
                 : value < 99.95 ? 1
                                 : 0,
                 value, units[unit], end);
}

char *cli_format_bytes(uint64_t n_bytes, char out[32])
{
    format_scaled((double)n_bytes, "", out);
    return out;
}

char *cli_format_rate(double bytes_per_second, char out[32])
{
    format_scaled(isfinite(bytes_per_second) ? bytes_per_second : 0.0, "/s", out);
    return out;
}
