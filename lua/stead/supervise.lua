-- SPDX-License-Identifier: Apache-2.0
-- stead.supervise{name=, "program", …}: a program that Stead keeps from now until the module stops.
local supervised = require("stead.supervised")

return function(spec)
  if type(spec) ~= "table" or type(spec.name) ~= "string" then
    error("stead.supervise: argument 'name': expected {name=\"web\", \"program\", \"argument\", …}", 2)
  end
  local ok, why = pcall(stead.process.supervise, spec)
  if not ok then
    error(why, 2)
  end
  return supervised(spec.name)
end
