/* crash.h - last words: which operation ran, and whose memory was touched.
 *
 * Private to the stand-in.
 */
#ifndef LORS_STANDIN_CRASH_H
#define LORS_STANDIN_CRASH_H

namespace standin
{

/* Leaves handlers alone that the program has installed before. */
void explain_crashes();

} /* namespace standin */

#endif
