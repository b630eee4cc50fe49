-- SPDX-License-Identifier: Apache-2.0
-- Before the start: the server must be installed, and the system's own one must leave the port alone.
require("pg").programs()
local free, who = stead.port_free(math.tointeger(tonumber(stead.var.PORT)))
if not free then
  stead.fail(who .. ": another server has the port; if it is the system's own: systemctl disable --now postgresql")
end
