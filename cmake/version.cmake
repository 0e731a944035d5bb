# Writes version.h (tool, commit, libraries); run at every build, touches the file only on change.
#   cmake -DSOURCE= -DOUT= -DVERSION= -DLIBTORCH= -DOPENCV= -DCUDA= -P version.cmake
execute_process(COMMAND git -C "${SOURCE}" describe --always --dirty --abbrev=12
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
                RESULT_VARIABLE failed)
if(failed)
    set(commit "unknown")
endif()
set(text "// Written by cmake/version.cmake.
#pragma once
namespace ultrasr {
inline constexpr char version_number[] = \"${VERSION}\";
inline constexpr char version_commit[] = \"${commit}\";
inline constexpr char version_text[] =
    \"ultrasr ${VERSION} (commit ${commit}), LibTorch ${LIBTORCH}, OpenCV ${OPENCV}, CUDA ${CUDA}\";
}  // namespace ultrasr
")
set(old "")
if(EXISTS "${OUT}")
    file(READ "${OUT}" old)
endif()
if(NOT old STREQUAL text)
    file(WRITE "${OUT}" "${text}")
endif()
