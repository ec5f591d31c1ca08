/* shared_memory.cpp - the __shared__ arrays of the program, from its symbol tables.
 *
 * __shared__ puts a tag into the names of the static variables it makes:
 * _ZZ<function>E<variable>B14standin_shared.
 */
#include "shared_memory.h"

#include "machine.h"
#include "sanitizer.h"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <link.h>
#include <map>
#include <memory>
#include <set>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace standin
{

namespace
{

struct symbols {
    std::vector<std::unique_ptr<shared_variable>> variables;
    std::map<const void *, std::string> functions; /* mangled names without their _Z */
    std::map<const void *, shared_memory> kernels;
    std::set<std::string> kernel_names;
    std::set<std::string> read; /* files */
    /* The module whose variables the thread sanitizer can forget. */
    bool can_forget = false;
    unsigned forgettable = 0;
};

symbols &the_symbols()
{
    static symbols *const only = new symbols;
    return *only;
}

/* The part of the names that both a function and its variables have. */
std::string function_key(const char *name)
{
    if (!std::strncmp(name, "_Z", 2)) {
        return name + 2;
    }
    return std::to_string(std::strlen(name)) + name;
}

void add_symbol(const char *name, char *address, size_t size, unsigned type)
{
    symbols &all = the_symbols();
    unsigned module = static_cast<unsigned>(all.read.size());
    if (type == STT_FUNC) {
        all.functions.emplace(address, function_key(name));
    } else if (type == STT_OBJECT && !std::strncmp(name, "_ZZ", 3) &&
               std::strstr(name, "B14standin_shared")) {
        all.variables.push_back(
            std::make_unique<shared_variable>(shared_variable{address, size, module, name + 3}));
    }
}

/* A file's symbol table, if it lies wholly inside of it. */
void read_symbols(const char *file, size_t size, char *loaded_at)
{
    const auto *header = reinterpret_cast<const ElfW(Ehdr) *>(file);
    if (size < sizeof(*header) || std::memcmp(header->e_ident, ELFMAG, SELFMAG) ||
        header->e_shoff > size ||
        size_t{header->e_shnum} * sizeof(ElfW(Shdr)) > size - header->e_shoff) {
        return;
    }
    const auto *sections = reinterpret_cast<const ElfW(Shdr) *>(file + header->e_shoff);
    for (unsigned i = 0; i < header->e_shnum; i++) {
        const ElfW(Shdr) &table = sections[i];
        if (table.sh_type != SHT_SYMTAB || table.sh_link >= header->e_shnum) {
            continue;
        }
        const ElfW(Shdr) &names = sections[table.sh_link];
        const auto *entries = reinterpret_cast<const ElfW(Sym) *>(file + table.sh_offset);
        for (size_t k = 0; k < table.sh_size / sizeof(*entries); k++) {
            if (entries[k].st_shndx != SHN_UNDEF && entries[k].st_name < names.sh_size) {
                add_symbol(file + names.sh_offset + entries[k].st_name,
                           loaded_at + entries[k].st_value, entries[k].st_size,
                           ELF64_ST_TYPE(entries[k].st_info));
            }
        }
    }
}

int read_module(struct dl_phdr_info *info, size_t, void *)
{
    const char *path = info->dlpi_name && *info->dlpi_name ? info->dlpi_name : "/proc/self/exe";
    if (!the_symbols().read.insert(path).second) {
        return 0;
    }
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (descriptor < 0) {
        return 0;
    }
    if (fstat(descriptor, &status) == 0 && status.st_size > 0) {
        size_t size = static_cast<size_t>(status.st_size);
        void *file = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (file != MAP_FAILED) {
            read_symbols(static_cast<const char *>(file), size,
                         reinterpret_cast<char *>(info->dlpi_addr));
            munmap(file, size);
        }
    }
    close(descriptor);
    return 0;
}

/* Chooses the first module that has shared variables. */
void choose_forgettable()
{
    symbols &all = the_symbols();
    if (all.variables.empty() || all.can_forget) {
        return;
    }
    all.can_forget = true;
    all.forgettable = all.variables.front()->module;
    char *begin = all.variables.front()->address, *end = begin;
    for (const auto &each : all.variables) {
        if (each->module == all.forgettable) {
            begin = std::min(begin, each->address);
            end = std::max(end, each->address + each->size);
        }
    }
    sanitizer::start_forgetting(begin, static_cast<size_t>(end - begin));
}

bool begins_with(const std::string &text, const std::string &start)
{
    return text.compare(0, start.size(), start) == 0;
}

/* Variables of the kernel itself, and those of functions that are not known as kernels. */
shared_memory look_up(const std::string &kernel)
{
    shared_memory found;
    for (const auto &variable : the_symbols().variables) {
        bool own = begins_with(variable->function, kernel + "E");
        bool of_another = false;
        for (const std::string &other : the_symbols().kernel_names) {
            of_another |= other != kernel && begins_with(variable->function, other + "E");
        }
        if (own || !of_another) {
            found.variables.push_back(variable.get());
        }
        found.own_bytes += own ? variable->size : 0;
    }
    return found;
}

} /* namespace */

const shared_memory &shared_memory_of(const void *kernel)
{
    symbols &all = the_symbols();
    auto known = all.kernels.find(kernel);
    if (known == all.kernels.end()) {
        dl_iterate_phdr(read_module, nullptr);
        choose_forgettable();
        std::string name = all.functions.count(kernel) ? all.functions[kernel] : "?";
        all.kernel_names.insert(name);
        known = all.kernels.emplace(kernel, look_up(name)).first;
    }
    return known->second;
}

bool spoil(const shared_memory &memory)
{
    bool forgotten = true;
    for (const shared_variable *each : memory.variables) {
        std::memset(each->address, the_machine().poison, each->size);
        if (each->module == the_symbols().forgettable) {
            sanitizer::forget(each->address, each->size);
        } else {
            forgotten = false;
        }
    }
    return forgotten;
}

} /* namespace standin */
