# SPDX-License-Identifier: Apache-2.0
# The project's own target functions. A library's public headers live in its folder `include/`; nothing else of it
# can be included from outside, so DESIGN's include rules hold because a target that is not linked cannot be found.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_C_FLAGS_DEV "-O1 -g1")
set(CMAKE_CXX_FLAGS_DEV "-O1 -g1")
set(CMAKE_C_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Dev)
endif()

# The stage mirrors an install tree, so programs find each other relative to themselves in both.
include(GNUInstallDirs)
set(CMAKE_INSTALL_LIBEXECDIR libexec)
set(CMAKE_INSTALL_LIBDIR lib)
set(STEAD_STAGE ${CMAKE_BINARY_DIR}/stage)

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_C_COMPILER_LAUNCHER})
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
endif()

add_library(stead_flags INTERFACE)
target_compile_options(stead_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Werror
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
  # GCC 12 raises it falsely for moves of std::variant at -O2 (the sanitizer presets look for the real ones).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
if(STEAD_SANITIZE)
  string(REPLACE ";" "," _sanitize "${STEAD_SANITIZE}")
  add_compile_options(-fsanitize=${_sanitize} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${_sanitize})
  if(STEAD_SANITIZE STREQUAL "thread") # it knows no fences; Asio's are beside its mutexes, which it knows
    add_compile_options($<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-tsan>)
    add_compile_definitions(BOOST_ASIO_DISABLE_FENCED_BLOCK)
  endif()
endif()
if(STEAD_FUZZ) # the code under test needs coverage marks too, not only the fuzz targets
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_link_options(-fsanitize=fuzzer-no-link)
endif()

# stead_library(name [SOURCES …] [DEPENDS …] [PRIVATE …] [PCH header…])
# A static library `stead_<name>` with public headers in ./include (INTERFACE when it has no sources).
function(stead_library name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS;PRIVATE;PCH" ${ARGN})
  set(target stead_${name})
  if(A_SOURCES)
    add_library(${target} STATIC ${A_SOURCES})
    target_include_directories(${target} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_link_libraries(${target} PUBLIC ${A_DEPENDS} PRIVATE stead_flags ${A_PRIVATE})
    if(A_PCH)
      target_precompile_headers(${target} PRIVATE ${A_PCH})
    endif()
  else()
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/include)
    target_link_libraries(${target} INTERFACE ${A_DEPENDS})
  endif()
endfunction()

# stead_protobuf(name file.proto): static library `stead_<name>` with the messages of one file, lite runtime.
function(stead_protobuf name file)
  get_filename_component(base ${file} NAME_WE)
  set(generated ${CMAKE_CURRENT_BINARY_DIR}/generated)
  file(MAKE_DIRECTORY ${generated})
  add_custom_command(OUTPUT ${generated}/${base}.pb.cc ${generated}/${base}.pb.h
    COMMAND ${Protobuf_PROTOC_EXECUTABLE} --cpp_out=${generated} -I ${CMAKE_CURRENT_SOURCE_DIR} ${file}
    DEPENDS ${file} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} VERBATIM)
  add_library(stead_${name} STATIC ${generated}/${base}.pb.cc ${generated}/${base}.pb.h)
  target_include_directories(stead_${name} SYSTEM PUBLIC ${generated})
  target_link_libraries(stead_${name} PUBLIC protobuf::libprotobuf-lite)
endfunction()

# stead_bpf(name source.bpf.c [DEPENDS header…]): interface library `stead_<name>_bpf` with the skeleton <name>.skel.h.
# The kernel's asm headers lie in the multiarch folder, which -target bpf does not search by itself.
function(stead_bpf name source)
  cmake_parse_arguments(A "" "" "DEPENDS" ${ARGN})
  set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.bpf.o)
  set(skeleton ${CMAKE_CURRENT_BINARY_DIR}/include/${name}.skel.h)
  add_custom_command(OUTPUT ${object}
    COMMAND ${CLANG_BPF} -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Wno-address-of-packed-member
            -I/usr/include/${CMAKE_LIBRARY_ARCHITECTURE} -I${CMAKE_SOURCE_DIR}/kernel-shim/include
            -fdebug-prefix-map=${CMAKE_SOURCE_DIR}=. -c ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${object}
    DEPENDS ${source} ${A_DEPENDS} COMMENT "BPF ${name}.bpf.o" VERBATIM)
  add_custom_command(OUTPUT ${skeleton}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/include
    COMMAND sh -c "${BPFTOOL} gen skeleton ${object} name ${name}_bpf > ${skeleton}"
    DEPENDS ${object} COMMENT "BPF ${name}.skel.h" VERBATIM)
  add_custom_target(${name}_skeleton DEPENDS ${skeleton})
  add_library(stead_${name}_bpf INTERFACE)
  target_include_directories(stead_${name}_bpf SYSTEM INTERFACE ${CMAKE_CURRENT_BINARY_DIR}/include)
  add_dependencies(stead_${name}_bpf ${name}_skeleton)
