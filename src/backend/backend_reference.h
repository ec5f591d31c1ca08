/* backend_reference.h - a backend to check another by: the CPU's operations, but low-rank parts
 * come from the device that is checked, and are judged against the singular value decomposition.
 *
 * What it computes must be, bit for bit, what the device's own run computed: all other operations
 * promise the same bits everywhere, and a low-rank part does not depend on the batch it is in.
 */
#ifndef LORS_BACKEND_BACKEND_REFERENCE_H
#define LORS_BACKEND_BACKEND_REFERENCE_H

#include "backend/backend_ops.h"

/* Its `open` is not for use: lors_reference_open is. */
const lors_backend_ops *lors_reference_ops(void);

/* `device` is borrowed: it must outlive the reference. Close with lors_reference_ops()->close. */
lors_status lors_reference_open(const lors_backend_ops *ops, lors_backend *device,
                                lors_backend **out);

/* The certificates it gives hold as bound_ratio the largest of these, each over what is allowed:
 *   norm(x - L) - norm(x - R)   over 1e-6 norm(x - R) + 4 * 2^-24 norm(x)
 *   norm(L - R)                 over 1e-5 norm(x), where the gap at the cut is 1e-2 or more
 *   |s - s of R|                over 1e-5 s_1, for the first, last and next singular value
 *   norm(V'V - I)               over 1e-5
 * with R the reference's best approximation of the same rank. */

#endif
