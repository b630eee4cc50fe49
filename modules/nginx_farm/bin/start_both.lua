-- SPDX-License-Identifier: Apache-2.0
-- nginx with a configuration of the module's own: the system's nginx service is not touched.
local var, vip, port = stead.module.var, stead.var.VIP, stead.var.PORT
local nginx = stead.which("nginx") or stead.fail("nginx is not installed: apt-get install nginx-light")

local text = stead.file.read(stead.module.conf .. "/nginx.conf")
if not text then
  stead.fail("conf/nginx.conf is missing in the module")
end
local address = vip:find(":", 1, true) and "[" .. vip .. "]" or vip
local config = var .. "/nginx.conf"
stead.file.write(config, stead.file.template(text, {var = var, node = stead.module.node, address = address, port = port}))

local result = stead.run{nginx, "-t", "-c", config, "-p", var, "-e", var .. "/error.log", timeout = "20s"}
if result.exit ~= 0 then
  stead.fail("nginx refuses its configuration: " .. result.err:gsub("%s+$", ""))
end
-- The workers end with the master, whoever kills it, so that the port is free for the next. What its death leads to is
-- said by <errd> in the configuration. It is stopped after stop_both, for which no script is needed.
stead.supervise{nginx, "-c", config, "-p", var, "-e", var .. "/error.log", name = "nginx", action = "noaction"}
local listening, why = stead.wait_tcp(vip, math.tointeger(tonumber(port)), "10s")
if not listening then
  stead.fail("nginx does not answer on " .. address .. ":" .. port .. ": " .. tostring(why))
end
stead.log.info("nginx serves " .. address .. ":" .. port)
