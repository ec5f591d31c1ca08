/* shared_memory.h - the __shared__ arrays of the program: where they are, and poison for them.
 *
 * Private to the stand-in; needs the machine's lock.
 */
#ifndef LORS_STANDIN_SHARED_MEMORY_H
#define LORS_STANDIN_SHARED_MEMORY_H

#include <cstddef>
#include <string>
#include <vector>

namespace standin
{

struct shared_variable {
    char *address;
    size_t size;
    unsigned module;
    std::string function; /* mangled, without its _Z; a plain name of C with its length before */
};

struct shared_memory {
    std::vector<const shared_variable *> variables; /* what the kernel may use */
    size_t own_bytes = 0;                           /* of the variables in the kernel itself */
};

/* Looked up once for every kernel. A program without its symbol table has none. */
const shared_memory &shared_memory_of(const void *kernel);

/* As undefined as it is when a block starts. False where the thread sanitizer cannot be told: what
 * was accessed before is then ordered before what comes. */
bool spoil(const shared_memory &memory);

} /* namespace standin */

#endif
