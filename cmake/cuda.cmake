# Finds nvcc and compiles kernels with it, one command a file: nvcc reads none of the other
# compiler's options that way, and nothing else of CUDA is needed.
#
#   ULTRASR_CUDA           AUTO: kernels where nvcc is found; ON: an error where not; OFF: none
#   CMAKE_CUDA_COMPILER    the nvcc to use, else one in the PATH or in /usr/local/cuda/bin
#   ULTRASR_CUDA_ARCHS     compute capabilities to make code for; the newest also as PTX
#
# Sets  ULTRASR_CUDA_VERSION  ("none" without nvcc).
# Makes  ultrasr_cuda_sources(TARGET file.cu...)
#        ultrasr_cuda_part(TARGET file.cpp...)
set(ULTRASR_CUDA AUTO CACHE STRING "GPU kernels: AUTO, ON or OFF")
set_property(CACHE ULTRASR_CUDA PROPERTY STRINGS AUTO ON OFF)
set(ULTRASR_CUDA_ARCHS 75 80 86 89 90 100 120 CACHE STRING "Compute capabilities, ascending")
set(ULTRASR_CUDA_VERSION none)

if(ULTRASR_CUDA)
    if(CMAKE_CUDA_COMPILER)
        set(ULTRASR_NVCC "${CMAKE_CUDA_COMPILER}")
    else()
        find_program(ULTRASR_NVCC nvcc PATHS /usr/local/cuda/bin)
    endif()
    if(ULTRASR_NVCC)
        file(REAL_PATH "${ULTRASR_NVCC}" nvcc)
        get_filename_component(toolkit "${nvcc}" DIRECTORY)
        get_filename_component(toolkit "${toolkit}" DIRECTORY)
        find_library(ULTRASR_CUDART NAMES libcudart_static.a NO_DEFAULT_PATH
                     PATHS "${toolkit}" PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib
                                                     targets/sbsa-linux/lib)
        execute_process(COMMAND "${ULTRASR_NVCC}" --version OUTPUT_VARIABLE text ERROR_QUIET)
        if(text MATCHES "release ([0-9]+\\.[0-9]+)")
            set(nvcc_version "${CMAKE_MATCH_1}")
        endif()
    endif()
    if(NOT ULTRASR_NVCC)
        set(missing "nvcc (looked at CMAKE_CUDA_COMPILER, PATH and /usr/local/cuda/bin)")
    elseif(NOT ULTRASR_CUDART)
        set(missing "libcudart_static.a beside ${ULTRASR_NVCC}")
    elseif(NOT nvcc_version OR nvcc_version VERSION_LESS 12.8)
        set(missing "nvcc 12.8 or newer (C++20, sm_120); ${ULTRASR_NVCC} says ${nvcc_version}")
    else()
        set(ULTRASR_CUDA_VERSION "${nvcc_version}")
    endif()
    if(missing AND NOT ULTRASR_CUDA STREQUAL "AUTO")
        message(FATAL_ERROR "GPU kernels were asked for (ULTRASR_CUDA=${ULTRASR_CUDA}): "
                            "missing ${missing}")
    endif()
endif()
if(NOT ULTRASR_CUDA_VERSION STREQUAL "none")
    list(JOIN ULTRASR_CUDA_ARCHS " " text)
    message(STATUS "GPU kernels: nvcc ${ULTRASR_CUDA_VERSION} for sm_ ${text}")
elseif(missing)
    message(STATUS "GPU kernels: left out, missing ${missing}")
else()
    message(STATUS "GPU kernels: left out (ULTRASR_CUDA=${ULTRASR_CUDA})")
endif()

