/* options.c - read a command line by a command's table, and write its help from the same table. */
#include "cli/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/messages.h"

/* Every command has it; asked for, it wins over missing arguments. */
static const cli_option help_option = {"help", 'h', CLI_FLAG,         0, NULL, NULL,
                                       0,      0,   "print this help"};

typedef struct parser {
    const cli_command *command;
    char **argv;
    int argc, next;
    void *settings;
    cli_arguments *arguments;
    bool help;
} parser;

enum { GO_ON = -1, NEAREST_MAX = 64 };

/* Edit distance with swaps of neighbours, for words of less than NEAREST_MAX bytes. */
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][NEAREST_MAX + 1];
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    size_t n_a = strlen(a), n_b = strlen(b);
    for (size_t j = 0; j <= n_b; ++j)
        last[j] = before[j] = j;
    for (size_t i = 1; i <= n_a; ++i) {
        size_t *spare = before;
        row[0] = i;
        for (size_t j = 1; j <= n_b; ++j) {
            size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
            best = last[j] + 1 < best ? last[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
        before = last;
        last = row;
        row = spare;
    }
    return last[n_b];
}

const char *cli_nearest(const char *word, cli_candidate_fn candidate, const void *user)
{
    size_t n_bytes = strlen(word);
    size_t best = (n_bytes / 3 > 1 ? n_bytes / 3 : 1) + 1; /* a third of it may be wrong */
    const char *nearest = NULL, *name;
    if (n_bytes >= NEAREST_MAX)
        return NULL;
    for (size_t i = 0; (name = candidate(i, user)); ++i) {
        size_t found = strlen(name) < NEAREST_MAX ? distance(word, name) : best;
        if (found < best) {
            best = found;
            nearest = name;
        }
    }
    return nearest;
}

/* The option at `index`: the command's, the shared ones, --help, then NULL. */
static const cli_option *option_at(const cli_command *command, size_t index)
{
    if (index < command->n_options)
        return &command->options[index];
    index -= command->n_options;
    if (index < command->n_shared)
        return &command->shared[index];
    return index == command->n_shared ? &help_option : NULL;
}

static const char *option_name_at(size_t index, const void *user)
{
    const cli_option *option = option_at(user, index);
    return option ? option->name : NULL;
}

static const cli_option *find_long(const cli_command *command, const char *name, size_t n_bytes)
{
    const cli_option *option;
    for (size_t i = 0; (option = option_at(command, i)); ++i) {
        if (strlen(option->name) == n_bytes && memcmp(option->name, name, n_bytes) == 0)
            return option;
    }
    return NULL;
}

static const cli_option *find_short(const cli_command *command, char letter)
{
    const cli_option *option;
    for (size_t i = 0; (option = option_at(command, i)); ++i) {
        if (option->letter && option->letter == letter)
            return option;
    }
    return NULL;
}

/* --- Values. ---------------------------------------------------------------------------------- */

static bool parse_digits(const char **text, uint64_t *out)
{
    const char *digit = *text;
    uint64_t value = 0;
    for (; *digit >= '0' && *digit <= '9'; ++digit) {
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*digit - '0'), &value))
            return false;
    }
    if (digit == *text)
        return false;
    *text = digit;
    *out = value;
    return true;
}

static bool parse_number(const char *text, uint64_t *out)
{
    return parse_digits(&text, out) && *text == '\0';
}

static bool find_unit(const char *text, uint64_t *out)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {{"", 1},
                 {"k", 1000},
                 {"M", 1000000},
                 {"G", 1000000000},
                 {"T", 1000000000000},
                 {"Ki", (uint64_t)1 << 10},
                 {"Mi", (uint64_t)1 << 20},
                 {"Gi", (uint64_t)1 << 30},
                 {"Ti", (uint64_t)1 << 40}};
    size_t n_bytes = strlen(text);
    if (n_bytes > 0 && (text[n_bytes - 1] == 'B' || text[n_bytes - 1] == 'b'))
        --n_bytes;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; ++i) {
        if (strlen(units[i].name) == n_bytes && strncasecmp(units[i].name, text, n_bytes) == 0) {
            *out = units[i].bytes;
            return true;
        }
    }
    return false;
}

