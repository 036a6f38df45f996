# SPDX-License-Identifier: Apache-2.0

# Headers that most sources read, read once: a third of the time of a build. A target takes
# one of these sets; each source still includes what it uses (CMAKE_DISABLE_PRECOMPILE_HEADERS
# shows whether it does, as the debug preset has it).
function(maglane_precompile set)
  cmake_parse_arguments(ARG "" "" "HEADERS;LINK" ${ARGN})
  file(WRITE ${CMAKE_BINARY_DIR}/precompiled/${set}.cpp "")
  add_library(maglane_precompiled_${set} OBJECT ${CMAKE_BINARY_DIR}/precompiled/${set}.cpp)
  target_link_libraries(maglane_precompiled_${set} PRIVATE ${ARG_LINK} maglane_warnings)
  target_precompile_headers(maglane_precompiled_${set} PRIVATE
    <algorithm> <chrono> <functional> <map> <memory> <optional> <set> <span> <string> <string_view>
    <unordered_map> <utility> <variant> <vector> <fmt/format.h> ${ARG_HEADERS})
endfunction()
maglane_precompile(library)
maglane_precompile(test HEADERS <gtest/gtest.h> <gmock/gmock.h> LINK GTest::gtest GTest::gmock)
target_compile_options(maglane_precompiled_test PRIVATE ${MAGLANE_TEST_FLAGS})
maglane_precompile(command HEADERS <CLI/CLI.hpp> LINK CLI11::CLI11)

# maglane_use_precompiled(NAME SET): not for a target with C sources.
function(maglane_use_precompiled name set)
  get_target_property(sources ${name} SOURCES)
  if(NOT sources MATCHES "\\.c(;|$)")
    target_precompile_headers(${name} REUSE_FROM maglane_precompiled_${set})
  endif()
endfunction()

# maglane_library(NAME SOURCES... LINK targets... [PRECOMPILED set]): a static library of one layer; a
# part of tests alone with the set `test`.
function(maglane_library name)
  cmake_parse_arguments(ARG "" "PRECOMPILED" "SOURCES;LINK" ${ARGN})
  if(NOT ARG_PRECOMPILED)
    set(ARG_PRECOMPILED library)
  endif()
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_LINK} PRIVATE maglane_warnings)
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  maglane_use_precompiled(${name} ${ARG_PRECOMPILED})
  if(ARG_PRECOMPILED STREQUAL test)
    target_compile_options(${name} PRIVATE ${MAGLANE_TEST_FLAGS})
  endif()
endfunction()

# maglane_test(NAME LABEL SOURCES... LINK targets...): a GoogleTest binary, run by ctest
# under LABEL (unit: no root needed; kernel: root and BPF; by add_test, script: no program
# of ours that a sanitizer would change). `memory` beside it: of the code that handles packets'
# bytes, shared memory and what strangers send; `tools/test` runs these with sanitizers too,
# `tools/test --all` every unit test. Its report is reports/NAME.xml of the build directory.
function(maglane_test name label)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gtest GTest::gmock GTest::gtest_main maglane_warnings)
  target_compile_options(${name} PRIVATE ${MAGLANE_TEST_FLAGS})
  maglane_use_precompiled(${name} test)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS "${label}" TIMEOUT 900
    ENVIRONMENT "GTEST_OUTPUT=xml:${CMAKE_BINARY_DIR}/reports/${name}.xml")
  if(label STREQUAL kernel)  # the verifier takes its time: these first, so that no long one comes last
    set_tests_properties(${name} PROPERTIES COST 100)
  endif()
endfunction()

# maglane_fuzzer(NAME SOURCES... LINK targets... CORPUS dir): with MAGLANE_FUZZ a libFuzzer
# binary, run by ctest (label fuzz) for a few seconds over its corpus.
function(maglane_fuzzer name)
  cmake_parse_arguments(ARG "" "CORPUS" "SOURCES;LINK" ${ARGN})
  if(NOT MAGLANE_FUZZ)
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} maglane_warnings)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/corpus/${name})
  add_test(NAME ${name} COMMAND ${name} -max_total_time=10 -timeout=10 -rss_limit_mb=2048
    -print_final_stats=1 ${CMAKE_BINARY_DIR}/corpus/${name} ${ARG_CORPUS})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT 120)
endfunction()
