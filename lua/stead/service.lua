-- SPDX-License-Identifier: Apache-2.0
-- stead.service(name): a system service by systemd where it runs, else by its init script.
local Service = {}
Service.__index = Service

-- A systemctl can be installed while systemd does not run (containers): ask it.
local function systemctl_answers()
  if not stead.which("systemctl") then
    return false
  end
  if stead.file.exists("/run/systemd/system") then
    return true
  end
  local r = stead.run{"systemctl", "is-system-running", timeout = "5s"}
  local text = r.out .. r.err
  return not (r.timed_out or text:find("offline", 1, true) or text:find("not been booted", 1, true)
    or text:find("Failed to connect", 1, true))
end

local function init_command(name, verb)
  local script = "/etc/init.d/" .. name
  if stead.file.exists("/usr/sbin/service") and stead.file.exists(script) then
    return {"/usr/sbin/service", name, verb}
  end
  if stead.file.exists(script) then
    return {script, verb}
  end
  return nil
end

local function command(self, verb)
  if systemctl_answers() then
    return {"systemctl", verb == "status" and "is-active" or verb, self.name}
  end
  local init = init_command(self.name, verb)
  if not init then
    error("stead.service: '" .. self.name .. "': systemd does not run here and there is no /etc/init.d/" .. self.name
      .. "; start the program with stead.daemon", 3)
  end
  return init
end

local function act(self, verb, timeout)
  local words = command(self, verb)
  words.timeout = timeout or "5m"
  local r = stead.run(words)
  if r.timed_out then
    return false, verb .. " of " .. self.name .. " took longer than " .. tostring(words.timeout)
  end
  if r.exit ~= 0 then
    local text = (r.err ~= "" and r.err or r.out):gsub("%s+$", "")
    return false, verb .. " of " .. self.name .. " failed: exit " .. r.exit .. (text ~= "" and ": " .. text or "")
  end
  return true
end

function Service:start(timeout) return act(self, "start", timeout) end
function Service:stop(timeout) return act(self, "stop", timeout) end
function Service:restart(timeout) return act(self, "restart", timeout) end

function Service:is_active()
  local words = command(self, "status")
  words.timeout = "30s"
  return stead.run(words).exit == 0
end

return function(name)
  if type(name) ~= "string" or name == "" or name:sub(1, 1) == "-" or name:find("[/%s%c]") then
    error("stead.service: argument 'name': expected the name of a service, got " .. tostring(name), 2)
  end
  return setmetatable({name = name}, Service)
end
