# SPDX-License-Identifier: Apache-2.0
# The committed reference is what the programs say.
execute_process(COMMAND ${HOST} --reference RESULT_VARIABLE code OUTPUT_VARIABLE out)
file(READ ${FILE} committed)
if(NOT code EQUAL 0 OR NOT out STREQUAL committed)
  message(FATAL_ERROR "${FILE} is not what the schemas say; run: ${HOST} --reference > ${FILE}")
endif()