bool cli_parse_size(const char *text, uint64_t *out)
{
    enum { FRACTION_DIGITS = 6 }; /* so that fraction x 2^40 fits; the rest is below a millionth */
    uint64_t whole, fraction = 0, scale = 1, unit;
    if (!parse_digits(&text, &whole))
        return false;
    if (*text == '.') {
        const char *digit = ++text;
        for (; *digit >= '0' && *digit <= '9'; ++digit) {
            if (digit - text < FRACTION_DIGITS) {
                fraction = fraction * 10 + (uint64_t)(*digit - '0');
                scale *= 10;
            }
        }
        if (digit == text)
            return false;
        text = digit;
    }
    while (*text == ' ')
        ++text;
    return find_unit(text, &unit) && !__builtin_mul_overflow(whole, unit, out) &&
           !__builtin_add_overflow(*out, fraction * unit / scale, out);
}

/* The i-th word of "a|b|c", copied into `word`; false after the last. */
static bool choice_at(const char *choices, size_t index, char word[NEAREST_MAX])
{
    for (; index > 0; --index) {
        choices = strchr(choices, '|');
        if (!choices)
            return false;
        ++choices;
    }
    snprintf(word, NEAREST_MAX, "%.*s", (int)strcspn(choices, "|"), choices);
    return true;
}

static bool is_choice(const char *choices, const char *text)
{
    char word[NEAREST_MAX];
    for (size_t i = 0; choice_at(choices, i, word); ++i) {
        if (strcmp(word, text) == 0)
            return true;
    }
    return false;
}

/* What a value must be, in words. */
static void describe_value(const cli_option *option, char out[256])
{
    switch (option->kind) {
    case CLI_CHOICE: {
        char word[NEAREST_MAX], next[NEAREST_MAX];
        size_t used = 0;
        for (size_t i = 0; choice_at(option->choices, i, word); ++i) {
            const char *before = i == 0                                    ? ""
                                 : choice_at(option->choices, i + 1, next) ? ", "
                                                                           : " or ";
            used += (size_t)snprintf(out + used, 256 - used, "%s%s", before, word);
        }
        break;
    }
    case CLI_NUMBER:
        snprintf(out, 256, "a whole number from %" PRIu64 " to %" PRIu64, option->minimum,
                 option->maximum);
        break;
    case CLI_SIZE: snprintf(out, 256, "a size above 0 such as 1500M, 1.5G or 2GiB"); break;
    case CLI_FLAG:
    case CLI_TEXT: out[0] = '\0'; break; /* any text will do */
    }
}

static bool store_number(const cli_option *option, const char *text, void *field)
{
    cli_number *number = field;
    bool is_size = option->kind == CLI_SIZE;
    if (is_size ? !cli_parse_size(text, &number->value) : !parse_number(text, &number->value))
        return false;
    number->given = true;
    return is_size ? number->value > 0
                   : number->value >= option->minimum && number->value <= option->maximum;
}

static int fail_no_value(const parser *self, const cli_option *option)
{
    return cli_fail_usage(self->command->name, "--%s needs a value: --%s %s", option->name,
                          option->name, option->value);
}

static int store(parser *self, const cli_option *option, const char *text)
{
    char *field = (char *)self->settings + option->offset;
    char shown[CLI_ESCAPED_MAX], wanted[256];
    bool stored = text && text[0];
    if (option == &help_option) {
        self->help = true;
        return GO_ON;
    }
    switch (option->kind) {
    case CLI_FLAG: *(bool *)field = stored = true; break;
    case CLI_CHOICE:
    case CLI_TEXT:
        *(const char **)(void *)field = text;
        stored = stored && (option->kind == CLI_TEXT || is_choice(option->choices, text));
        break;
    case CLI_NUMBER:
    case CLI_SIZE: stored = stored && store_number(option, text, field); break;
    }
    if (stored)
        return GO_ON;
    if (!text[0])
        return fail_no_value(self, option);
    describe_value(option, wanted);
    return cli_fail_usage(self->command->name, "--%s %s: the value '%s' is not %s%s", option->name,
                          option->value, cli_escape(text, shown),
                          option->kind == CLI_CHOICE ? "one of " : "", wanted);
}

/* --- The command line. ------------------------------------------------------------------------ */

/* The value of an option: behind "=" or the letter, else the next word. */
static int take_value(parser *self, const cli_option *option, const char *attached)
{
    if (option->kind == CLI_FLAG)
        return store(self, option, NULL);
    if (attached)
        return store(self, option, attached);
    if (self->next == self->argc)
        return fail_no_value(self, option);
    return store(self, option, self->argv[self->next++]);
}

