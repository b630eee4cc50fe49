-- SPDX-License-Identifier: Apache-2.0
-- Before the start: the services must be stopped, because Stead starts them.
for name in (stead.var.SERVICES or ""):gmatch("%S+") do
  if stead.service(name):is_active() then
    stead.log.warning(name .. " runs already; it is stopped first")
    stead.service(name):stop()
  end
end
