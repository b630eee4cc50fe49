-- SPDX-License-Identifier: Apache-2.0
-- Before the start: redis-server must be there, and the port free.
if not stead.which("redis-server") then
  stead.fail("redis-server is not installed: apt-get install redis-server && systemctl disable --now redis-server")
end
local free, who = stead.port_free(math.tointeger(tonumber(stead.var.PORT)))
if not free then
  stead.fail(who .. ": another server has the port")
end