endfunction()

# stead_program(name DESTINATION bin|sbin|libexec/stead [SOURCES …] [DEPENDS …] [PCH …])
function(stead_program name)
  cmake_parse_arguments(A "" "DESTINATION" "SOURCES;DEPENDS;PCH" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE stead_flags ${A_DEPENDS})
  if(A_PCH)
    target_precompile_headers(${name} PRIVATE ${A_PCH})
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${STEAD_STAGE}/${A_DESTINATION})
  install(TARGETS ${name} RUNTIME DESTINATION ${A_DESTINATION})
endfunction()

# stead_plugin(name [SOURCES …] [DEPENDS …]): build/…/stage/lib/stead/plugins/<name>.so, one exported symbol.
function(stead_plugin name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS" ${ARGN})
  set(target plugin_${name})
  add_library(${target} MODULE ${A_SOURCES})
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${target} PRIVATE stead_flags stead_sdk stead_base ${A_DEPENDS})
  target_link_options(${target} PRIVATE -Wl,--exclude-libs,ALL -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/plugin.map)
  set_target_properties(${target} PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/plugin.map)
  if(NOT STEAD_SANITIZE)
    target_link_options(${target} PRIVATE -Wl,-z,defs)
  endif()
  set_target_properties(${target} PROPERTIES PREFIX "" OUTPUT_NAME ${name}
    LIBRARY_OUTPUT_DIRECTORY ${STEAD_STAGE}/lib/stead/plugins)
  set_property(GLOBAL APPEND PROPERTY stead_plugins ${target})
  install(TARGETS ${target} LIBRARY DESTINATION lib/stead/plugins)
endfunction()

# stead_install_tree(source destination [pattern…]): files that are the same in the stage and in the install tree.
function(stead_install_tree source destination)
  install(DIRECTORY ${source}/ DESTINATION ${destination} USE_SOURCE_PERMISSIONS
          PATTERN CMakeLists.txt EXCLUDE PATTERN README.md EXCLUDE)
  string(MAKE_C_IDENTIFIER "stage_${destination}_${source}" target)
  add_custom_target(${target} ALL COMMAND ${CMAKE_COMMAND} -E make_directory ${STEAD_STAGE}/${destination}
    COMMAND cp -R ${source}/. ${STEAD_STAGE}/${destination}/
    COMMAND ${CMAKE_COMMAND} -E rm -f ${STEAD_STAGE}/${destination}/CMakeLists.txt ${STEAD_STAGE}/${destination}/README.md
    COMMENT "staging ${destination}" VERBATIM)
endfunction()

# stead_test(name LABEL unit|sim|transcript|abi|bpf|net|cluster|bench [ROOT] [SOURCES …] [DEPENDS …] [ARGS …]
#            [TIMEOUT seconds])
# One GoogleTest binary = one ctest test. ROOT tests exit 77 (SKIPPED) without root, by tests/support/root_or_skip.
function(stead_test name)
  cmake_parse_arguments(A "ROOT" "LABEL;TIMEOUT" "SOURCES;DEPENDS;ARGS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE stead_flags stead_test_support ${A_DEPENDS})
  target_precompile_headers(${name} REUSE_FROM stead_test_pch)
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 300)
  endif()
  if(A_ROOT)
    add_test(NAME ${name} COMMAND ${CMAKE_SOURCE_DIR}/tests/support/root_or_skip $<TARGET_FILE:${name}> ${A_ARGS})
  else()
    add_test(NAME ${name} COMMAND ${name} ${A_ARGS})
  endif()
  # In thirds of a processor, as scripts/test counts: these compute all the time, while a lab mostly waits.
  set_tests_properties(${name} PROPERTIES LABELS ${A_LABEL} TIMEOUT ${A_TIMEOUT} SKIP_RETURN_CODE 77 PROCESSORS 3)
endfunction()
