# SPDX-License-Identifier: Apache-2.0
# How everything in freshet is compiled, and the four functions the folders use.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

option(FRESHET_NATIVE "Compile for the processor of this machine (-march=native)" ON)
option(FRESHET_WERROR "Warnings are errors" ON)
option(FRESHET_FUZZ "Build the libFuzzer targets (needs clang++)" OFF)
set(FRESHET_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")

# Options structs are written with designated initialisers that leave out what keeps its default.
add_compile_options(-Wall -Wextra -Wno-missing-field-initializers -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # With -O3 -march=native g++ 12 sees overflows in fmt's headers that cannot happen.
  add_compile_options(-Wno-stringop-overflow)
endif()
if(FRESHET_WERROR)
  add_compile_options(-Werror)
endif()
if(FRESHET_NATIVE)
  add_compile_options(-march=native)
endif()
if(FRESHET_SANITIZE)
  # The instrumented code makes g++ 12 guess wrongly about what is initialised.
  add_compile_options(-fsanitize=${FRESHET_SANITIZE} -fno-sanitize-recover=all
    -Wno-maybe-uninitialized)
  add_link_options(-fsanitize=${FRESHET_SANITIZE})
endif()
if(FRESHET_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link -Wno-unknown-warning-option)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O3")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
set(CMAKE_CXX_FLAGS_SANITIZE "-O1 -g1")

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
enable_testing()

# `programs` is everything a user runs, `benches` everything ./dev bench runs, `tests_<label>` the
# programs that the tests with this label run.
add_custom_target(programs)
add_custom_target(benches)
foreach(label unit sim)
  add_custom_target(tests_${label})
endforeach()

# What the sanitizers are told when a test runs, and how much longer it may take then.
set(FRESHET_TEST_ENVIRONMENT
  "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/cmake/tsan.supp:second_deadlock_stack=1"
  "UBSAN_OPTIONS=print_stacktrace=1"
  "ASAN_OPTIONS=strict_string_checks=1:detect_stack_use_after_return=1")
set(FRESHET_TEST_SLOWDOWN 1)
if(FRESHET_SANITIZE)
  set(FRESHET_TEST_SLOWDOWN 5)
endif()

# freshet_library(NAME SOURCES a.cc .. DEPS freshet_base ..)
function(freshet_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
endfunction()

# freshet_program(NAME SOURCES a.cc .. DEPS ..)
function(freshet_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  cmake_path(RELATIVE_PATH CMAKE_CURRENT_SOURCE_DIR BASE_DIRECTORY ${PROJECT_SOURCE_DIR}
    OUTPUT_VARIABLE folder)
  if(folder MATCHES "^benchmarks")
    add_dependencies(benches ${name})
  elseif(NOT folder MATCHES "^tests")
    add_dependencies(programs ${name})
  endif()
endfunction()

# freshet_add_test(NAME name LABEL unit [TIMEOUT seconds] COMMAND ..): any command as a test.
# Everything after COMMAND belongs to the command.
function(freshet_add_test)
  cmake_parse_arguments(ARG "" "NAME;LABEL;TIMEOUT" "COMMAND" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  math(EXPR timeout "${ARG_TIMEOUT} * ${FRESHET_TEST_SLOWDOWN}")
  add_test(NAME ${ARG_NAME} COMMAND ${ARG_COMMAND})
  set_tests_properties(${ARG_NAME} PROPERTIES LABELS "${ARG_LABEL}" TIMEOUT ${timeout}
    ENVIRONMENT "${FRESHET_TEST_ENVIRONMENT}")
  list(GET ARG_COMMAND 0 program)
  if(TARGET ${program} AND TARGET tests_${ARG_LABEL})
    add_dependencies(tests_${ARG_LABEL} ${program})
  endif()
endfunction()

# freshet_test(NAME LABEL unit SOURCES a_test.cc .. DEPS .. [TIMEOUT seconds] [ARGS ..])
function(freshet_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;DEPS;ARGS" ${ARGN})
  freshet_program(${name} SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS} gtest gmock gtest_main)
  freshet_add_test(NAME ${name} LABEL ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT}
    COMMAND ${name} ${ARG_ARGS})
endfunction()

# freshet_fuzz(NAME SOURCES a_fuzz.cc .. DEPS ..): a libFuzzer target; nothing without FRESHET_FUZZ.
function(freshet_fuzz name)
  if(FRESHET_FUZZ)
    freshet_program(${name} ${ARGN})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()
