# SPDX-License-Identifier: Apache-2.0
# nm of each plugin in FILES: exactly one defined dynamic symbol, the descriptor.
if(NOT FILES)
  message(FATAL_ERROR "no plugin is built")
endif()
foreach(file ${FILES})
  execute_process(COMMAND ${NM} -D --defined-only -P ${file} RESULT_VARIABLE code OUTPUT_VARIABLE out)
  if(NOT code EQUAL 0 OR NOT out MATCHES "^stead_plugin_v1 [DRB] [^\n]*\n$")
    message(FATAL_ERROR "${file} must export stead_plugin_v1 alone; it exports:\n${out}")
  endif()
endforeach()
