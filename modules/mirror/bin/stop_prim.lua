-- SPDX-License-Identifier: Apache-2.0
-- Stops the services, the last first. Called twice: the second time with "force" as first argument.
local names = {}
for name in (stead.var.SERVICES or ""):gmatch("%S+") do
  table.insert(names, 1, name)
end
for _, name in ipairs(names) do
  local service = stead.service(name)
  if service:is_active() then
    local stopped, why = service:stop()
    if not stopped then
      stead.log.error(why)
    end
  end
end
