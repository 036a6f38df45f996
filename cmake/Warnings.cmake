# SPDX-License-Identifier: Apache-2.0
# maglane_warnings: what every target of ours is compiled with.
add_library(maglane_warnings INTERFACE)
target_compile_options(maglane_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wno-missing-field-initializers
  $<$<BOOL:${MAGLANE_WERROR}>:-Werror>
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>  # for ccache
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)  # what is true of a header is not of a unity build's sources
target_include_directories(maglane_warnings INTERFACE ${CMAKE_SOURCE_DIR})
# The same definitions everywhere, as precompiled headers want it.
target_link_libraries(maglane_warnings INTERFACE fmt::fmt spdlog::spdlog)

if(MAGLANE_SANITIZE)
  add_compile_options(-fsanitize=${MAGLANE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${MAGLANE_SANITIZE})
endif()
if(MAGLANE_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "MAGLANE_FUZZ needs clang: use `cmake --preset fuzz`")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
