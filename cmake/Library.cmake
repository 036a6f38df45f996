# SPDX-License-Identifier: Apache-2.0

# maglane_library(NAME SOURCES... LINK targets...): a static library of one layer.
function(maglane_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_LINK} PRIVATE maglane_warnings)
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
endfunction()

# maglane_test(NAME LABEL SOURCES... LINK targets...): a GoogleTest binary, run by ctest
# under LABEL (unit: no root needed; kernel: root and BPF; by add_test, script: no program
# of ours that a sanitizer would change). `memory` beside it: of the code that handles packets'
# bytes, shared memory and what strangers send; `tools/test` runs these with sanitizers too,
# `tools/test --all` every unit test.
function(maglane_test name label)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gtest GTest::gmock GTest::gtest_main maglane_warnings)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS "${label}" TIMEOUT 300)
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