# The objects become part of a library; ULTRASR_CUDA is defined there as 1 or 0.
function(ultrasr_cuda_sources target)
    if(ULTRASR_CUDA_VERSION STREQUAL "none")
        target_compile_definitions(${target} PRIVATE ULTRASR_CUDA=0)
        return()
    endif()
    foreach(arch IN LISTS ULTRASR_CUDA_ARCHS)
        list(APPEND codes -gencode "arch=compute_${arch},code=sm_${arch}")
        set(newest ${arch})
    endforeach()
    list(APPEND codes -gencode "arch=compute_${newest},code=compute_${newest}")
    foreach(source IN LISTS ARGN)
        set(object "${CMAKE_CURRENT_BINARY_DIR}/cuda/${source}.o")
        get_filename_component(folder "${object}" DIRECTORY)
        file(MAKE_DIRECTORY "${folder}")
        # As elsewhere: no contraction, IEEE division and roots, no fast mathematics
        add_custom_command(
            OUTPUT "${object}"
            COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} "${ULTRASR_NVCC}" -ccbin "${CMAKE_CXX_COMPILER}"
                    -std=c++20 -O3 --fmad=false ${codes} -Werror all-warnings
                    -Xcompiler=-Wall,-Wextra,-ffp-contract=off,-fPIC
                    "-I${PROJECT_SOURCE_DIR}" -MD -MT "${object}" -MF "${object}.d"
                    -c "${PROJECT_SOURCE_DIR}/${source}" -o "${object}"
            DEPENDS "${PROJECT_SOURCE_DIR}/${source}" DEPFILE "${object}.d"
            COMMENT "Compiling kernels ${source}" VERBATIM)
        set_source_files_properties("${object}" PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
        target_sources(${target} PRIVATE "${object}")
    endforeach()
    target_compile_definitions(${target} PRIVATE ULTRASR_CUDA=1)
    # Static: a machine without a driver runs the program too, and nothing is loaded at its start
    target_link_libraries(${target} PRIVATE "${ULTRASR_CUDART}" Threads::Threads ${CMAKE_DL_LIBS} rt)
endfunction()

# What calls LibTorch's CUDA part, as lib/lib<TARGET>.so: programs load it after that part, when a GPU
# is asked for, and link nothing of CUDA themselves. No such target where ULTRASR_CUDA is OFF or a
# part is missing: the CUDA runtime's headers (they come with the wheel) or LibTorch's CUDA part.
function(ultrasr_cuda_part target)
    get_filename_component(packages "${LibTorch_INCLUDE_DIR}" DIRECTORY)
    get_filename_component(packages "${packages}" DIRECTORY)
    get_filename_component(libraries "${LibTorch_CPU_LIBRARY}" DIRECTORY)
    find_path(ULTRASR_CUDA_HEADERS cuda_runtime_api.h NO_DEFAULT_PATH
              HINTS "${packages}/nvidia/cu13/include" "${toolkit}/include" /usr/local/cuda/include)
    find_library(LibTorch_CUDA_LIBRARY torch_cuda HINTS "${libraries}" NO_DEFAULT_PATH)
    find_library(LibTorch_C10_CUDA_LIBRARY c10_cuda HINTS "${libraries}" NO_DEFAULT_PATH)
    mark_as_advanced(ULTRASR_CUDA_HEADERS LibTorch_CUDA_LIBRARY LibTorch_C10_CUDA_LIBRARY)
    if(NOT ULTRASR_CUDA OR NOT ULTRASR_CUDA_HEADERS OR NOT LibTorch_CUDA_LIBRARY OR
       NOT LibTorch_C10_CUDA_LIBRARY)
        message(STATUS "CUDA graphs: left out")
        return()
    endif()
    add_library(${target} MODULE ${ARGN})
    set_target_properties(${target} PROPERTIES
        LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib"
        CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
    target_include_directories(${target} SYSTEM PRIVATE "${ULTRASR_CUDA_HEADERS}")
    # Its own symbols have to be there; what LibTorch's CUDA part needs comes with a whole wheel
    target_link_libraries(${target} PRIVATE libtorch::cpu "${LibTorch_CUDA_LIBRARY}"
        "${LibTorch_C10_CUDA_LIBRARY}" ultrasr_flags)
    target_link_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wl,--no-undefined>
        -Wl,--unresolved-symbols=ignore-in-shared-libs)
endfunction()