static int parse_long(parser *self, const char *word)
{
    const cli_command *command = self->command;
    size_t n_bytes = strcspn(word, "=");
    const cli_option *option = find_long(command, word, n_bytes);
    char name[CLI_ESCAPED_MAX], shown[CLI_ESCAPED_MAX];
    const char *nearest;
    if (option && option->kind == CLI_FLAG && word[n_bytes])
        return cli_fail_usage(command->name, "--%s takes no value", option->name);
    if (option)
        return take_value(self, option, word[n_bytes] ? word + n_bytes + 1 : NULL);
    snprintf(name, sizeof name, "%.*s", n_bytes < 200 ? (int)n_bytes : 200, word);
    nearest = cli_nearest(name, option_name_at, command);
    cli_escape(name, shown);
    if (nearest)
        return cli_fail_usage(command->name, "%s: there is no option --%s; did you mean --%s?",
                              command->name, shown, nearest);
    return cli_fail_usage(command->name, "%s: there is no option --%s", command->name, shown);
}

/* "-f", "-o OUT", "-oOUT", and flags in one word: "-qf". */
static int parse_short(parser *self, const char *letters)
{
    for (; *letters; ++letters) {
        const cli_option *option = find_short(self->command, *letters);
        char one[2] = {*letters, '\0'}, shown[CLI_ESCAPED_MAX];
        if (!option)
            return cli_fail_usage(self->command->name, "%s: there is no option -%s",
                                  self->command->name, cli_escape(one, shown));
        if (option->kind != CLI_FLAG)
            return take_value(self, option, letters[1] ? letters + 1 : NULL);
        store(self, option, NULL); /* a flag is always stored */
    }
    return GO_ON;
}

static int take_argument(parser *self, const char *word)
{
    char shown[CLI_ESCAPED_MAX];
    if (self->arguments->count == self->command->max_arguments)
        return cli_fail_usage(self->command->name, "%s: '%s' is one argument too many",
                              self->command->name, cli_escape(word, shown));
    self->arguments->items[self->arguments->count++] = word;
    return GO_ON;
}

static void print_help(const cli_command *command);

int cli_parse(const cli_command *command, int argc, char **argv, void *settings,
              cli_arguments *arguments)
{
    parser self = {command, argv, argc, 0, settings, arguments, false};
    bool only_arguments = false;
    int result = GO_ON;
    memset(arguments, 0, sizeof *arguments);
    while (self.next < argc && result == GO_ON) {
        const char *word = argv[self.next++];
        if (only_arguments || word[0] != '-' || word[1] == '\0')
            result = take_argument(&self, word);
        else if (strcmp(word, "--") == 0)
            only_arguments = true;
        else if (word[1] == '-')
            result = parse_long(&self, word + 2);
        else
            result = parse_short(&self, word + 1);
    }
    if (result != GO_ON)
        return result;
    if (self.help) {
        print_help(command);
        return 0;
    }
    if (arguments->count < command->min_arguments)
        return cli_fail_usage(command->name, "%s: %s", command->name, command->missing);
    return GO_ON;
}

/* --- Help. ------------------------------------------------------------------------------------ */

/* "-o, --output OUT" */
static int option_title(const cli_option *option, char out[64])
{
    char letter[8] = "    ";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    return snprintf(out, 64, "%s--%s%s%s", letter, option->name, option->value ? " " : "",
                    option->value ? option->value : "");
}

/* Lines joined by \n; all but the first begin with `indent` spaces. */
static void print_indented(const char *text, int indent)
{
    for (;;) {
        int n_bytes = (int)strcspn(text, "\n");
        cli_out("%.*s\n", n_bytes, text);
        text += n_bytes;
        if (!*text++)
            return;
        cli_out("%*s", indent, "");
    }
}

static void print_help(const cli_command *command)
{
    const cli_option *option;
    char title[64];
    int width = 0;
    cli_out("Example:\n  ");
    print_indented(command->example, 2);
    cli_out("\nUsage: lors %s %s\n\n%s\n\nOptions:\n", command->name, command->arguments,
            command->about);
    for (size_t i = 0; (option = option_at(command, i)); ++i) {
        int n_bytes = option_title(option, title);
        width = n_bytes > width ? n_bytes : width;
    }
    for (size_t i = 0; (option = option_at(command, i)); ++i) {
        option_title(option, title);
        cli_out("  %-*s  ", width, title);
        print_indented(option->help, width + 4);
    }
}
