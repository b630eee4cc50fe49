-- SPDX-License-Identifier: Apache-2.0
-- For `stead module check`: takes the place of every function that changes something outside of the hook, says what it
-- would do, and answers as if it had worked. What the hook "wrote" it can read again.
local hook, tell, check = ...
local stopping = hook:sub(1, 5) == "stop_" or hook == "poststop"
local written = {}
local real = {read = stead.file.read, exists = stead.file.exists, open = io.open,
  supervise = stead.process.supervise,
  wait_tcp = stead.wait_tcp, port_free = stead.port_free, get = stead.http.get, ask = stead.tcp.ask}

stead.rehearsing = true -- for hooks that judge an answer, which is empty here

local function would(text) tell(false, "would " .. text) end

local function quoted(words)
  local list = {}
  for _, word in ipairs(words) do
    word = tostring(word)
    list[#list + 1] = word:find("^[%w%./:=,_@%%+-]+$") and word or string.format("%q", word)
  end
  return table.concat(list, " ")
end

-- Raises what the real function would, but a program that is only missing on this machine.
local function checked(real_function, ...)
  local ok, why = pcall(real_function, ...)
  if not ok and why:find("is not in PATH", 1, true) then
    tell(true, why)
  elseif not ok then
    error(why, 3)
  end
end

function stead.run(spec)
  checked(check, "stead.run", {"timeout", "env", "cwd", "input"}, spec)
  would("run " .. quoted(spec) .. (spec.input and " with " .. #spec.input .. " bytes of input" or ""))
  return {exit = 0, out = "", err = "", cut = false, timed_out = false}
end

local fake_pid = 1000000
function stead.spawn(spec)
  checked(check, "stead.spawn", {"env", "cwd", "log"}, spec)
  would("start the daemon " .. quoted(spec))
  return fake_pid
end

function stead.process.start_time(pid)
  return pid == fake_pid and not stopping and 1 or nil
end

function stead.process.signal(pid, _, name)
  would("send signal " .. tostring(name) .. " to process " .. tostring(pid))
  return true
end

-- A service, a daemon or a supervised program: running before the stop scripts, stopped before the others.
local running = {}
local function is_running(name)
  if running[name] == nil then
    return stopping
  end
  return running[name]
end

local Service = {}
Service.__index = Service
local function act(verb, state)
  return function(self)
    would(verb .. " service " .. self.name)
    running[self.name] = state
    return true
  end
end
Service.start, Service.stop, Service.restart = act("start", true), act("stop", false), act("restart", true)
function Service:is_active() return is_running(self.name) end

local service = stead.service
function stead.service(name)
  service(name)
  return setmetatable({name = name}, Service)
end

-- As supervisor_of() in lua_supervise.cpp.
local outside = {}
for name in ("config postconfig confcheck update deconfig state level"):gmatch("%S+") do
  outside[name] = true
end
local function within_life(name)
  if outside[hook] then
    error(name .. ": only a hook of a module's start or stop may; this one is outside of its life", 3)
  end
end

local Program = {pid = fake_pid}
Program.__index = Program
function Program:start()
  would("start " .. self.shown)
  running[self.name] = true
  return true
end
function Program:stop()
  would("stop " .. self.name)
  running[self.name] = false
  return true
end
function Program:signal(name)
  would("send signal " .. name .. " to " .. self.name)
  return true
end
function Program:is_running() return is_running(self.name) end

local Daemon = setmetatable({pid = function() return fake_pid end}, {__index = Program})
Daemon.__index = Daemon
function stead.daemon(spec)
  if type(spec) ~= "table" or type(spec.pidfile) ~= "string" then
    error("stead.daemon: argument 'pidfile': expected {\"program\", …, pidfile=\"/path\"}", 2)
  end
  checked(check, "stead.daemon", {"pidfile", "env", "cwd", "log"}, spec)
  return setmetatable({name = tostring(spec[1]), shown = "the daemon " .. quoted(spec)}, Daemon)
end

function stead.supervise(spec)
  if type(spec) ~= "table" or type(spec.name) ~= "string" then
    error("stead.supervise: argument 'name': expected {name=\"web\", \"program\", \"argument\", …}", 2)
  end
  within_life("stead.supervise")
  checked(real.supervise, spec)
  would("supervise " .. quoted(spec) .. " as " .. spec.name .. ", action " .. (spec.action or "restart"))
  running[spec.name] = true
  return setmetatable({name = spec.name}, Program)
end

function stead.supervised(name)
  within_life("stead.supervised")
  return is_running(name) and setmetatable({name = name}, Program) or nil
end

function stead.file.write(path, text)
  would("write " .. #tostring(text) .. " bytes to " .. tostring(path))
  written[path] = tostring(text)
end
function stead.file.read(path)
  if written[path] then
    return written[path]
  end
  return real.read(path)
end
function stead.file.exists(path) return written[path] ~= nil or real.exists(path) end
function stead.file.render(from, to, values)
  from = from:sub(1, 1) == "/" and from or stead.module.conf .. "/" .. from
  local text = stead.file.read(from)
  if not text then
    error("stead.file.render: there is no " .. tostring(from), 2)
  end
  local ok, made = pcall(stead.expand, text, values)
  if not ok then
    error((made:gsub("^stead%.expand: line ", function() return "stead.file.render: " .. from .. ":" end)), 2)
  end
  stead.file.write(to, made)
  return true
end
function stead.file.mkdir(path) would("make the folder " .. tostring(path)) end
function os.remove(path)
  would("remove " .. tostring(path))
  written[path] = nil
  return true
end
function os.rename(from, to)
  would("rename " .. tostring(from) .. " to " .. tostring(to))
  return true
end
function io.open(path, mode)
  if (mode or "r"):find("[wa+]") then
    would("open " .. tostring(path) .. " for writing")
    path = "/dev/null"
  end
  return real.open(path, mode)
end

local resources = {}
function stead.resource.set(name, value)
  would("set resource " .. tostring(name) .. " to " .. tostring(value))
  resources[name] = tostring(value)
end
function stead.resource.get(name) return resources[name] end

function stead.sleep(duration) tell(false, "would sleep " .. tostring(duration)) end
function stead.wait_tcp(host, port, timeout)
  checked(real.wait_tcp, host, port, timeout)
  would("wait for port " .. tostring(port) .. " of " .. tostring(host))
  return true
end
function stead.port_free(port, protocol)
  checked(real.port_free, port, protocol)
  would("look who listens on port " .. tostring(port))
  return true
end
function stead.http.get(request)
  checked(real.get, request)
  would("get " .. tostring(type(request) == "table" and request.url or request))
  return {status = 200, body = "", headers = {}}
end
function stead.tcp.ask(request)
  checked(real.ask, request)
  would("ask " .. (request.host or "127.0.0.1") .. " port " .. tostring(request.port))
  return request.expect or ""
end

-- A misspelt global is nil, and found by nobody until its line runs.
setmetatable(_G, {__index = function(_, name)
  tell(true, "the global '" .. tostring(name) .. "' is not defined")
  return nil
end})
