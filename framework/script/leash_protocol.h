// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdint.h>

/* What stead-leash writes to descriptor 3. One record counts, the first; of a supervised program two: 'x',
 * 'u' or 'p', then its end. */
struct stead_leash_record {
    /* 'x' exec failed (errno), 'u' no such user (errno), 'e' exit status, 's' signal, 'k' killed on request, 'p' pid */
    char kind;
    char pad[3];
    int32_t value;
};

/* How the leash is called: stead-leash MODE PROGRAM [ARGUMENT…]; MODE is a set of these letters, or "-". */
#define STEAD_LEASH_KILL_ON_FAILURE 'k' /* an end other than exit 0 ends every descendant */
#define STEAD_LEASH_KILL_ALWAYS 'a'     /* so does exit 0 */
#define STEAD_LEASH_DAEMON 'd'          /* leave the program running, report its pid */

/* A supervised program: stead-leash s SIGNAL MILLISECONDS USER PROGRAM [ARGUMENT…]; USER "" keeps ours. SIGTERM, or the
 * death of the thread that started the leash, gives it SIGNAL, and after MILLISECONDS the end; SIGUSR1 ends it at once.
 * In every case nothing that it started is left when the leash exits. */
#define STEAD_LEASH_SUPERVISE 's'
#define STEAD_LEASH_SUPERVISE_WORDS 3
