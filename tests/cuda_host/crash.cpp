/* crash.cpp - last words: which operation ran, and whose memory was touched. */
#include "crash.h"

#include "memory.h"
#include "sanitizer.h"

#include <csignal>
#include <cstdio>
#include <cstring>

#if defined(STANDIN_ASAN) || defined(STANDIN_TSAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace standin
{

namespace
{

void tell_operation()
{
    const std::string &running = the_machine().running;
    if (running.empty()) {
        std::fputs("standin: no operation of a device ran: the host must not touch its memory\n",
                   stderr);
    } else {
        std::fprintf(stderr, "standin: %s ran\n", running.c_str());
    }
}

#if defined(STANDIN_ASAN) || defined(STANDIN_TSAN)

/* The sanitizers have said all else. */
void install()
{
    __sanitizer_set_death_callback(tell_operation);
}

#else

void on_fault(int number, siginfo_t *info, void *)
{
    std::fprintf(stderr, "standin: %s at %p, %s\n", strsignal(number), info->si_addr,
                 describe(info->si_addr).c_str());
    tell_operation();
    std::signal(number, SIG_DFL); /* the access is tried again, and the program dies of it */
}

void install()
{
    struct sigaction before, action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    if (sigaction(SIGSEGV, nullptr, &before) == 0 && before.sa_handler == SIG_DFL) {
        sigaction(SIGSEGV, &action, nullptr);
    }
}

#endif

} /* namespace */

void explain_crashes()
{
    install();
}

} /* namespace standin */
