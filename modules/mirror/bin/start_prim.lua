-- SPDX-License-Identifier: Apache-2.0
-- Starts the services in order. A failure here stops the module, with the reason in its log.
for name in (stead.var.SERVICES or ""):gmatch("%S+") do
  local service = stead.service(name)
  local started, why = service:start()
  if not started or not service:is_active() then
    stead.fail(why or (name .. " is not active after its start"))
  end
  stead.log.info(name .. " started")
end
