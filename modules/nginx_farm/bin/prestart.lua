-- SPDX-License-Identifier: Apache-2.0
-- Before the start: nginx must be there, and none of ours may still run.
local nginx = stead.which("nginx")
if not nginx then
  stead.fail("nginx is not installed: apt-get install nginx-light")
end
local pid = (stead.file.read(stead.module.var .. "/nginx.pid") or ""):match("^(%d+)")
local start = pid and stead.process.start_time(math.tointeger(tonumber(pid)))
local command = start and stead.file.read("/proc/" .. pid .. "/cmdline") or ""
if command and command:find(stead.module.var .. "/nginx.conf", 1, true) then
  stead.log.warning("an nginx of this module still runs (pid " .. pid .. "); it is stopped first")
  stead.run{nginx, "-c", stead.module.var .. "/nginx.conf", "-p", stead.module.var, "-s", "stop", timeout = "10s"}
end
