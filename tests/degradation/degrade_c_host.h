/* A host in C for degrade_c_test.cpp. */
#pragma once
#include "degradation/degrade_c.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int height, width;
    float* floats;  /* count x 3 x height x width */
    uint8_t* bytes; /* count x height x width x 3 */
} host_result;

/* Makes a degrader, asks for the sizes, runs both kinds of batch with variant 3, and lets go.
   results  one a level, all 0 before; to be freed by host_free whatever comes back
   returns  the first fault, or ultrasr_done */
int host_run(const ultrasr_degrade_options* options, const uint8_t* gt, int count, int height,
             int width, const uint64_t* ids, host_result* results);
void host_free(host_result* results, int levels);

#ifdef __cplusplus
}
#endif
