// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdint.h>

/* What stead-leash writes to descriptor 3, at most one record that counts: the first. */
struct stead_leash_record {
    char kind; /* 'x' exec failed (errno), 'e' exit status, 's' signal, 'k' killed on request, 'p' daemon's pid */
    char pad[3];
    int32_t value;
};

/* How the leash is called: stead-leash MODE PROGRAM [ARGUMENT…]; MODE is a set of these letters, or "-". */
#define STEAD_LEASH_KILL_ON_FAILURE 'k' /* an end other than exit 0 ends every descendant */
#define STEAD_LEASH_DAEMON 'd'          /* leave the program running, report its pid */
