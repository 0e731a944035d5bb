/* Degrades GT patches for hosts that speak C (Python's ctypes, Julia, C# ...): on the CPU, the same
   bytes as ultrasr-degrade's steps make. No exception leaves these functions. */
#pragma once
#include <stdint.h> /* of C, so that a C compiler reads this too */

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ULTRASR_C_API __attribute__((visibility("default")))
#else
#define ULTRASR_C_API
#endif

/* What functions return: 0, or whose fault it was (the exit codes of the programs). */
enum {
    ultrasr_done = 0,
    ultrasr_internal = 1, /* ours: a bug, or no memory left */
    ultrasr_usage = 2,    /* an unknown name, a value out of range */
    ultrasr_input = 3,    /* a preset file that cannot be used */
    ultrasr_device = 4,
    ultrasr_storage = 5
};

/* Presets, levels and seed, ready to run. Never changed: one may serve several threads at once. */
typedef struct ultrasr_degrader ultrasr_degrader;

/* All strings UTF-8, ended by 0, copied. */
typedef struct {
    const char* preset; /* name, .json or .yml; or one a level, with commas between */
    const int* scales;  /* one a level, 1 to 63, from mild to severe */
    int levels;         /* at least 1 */
    const char* couple; /* stage1, comonotone, params, independent, cascade; NULL: stage1 */
    uint64_t seed;
    const char* tier; /* exact or fast; NULL: exact */
    int threads;      /* that a batch is spread over; 0: as many as the machine has */
} ultrasr_degrade_options;

/* Makes a degrader; *degrader is set when 0 is returned, else NULL. */
ULTRASR_C_API int ultrasr_degrade_create(const ultrasr_degrade_options* options,
                                         ultrasr_degrader** degrader);

/* NULL is allowed. */
ULTRASR_C_API void ultrasr_degrade_destroy(ultrasr_degrader* degrader);

/* Height and width of a level's LR for a GT patch of height x width, at most 2^28 pixels. */
ULTRASR_C_API int ultrasr_degrade_lr_size(const ultrasr_degrader* degrader, int level, int height,
                                          int width, int* lr_height, int* lr_width);

/* Degrades `count` patches of one size. GT is neither cropped nor flipped here.

   gt       count x height x width x 3 bytes, RGB, without gaps
   ids      one a patch: 48 bits that name its source. The same seed, id and variant draw the same
   variant  0 to 65535: epoch, crop or try
   lr       one a level, NULL where it is not wanted:
            _f32  count x 3 x lr_height x lr_width, [0,1], as networks take them
            _u8   count x lr_height x lr_width x 3, rounded half to even, as files hold them
   When anything but 0 is returned, what lies in lr is not defined. */
ULTRASR_C_API int ultrasr_degrade_batch_f32(const ultrasr_degrader* degrader, const uint8_t* gt,
                                            int count, int height, int width, const uint64_t* ids,
                                            uint32_t variant, float* const* lr);
ULTRASR_C_API int ultrasr_degrade_batch_u8(const ultrasr_degrader* degrader, const uint8_t* gt,
                                           int count, int height, int width, const uint64_t* ids,
                                           uint32_t variant, uint8_t* const* lr);

/* One sentence about the last failure in the calling thread: what, where, what to do. "" before the
   first one. Valid until that thread's next failure. */
ULTRASR_C_API const char* ultrasr_degrade_error(void);

#ifdef __cplusplus
}
#endif
