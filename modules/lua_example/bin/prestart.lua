-- SPDX-License-Identifier: Apache-2.0
-- What an unclean end of this module left has been stopped before this hook. A stranger on our port has not.
local free, who = stead.port_free(math.tointeger(tonumber(stead.var.PORT)))
if not free then
  stead.fail(who)
end
if not stead.which("python3") then
  stead.fail("python3 is not installed")
end
