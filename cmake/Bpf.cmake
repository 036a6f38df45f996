# SPDX-License-Identifier: Apache-2.0
find_program(CLANG clang REQUIRED)
find_program(BPFTOOL bpftool PATHS /usr/sbin REQUIRED)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(BPF_ARCH arm64)
else()
  set(BPF_ARCH x86)
endif()
execute_process(COMMAND gcc -print-multiarch OUTPUT_VARIABLE MULTIARCH OUTPUT_STRIP_TRAILING_WHITESPACE)

# maglane_bpf_object(NAME SOURCES...): compiles each source for BPF, links them into
# NAME.bpf.o and generates its libbpf skeleton NAME.skel.h; target NAME_skel carries the
# include directory of the header. Target property BPF_OBJECT is the object's path.
function(maglane_bpf_object name)
  set(objects)
  foreach(source ${ARGN})
    cmake_path(GET source STEM stem)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.${stem}.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${CLANG} -target bpf -mcpu=v3 -D__TARGET_ARCH_${BPF_ARCH} -O2 -g -std=gnu17 -Wall -Wextra -Werror
        -Wno-unused-function -Wno-unused-parameter -Wno-missing-field-initializers
        -I${CMAKE_SOURCE_DIR} -isystem /usr/include/${MULTIARCH}
        -MD -MT ${object} -MF ${object}.d
        -c ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d
      COMMENT "BPF ${source}" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  set(linked ${CMAKE_CURRENT_BINARY_DIR}/${name}.bpf.o)
  add_custom_command(OUTPUT ${linked}
    COMMAND ${BPFTOOL} gen object ${linked} ${objects}
    DEPENDS ${objects} COMMENT "BPF link ${name}" VERBATIM)
  set(skeleton ${CMAKE_CURRENT_BINARY_DIR}/skel/${name}.skel.h)
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/skel)
  add_custom_command(OUTPUT ${skeleton}
    COMMAND sh -c "${BPFTOOL} gen skeleton ${linked} name ${name}_bpf > ${skeleton}.tmp && mv ${skeleton}.tmp ${skeleton}"
    DEPENDS ${linked} COMMENT "BPF skeleton ${name}" VERBATIM)
  add_custom_target(${name}_skel_files ALL DEPENDS ${skeleton})
  add_library(${name}_skel INTERFACE)
  add_dependencies(${name}_skel ${name}_skel_files)
  target_include_directories(${name}_skel SYSTEM INTERFACE ${CMAKE_CURRENT_BINARY_DIR}/skel)
  target_link_libraries(${name}_skel INTERFACE PkgConfig::LIBBPF)
  set_target_properties(${name}_skel PROPERTIES BPF_OBJECT ${linked})
endfunction()
