# Finds the C++ part of the PyPI wheel `torch`, without its own TorchConfig.cmake (which demands a
# CUDA toolkit even for CPU programs).
#
#   LIBTORCH_ROOT   folder with include/ and lib/ (…/site-packages/torch); setup.sh sets it
#
# Makes  libtorch::cpu  (torch_cpu and c10). The CUDA libraries are not linked: a program loads
# libtorch_cuda.so at run time when a CUDA device is asked for.
set(LIBTORCH_ROOT "" CACHE PATH "The wheel's torch folder (include/, lib/)")
file(GLOB _libtorch_candidates
     "${PROJECT_SOURCE_DIR}/.deps/python/lib/python3*/site-packages/torch")

find_path(LibTorch_INCLUDE_DIR ATen/ATen.h
          HINTS "${LIBTORCH_ROOT}" ${_libtorch_candidates} PATH_SUFFIXES include NO_DEFAULT_PATH)
find_library(LibTorch_CPU_LIBRARY torch_cpu
             HINTS "${LIBTORCH_ROOT}" ${_libtorch_candidates} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10
             HINTS "${LIBTORCH_ROOT}" ${_libtorch_candidates} PATH_SUFFIXES lib NO_DEFAULT_PATH)

set(LibTorch_VERSION "")
if(LibTorch_INCLUDE_DIR)
    file(STRINGS "${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h" _libtorch_lines
         REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
    string(REGEX REPLACE "[^0-9;]" "" _libtorch_lines "${_libtorch_lines}")
    string(REPLACE ";" "." LibTorch_VERSION "${_libtorch_lines}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
    REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
    VERSION_VAR LibTorch_VERSION
    REASON_FAILURE_MESSAGE "run ./setup.sh, or give -DLIBTORCH_ROOT=.../site-packages/torch")

if(LibTorch_FOUND AND NOT TARGET libtorch::cpu)
    add_library(libtorch::c10 SHARED IMPORTED)
    set_target_properties(libtorch::c10 PROPERTIES IMPORTED_LOCATION "${LibTorch_C10_LIBRARY}")
    add_library(libtorch::cpu SHARED IMPORTED)
    set_target_properties(libtorch::cpu PROPERTIES
        IMPORTED_LOCATION "${LibTorch_CPU_LIBRARY}"
        INTERFACE_LINK_LIBRARIES libtorch::c10
        INTERFACE_COMPILE_DEFINITIONS FMT_HEADER_ONLY  # the wheel carries headers of its own fmt
        INTERFACE_INCLUDE_DIRECTORIES
            "${LibTorch_INCLUDE_DIR};${LibTorch_INCLUDE_DIR}/torch/csrc/api/include"
        INTERFACE_SYSTEM_INCLUDE_DIRECTORIES
            "${LibTorch_INCLUDE_DIR};${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
endif()
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY)
