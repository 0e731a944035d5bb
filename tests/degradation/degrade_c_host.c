/* What a host in C does: compiled as C, so that the header stays one. */
#include "tests/degradation/degrade_c_host.h"

#include <stdlib.h>

int host_run(const ultrasr_degrade_options* options, const uint8_t* gt, int count, int height,
             int width, const uint64_t* ids, host_result* results) {
    ultrasr_degrader* degrader = NULL;
    float** floats = calloc((size_t)options->levels, sizeof *floats);
    uint8_t** bytes = calloc((size_t)options->levels, sizeof *bytes);
    int fault = ultrasr_degrade_create(options, &degrader);
    int level;
    for (level = 0; level < options->levels && fault == ultrasr_done; ++level) {
        host_result* r = &results[level];
        fault = ultrasr_degrade_lr_size(degrader, level, height, width, &r->height, &r->width);
        if (fault == ultrasr_done) {
            const size_t values = (size_t)count * 3 * (size_t)r->height * (size_t)r->width;
            floats[level] = r->floats = malloc(values * sizeof(float));
            bytes[level] = r->bytes = malloc(values);
        }
    }
    if (fault == ultrasr_done) {
        fault = ultrasr_degrade_batch_f32(degrader, gt, count, height, width, ids, 3, floats);
    }
    if (fault == ultrasr_done) {
        fault = ultrasr_degrade_batch_u8(degrader, gt, count, height, width, ids, 3, bytes);
    }
    ultrasr_degrade_destroy(degrader);
    free(floats);
    free(bytes);
    return fault;
}

void host_free(host_result* results, int levels) {
    int level;
    for (level = 0; level < levels; ++level) {
        free(results[level].floats);
        free(results[level].bytes);
    }
}
