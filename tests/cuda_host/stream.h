/* stream.h - queues of operations and who runs next: a random one of those that may.
 *
 * Private to the stand-in; needs the machine's lock.
 */
#ifndef LORS_STANDIN_STREAM_H
#define LORS_STANDIN_STREAM_H

#include "machine.h"

namespace standin
{

/* The stream behind a handle, the null stream of the current device for NULL; nullptr, with a
 * complaint, when there is no such stream. */
CUstream_st *find_stream(cudaStream_t handle);

void enqueue(CUstream_st &stream, const std::string &name, std::function<cudaError_t()> body,
             std::shared_ptr<moment> after = nullptr, std::shared_ptr<moment> marks = nullptr);

/* Runs one random operation of any stream that can run; false when there is none. */
bool run_one();

void run_until_empty(CUstream_st &stream);
void run_until_empty(device &whole);
void run_until(const moment &awaited);

void drop_pending(device &lost);
size_t pending_operations();

} /* namespace standin */

#endif
