# SPDX-License-Identifier: Apache-2.0
# Builds docs/examples/file-checker against a prefix that holds the SDK headers alone, runs its unit test, drops it into a plugins folder, lets
# stead-host show its schema, and runs it under a fake host.
file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK}/prefix/lib/stead/plugins ${WORK}/prefix/libexec/stead)
file(COPY ${SOURCE}/framework/include/stead DESTINATION ${WORK}/prefix/include FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
file(COPY ${HOST} DESTINATION ${WORK}/prefix/libexec/stead)
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE out)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${ARGV}: ${code}\n${out}")
  endif()
  set(out "${out}" PARENT_SCOPE)
endfunction()
run(${CMAKE_COMMAND} -S ${SOURCE}/docs/examples/file-checker -B ${WORK}/build -G Ninja -DCMAKE_PREFIX_PATH=${WORK}/prefix
    -DCMAKE_CXX_FLAGS=${FLAGS})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/file_checker_test)
file(COPY ${WORK}/build/file_checker.so DESTINATION ${WORK}/prefix/lib/stead/plugins)
run(${RUN} ${WORK}/prefix/lib/stead/plugins/file_checker.so ${WORK}/flag)
run(${WORK}/prefix/libexec/stead/stead-host --schema)
if(NOT out MATCHES "\"id\":\"checkers.file\"" OR NOT out MATCHES "\"path\":\"check/file\"" OR NOT out MATCHES "\"refused\":\\[\\]")
  message(FATAL_ERROR "the example is not in the schema:\n${out}")
endif()
