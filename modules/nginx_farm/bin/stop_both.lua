-- SPDX-License-Identifier: Apache-2.0
-- Connections have been drained before this hook, so nginx ends at once. The second call ("force") makes sure of it.
local force = ... == "force"
local var = stead.module.var
local pid = math.tointeger(tonumber((stead.file.read(var .. "/nginx.pid") or ""):match("^(%d+)")))
local start = pid and stead.process.start_time(pid)
if not start then
  return
end
local command = stead.file.read("/proc/" .. pid .. "/cmdline") or ""
if not command:find(var .. "/nginx.conf", 1, true) then
  return -- the pid belongs to somebody else by now
end
stead.process.signal(pid, start, force and "KILL" or "TERM")
for _ = 1, 100 do
  if stead.process.start_time(pid) ~= start then
    stead.log.info("nginx stopped")
    return
  end
  stead.sleep("50ms")
end
stead.log.warning("nginx (pid " .. pid .. ") did not end within 5 s")
