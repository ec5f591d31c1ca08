/* block.h - runs the threads of one block: fibers, barriers, warps.
 *
 * Private to the stand-in; needs the machine's lock.
 */
#ifndef LORS_STANDIN_BLOCK_H
#define LORS_STANDIN_BLOCK_H

#include "machine.h"

namespace standin
{

constexpr unsigned block_limit = 1024;

/* Before the first block of a launch, in the context of the stream. */
void begin_launch(dim3 grid, dim3 block);

/* Runs one block, threads in a random order; an error, after a complaint, where they can never all
 * get on. */
cudaError_t run_block(uint3 index, const std::function<void()> &body);

/* The next block knows of all that the blocks before it did. */
void order_blocks();

/* After the last block. */
void end_launch();

} /* namespace standin */

#endif
