-- SPDX-License-Identifier: Apache-2.0
-- stead.daemon{pidfile=, argv…}: a program of the module's own, without a service manager. The pidfile holds the pid
-- and the start time of the process, so that a pid which the kernel gave to somebody else is never taken for ours.
local Daemon = {}
Daemon.__index = Daemon

local function recorded(self)
  local text = stead.file.read(self.pidfile)
  local pid, start = (text or ""):match("^(%d+) (%d+)\n$")
  pid, start = math.tointeger(tonumber(pid)), math.tointeger(tonumber(start))
  if pid and stead.process.start_time(pid) == start then
    return pid, start
  end
  return nil
end

function Daemon:is_running()
  return recorded(self) ~= nil
end

function Daemon:pid()
  return (recorded(self))
end

-- Starts it unless it runs. It must still be there after `settle`: a wrong option shows here, not later.
function Daemon:start(settle)
  if recorded(self) then
    return true
  end
  local pid = stead.spawn(self.command)
  local start = stead.process.start_time(pid)
  if start then
    stead.file.write(self.pidfile, pid .. " " .. start .. "\n")
  end
  stead.sleep(settle or "100ms")
  if not recorded(self) then
    return false, self.command[1] .. " ended at once"
  end
  return true
end

-- TERM, then KILL after `timeout`. True when it is gone.
function Daemon:stop(timeout)
  local pid, start = recorded(self)
  if not pid then
    os.remove(self.pidfile)
    return true
  end
  stead.process.signal(pid, start, "TERM")
  local waited = 0
  local limit = timeout or 10
  if type(limit) ~= "number" then
    error("stead.daemon: argument 'timeout' of stop: expected seconds as a number, got " .. tostring(limit), 2)
  end
  while stead.process.start_time(pid) == start do
    if waited >= limit then
      stead.process.signal(pid, start, "KILL")
    end
    if waited >= limit + 5 then
      return false, "process " .. pid .. " does not end"
    end
    stead.sleep("50ms")
    waited = waited + 0.05
  end
  os.remove(self.pidfile)
  return true
end

return function(spec)
  if type(spec) ~= "table" or type(spec.pidfile) ~= "string" then
    error("stead.daemon: argument 'pidfile': expected {\"program\", …, pidfile=\"/path\"}", 2)
  end
  local command = {}
  for key, value in pairs(spec) do
    if key ~= "pidfile" then
      command[key] = value
    end
  end
  return setmetatable({pidfile = spec.pidfile, command = command}, Daemon)
end
