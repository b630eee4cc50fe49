-- SPDX-License-Identifier: Apache-2.0
-- stead.supervised(name): a program that stead.supervise began, or nil when it does not run.
local Supervised = {}
Supervised.__index = Supervised

function Supervised:is_running()
  return stead.process.supervised(self.name) == self.pid
end

-- "HUP" and the like; false when it is gone.
function Supervised:signal(name)
  local start = self:is_running() and stead.process.start_time(self.pid)
  return start ~= false and start ~= nil and stead.process.signal(self.pid, start, name)
end

-- As ordered by stop_signal and stop_timeout, and killed at the latest after `timeout`.
function Supervised:stop(timeout)
  return not self:is_running() or stead.process.stop_supervised(self.name, timeout)
end

return function(name)
  local ok, pid = pcall(stead.process.supervised, name)
  if not ok then
    error(pid, 2)
  end
  return pid and setmetatable({name = name, pid = pid}, Supervised)
end
